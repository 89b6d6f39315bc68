"""The command-line arguments of every implementation: the topic to read, and the folder for its tables."""

import argparse
from pathlib import Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser of `--bootstrap-servers`, `--topic` and `--root`, the folder of the tables."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--bootstrap-servers", required=True)
    found.add_argument("--topic", required=True)
    found.add_argument("--root", type=Path, required=True)
    return found
