"""LakehouseError, which the CLI prints as one line, and wording that such errors share."""

from collections.abc import Iterable
from difflib import get_close_matches


class LakehouseError(Exception):
    """An error the user can fix. The text says what is wrong, where, and what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the closest known name, or all of them."""
    known = list(known)
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; available: {', '.join(known)}"
