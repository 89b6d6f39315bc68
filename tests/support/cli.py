"""The command in this process, whose Spark session it shares."""

from __future__ import annotations

from streaming_lakehouse import cli


def command(*words: str, status: int = 0) -> None:
    """Runs `lakehouse` with these words; it must end with this exit status."""
    found = 0
    try:
        cli.main(list(words))
    except SystemExit as ended:
        found = int(ended.code or 0)
    assert found == status
