"""Strict JSON: a record's bytes as one object, or the name of what it fails; and one text for equal objects."""

from __future__ import annotations

import json
import math
import re
import sys
from decimal import Decimal, InvalidOperation
from typing import Any

LARGEST_RECORD = 1_048_576
DEEPEST_NESTING = 999
MOST_DIGITS = 1000
EXACT_DIGITS = 38
LONGEST_NAME = 50_000

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class JsonObject(dict[str, Any]):
    """A JSON object that remembers whether its text has a key twice, in it or in an object within."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        if any(len(name) > LONGEST_NAME for name in self):
            raise ValueError("a name is too long")
        self.has_repeated_key = len(self) != len(pairs) or any(map(_repeats_key, self.values()))


def _repeats_key(value: Any) -> bool:
    return any(map(_repeats_key, value)) if isinstance(value, list) else getattr(value, "has_repeated_key", False)


def _check_digits(number: str) -> None:
    """Before the point a zero alone is not counted."""
    if sum(map(str.isdigit, number)) - number.lstrip("-").startswith("0.") > MOST_DIGITS:
        raise ValueError("a number has too many digits")


def _integer(text: str) -> int:
    _check_digits(text)
    return int(text)


def _real(text: str) -> Decimal | float:
    """Exact, unless the exponent has so many digits that no type could hold the number: then infinite or 0."""
    _check_digits(text)
    try:
        return Decimal(text)
    except InvalidOperation:
        return float(text)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=_integer, parse_float=_real, parse_constant=_refuse_constant
)


def _nesting(text: str) -> int:
    """The greatest number of objects and arrays open at once."""
    depth = deepest = 0
    for character in re.findall(r"[][{}]", _STRING.sub("", text)):
        depth += 1 if character in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def json_value(text: str) -> Any:
    """The value of a strict JSON text, integers as int and other numbers as Decimal; ValueError where it is none or
    is nested too deep."""
    if text.count("{") + text.count("[") > 100:
        if _nesting(text) > DEEPEST_NESTING:
            raise ValueError("nested too deep")
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * DEEPEST_NESTING))
    return _DECODER.decode(text)


def decode(value: bytes | None) -> JsonObject | str:
    """The record's JSON object, or the name of the first expectation of a record that it fails."""
    if value is None or len(value) > LARGEST_RECORD:
        return "record_is_present" if value is None else "record_is_at_most_1_mib"
    if not value or value.isspace():
        return "record_is_not_empty"
    try:
        decoded = json_value(value.decode("utf-8"))
    except UnicodeDecodeError:
        return "record_is_utf8"
    except ValueError:
        decoded = None
    if not isinstance(decoded, JsonObject):
        return "record_is_one_json_object"
    if b"\\u" in value and not _is_text(decoded):
        return "record_is_utf8"
    return "record_has_unique_keys" if decoded.has_repeated_key else decoded


def _is_text(value: Any) -> bool:
    """False where a string or name within has half of a surrogate pair, which is a JSON string but no character."""
    if isinstance(value, dict):
        return all(map(_is_text, value)) and all(map(_is_text, value.values()))
    if isinstance(value, list):
        return all(map(_is_text, value))
    return not isinstance(value, str) or not re.search("[\ud800-\udfff]", value)


def canonical(value: Any) -> str:
    """One text for all JSON values of the same meaning; a number that no double can hold is a string."""
    return json.dumps(_plain(value), sort_keys=True, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(within) for name, within in value.items()}
    if isinstance(value, list):
        return list(map(_plain, value))
    if isinstance(value, (int, Decimal, float)) and not isinstance(value, bool):
        return _plain_number(value)
    return value


def _plain_number(number: int | Decimal | float) -> int | float | str:
    """1.0 and 1 are the same JSON number; beyond the digits of Spark's decimals a number is a double."""
    if isinstance(number, int) and len(str(abs(number))) <= EXACT_DIGITS:
        return number
    real = to_double(number)
    if math.isinf(real):
        return f"{'-' * (real < 0)}Infinity"
    return int(real) if abs(real) < 2**53 and real.is_integer() else real


def to_double(number: int | Decimal | float) -> float:
    """The nearest double, infinite beyond the range of one."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def canonical_text(text: str | None) -> str | None:
    """The canonical text of a JSON object's text; any other text with a word that it is none."""
    if text is None:
        return None
    try:
        fields = json_value(text)
    except ValueError:
        fields = None
    return canonical(fields) if isinstance(fields, JsonObject) else f"not a JSON object: {text}"
