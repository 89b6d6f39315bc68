"""What a pipeline's own rules and functions raise, as one line with the line of code that it comes from."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException

from streaming_lakehouse.execution import frames
from streaming_lakehouse.execution.spark_errors import to_user_message
from streaming_lakehouse.layers import gold

_LIBRARIES = re.compile(r"[/\\](?:pyspark|py4j)[/\\]")
_OURS = {*map(inspect.getsourcefile, (frames, gold)), str(Path(__file__).with_name("mistakes.py"))}


def describe(error: Exception) -> str:
    """The exception as one line; of a column that is not there, with the names that are near."""
    if isinstance(error, PySparkException):
        parameters = error.getMessageParameters() or {}
        if (error.getCondition() or "").startswith("UNRESOLVED_COLUMN") and "objectName" in parameters:
            near = f"; did you mean {parameters['proposal']}?" if "proposal" in parameters else ""
            return f"there is no column {parameters['objectName']}{near}"
        return to_user_message(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".rstrip(": ")


def location(error: Exception, function: Callable[..., Any]) -> str:
    """The line of the pipeline's own code that raised it, else where the function is defined."""
    lines = traceback.extract_tb(error.__traceback__)
    own = [each for each in lines if not _LIBRARIES.search(each.filename) and each.filename not in _OURS]
    if own:
        return f" ({relative(f'{own[-1].filename}:{own[-1].lineno}')})"
    return definition(function)


def definition(function: Callable[..., Any]) -> str:
    """Where the function is defined; '' for a built-in one."""
    code = getattr(inspect.unwrap(getattr(function, "func", function)), "__code__", None)
    return f" ({relative(f'{code.co_filename}:{code.co_firstlineno}')})" if code else ""


def relative(location: str) -> str:
    """The location, relative to the working folder where it is in it."""
    path = Path(location)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else location
