"""The one exception that the command turns into one clear line, and the words such lines share."""

from collections.abc import Iterable
from difflib import get_close_matches


class LakehouseError(Exception):
    """Something the user can mend: the text says what, where, and what to do."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: the nearest known one, or all of them."""
    known = list(known)
    near = get_close_matches(wrong, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there is: {', '.join(known)}"
