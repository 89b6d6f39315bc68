"""`python -m tests.oracle` from the repository's top, where it is not in the path as `oracle`."""

import sys
from pathlib import Path

# A domain that is declared elsewhere imports `oracle`: there must not be a second copy of it under another name.
sys.path.insert(0, str(Path(__file__).parents[1]))
from oracle.cli import main

sys.exit(main())
