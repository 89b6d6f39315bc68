"""Small files that a crash must not leave half written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(file: Path, content: Any) -> None:
    """Writes all of `content`, as JSON, or nothing, even if the process dies meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(content))
    os.replace(draft, file)
