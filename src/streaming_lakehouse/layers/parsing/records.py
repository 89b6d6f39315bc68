"""Checks of a record as a whole: is it one JSON object, and one that every reader reads alike?"""

from __future__ import annotations

from pyspark.sql import Column, functions as F

MAX_RECORD_BYTES = 1024 * 1024  # bytes; what Kafka and Event Hubs take by default, and a bound on what one row can cost

# Strict JSON: what these would let through, other readers of the same record refuse.
STRICT = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}


def decoded_text() -> Column:
    """`value` as a string; null where it is too long or no UTF-8."""
    text = F.col("value").cast("string")
    return F.when((F.octet_length("value") <= MAX_RECORD_BYTES) & F.is_valid_utf8(text), text)


def record_failures() -> Column:
    """The check that `value` fails as a record, an array<string> of one name, null where it is a sound JSON object.

    For records that no table's schema is there for.
    """
    text = decoded_text()
    fields = F.try_parse_json(text).try_cast("map<string,variant>")
    return whole_record_checks(text, F.json_object_keys(text), fields)


def whole_record_checks(text: Column, keys: Column, fields: Column) -> Column:
    """The first check of the record as a whole that fails, an array<string> of one; null where none does.

    `text`, `keys` and `fields` are what was read of `value`: a string, its JSON keys, and its fields as variants.
    """
    # Spark reads no further than a value's end. In brackets a lone object is an array of one, and with a number after
    # it one of two; with anything behind it, it is no array, a longer one, or in both the one that it closes itself.
    is_alone = (_array_length(text, "]") == 1) & (_array_length(text, ",0]") == 2)
    # What stands alone may still be an array, or have single quotes.
    is_strict = F.from_json(text, "_corrupt string", {**STRICT, "columnNameOfCorruptRecord": "_corrupt"})
    is_one_object = is_alone & keys.isNotNull() & is_strict["_corrupt"].isNull()
    checks = (
        ("record_is_present", F.col("value").isNull()),
        ("record_is_at_most_1_mib", F.octet_length("value") > MAX_RECORD_BYTES),
        ("record_is_utf8", text.isNull()),
        ("record_is_not_empty", F.regexp_replace(text, r"\s", "") == ""),
        ("record_is_one_json_object", ~F.coalesce(is_one_object, F.lit(False))),
        ("record_is_utf8", _has_lone_surrogate(text)),
        ("record_has_unique_keys", fields.isNull()),  # here or within: a variant's only other demand
    )
    failures = F.lit(None).cast("array<string>")
    for name, is_failed in reversed(checks):
        failures = F.when(is_failed, F.array(F.lit(name))).otherwise(failures)
    return failures


def _array_length(text: Column, end: str) -> Column:
    return F.json_array_length(F.concat(F.lit("["), text, F.lit(end)))


def _has_lone_surrogate(text: Column) -> Column:
    """True where JSON text escapes half of a character: what is left without backslashes for themselves, and pairs."""
    escapes = F.regexp_replace(text, r"\\\\", "-")
    alone = F.regexp_replace(escapes, r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..", "")
    return alone.rlike(r"\\u[dD][89a-fA-F]")
