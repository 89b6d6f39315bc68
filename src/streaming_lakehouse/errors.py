"""LakehouseError, which the CLI prints as one line, and wording that messages share."""

from collections.abc import Iterable
from difflib import get_close_matches


class LakehouseError(Exception):
    """An error the user can fix. The text says what is wrong, where, and what to do."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the closest known name, or all of them."""
    known = list(known)
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; available: {', '.join(known)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 row`, `2 rows`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
