"""The fields of an event's schema: a column, and how its value is written in the JSON record."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal, get_args
from zoneinfo import available_timezones

from pyspark.sql import types as T

from streaming_lakehouse.errors import LakehouseError, did_you_mean

TimeFormat = Literal["iso_8601", "epoch_seconds", "epoch_millis", "epoch_micros"]

_JSON_NAME, _TIME_FORMAT, _ZONE = "json.name", "json.time", "json.zone"


def field(  # noqa: PLR0913 - a keyword for each thing that a declaration may say
    name: str,
    data_type: T.DataType,
    *,
    json: str | None = None,
    nullable: bool = True,
    time: TimeFormat = "iso_8601",
    zone: str | None = None,
) -> T.StructField:
    """A column `name`, read from the JSON field `json`, by default of the same name.

    A record without a value for a field that is not `nullable` is quarantined. `time` is how timestamps in it are
    written, also those in its arrays and maps: ISO 8601, or the seconds, milliseconds or microseconds since 1970.
    `zone` is the zone that an ISO 8601 time without one is in; without it every time must have its own. Raises
    LakehouseError for an unknown format or zone, or where the field has no timestamps to be in them.
    """
    if time not in get_args(TimeFormat):
        raise LakehouseError(
            f"field {name!r}: there is no time format {time!r}{did_you_mean(time, get_args(TimeFormat))}"
        )
    if zone is not None:
        _check_zone(name, time, zone)
    if (zone or time != "iso_8601") and not isinstance(innermost_type(data_type), T.TimestampType):
        raise LakehouseError(
            f"field {name!r}: a time format or zone is for timestamps, not for {data_type.simpleString()}"
        )
    declared = {_JSON_NAME: json, _TIME_FORMAT: None if time == "iso_8601" else time, _ZONE: zone}
    metadata = {key: value for key, value in declared.items() if value is not None}
    return T.StructField(name, data_type, nullable, metadata)


def _check_zone(name: str, time: str, zone: str) -> None:
    if time != "iso_8601":
        raise LakehouseError(f"field {name!r}: {time} has no zone; leave out zone={zone!r}")
    if zone not in available_timezones():  # more than ZoneInfo asks: Java's names have upper and lower case
        near = get_close_matches(zone, available_timezones(), n=1)
        suggestion = f"did you mean {near[0]!r}?" if near else "give an IANA name such as 'Europe/Berlin'"
        raise LakehouseError(f"field {name!r}: there is no time zone {zone!r}; {suggestion}")


def innermost_type(data_type: T.DataType) -> T.DataType:
    """The type of the elements or values in arrays and maps of any depth; any other type is its own."""
    while isinstance(data_type, (T.ArrayType, T.MapType)):
        data_type = data_type.elementType if isinstance(data_type, T.ArrayType) else data_type.valueType
    return data_type


def json_name(field: T.StructField) -> str:
    """The field's name in the JSON record."""
    return str(field.metadata.get(_JSON_NAME, field.name))


def time_format(field: T.StructField) -> TimeFormat:
    """How the timestamps in the field are written."""
    found: TimeFormat = field.metadata.get(_TIME_FORMAT, "iso_8601")
    return found


def zone(field: T.StructField) -> str | None:
    """The zone of the field's times that have none of their own; None where each must have one."""
    found: str | None = field.metadata.get(_ZONE)
    return found


def readings(schema: T.StructType, path: str = "") -> dict[str, list[str | None]]:
    """How each column's value is found in a record and read: its name in JSON, time format and zone, by its path."""
    found: dict[str, list[str | None]] = {}
    for each in schema:
        found[path + each.name] = [json_name(each), time_format(each), zone(each)]
        if isinstance(inner := innermost_type(each.dataType), T.StructType):
            found |= readings(inner, f"{path}{each.name}.")
    return found


def columns(schema: T.StructType) -> T.StructType:
    """The schema of the columns in a table: without what is said here of JSON, and all of them nullable.

    What a record must have is the parser's to check: Delta has no NOT NULL within arrays and maps, and none that
    could be added to a table later.
    """
    found = _column_type(schema)
    assert isinstance(found, T.StructType)
    return found


def _column_type(data_type: T.DataType) -> T.DataType:
    if isinstance(data_type, T.ArrayType):
        return T.ArrayType(_column_type(data_type.elementType))
    if isinstance(data_type, T.MapType):
        return T.MapType(_column_type(data_type.keyType), _column_type(data_type.valueType))
    if isinstance(data_type, T.StructType):
        return T.StructType([_column(each) for each in data_type])
    return data_type


def _column(field: T.StructField) -> T.StructField:
    metadata = {key: value for key, value in field.metadata.items() if key not in (_JSON_NAME, _TIME_FORMAT, _ZONE)}
    return T.StructField(field.name, _column_type(field.dataType), metadata=metadata)
