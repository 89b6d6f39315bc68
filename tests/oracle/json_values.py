"""Fields, and the types that have parts: how a JSON object becomes a row, what fails in it, and what is left over.

A value that is not of its type fails as `PATH_is_TYPE`, one that is required and null or missing as `PATH_is_present`,
with a path such as `items[2].price` or `labels{a}`. What no field is declared for is rescued, at any depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .json_types import Scalar

Failures = list[str]


@dataclass(frozen=True)
class Field:
    """A column, and the JSON field `json` that it is read from, by default of the same name."""

    name: str
    type: Type
    json: str | None = None
    required: bool = False

    @property
    def json_name(self) -> str:
        return self.name if self.json is None else self.json


@dataclass(frozen=True)
class Array:
    """`required`: no element may be null."""

    element: Type
    required: bool = False

    @property
    def delta(self) -> str:
        return f"array<{self.element.delta}>"

    def read(self, value: Any, path: str, failures: Failures) -> list[Any] | None:
        if not isinstance(value, list):
            failures.append(f"{path}_is_array")
            return None
        return [
            read_or_null(self.element, each, f"{path}[{number}]", self.required, failures)
            for number, each in enumerate(value)
        ]

    def unknown(self, value: Any) -> list[Any] | None:
        """What is unknown in each element, null where nothing is; None where nothing is in any."""
        found = [None if each is None else self.element.unknown(each) for each in value]
        return found if any(each is not None for each in found) else None


@dataclass(frozen=True)
class Map:
    """A JSON object of any names; `required`: no value may be null."""

    value: Type
    required: bool = False

    @property
    def delta(self) -> str:
        return f"map<string,{self.value.delta}>"

    def read(self, value: Any, path: str, failures: Failures) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            failures.append(f"{path}_is_map")
            return None
        return {
            name: read_or_null(self.value, each, f"{path}{{{name}}}", self.required, failures)
            for name, each in value.items()
        }

    def unknown(self, value: Any) -> dict[str, Any] | None:
        found = {name: self.value.unknown(each) for name, each in value.items() if each is not None}
        return {name: each for name, each in found.items() if each is not None} or None


@dataclass(frozen=True)
class Struct:
    fields: tuple[Field, ...]

    @property
    def delta(self) -> str:
        return f"struct<{','.join(f'{field.name}:{field.type.delta}' for field in self.fields)}>"

    @cached_property
    def known_names(self) -> frozenset[str]:
        return frozenset(field.json_name for field in self.fields)

    @cached_property
    def is_flat(self) -> bool:
        return all(isinstance(field.type, Scalar) for field in self.fields)

    def read(self, value: Any, path: str, failures: Failures) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            failures.append(f"{path}_is_struct")
            return None
        return self.read_fields(value, f"{path}.", failures)

    def read_fields(self, value: dict[str, Any], prefix: str, failures: Failures) -> dict[str, Any]:
        """The columns' values; what is not as declared is None, and is named in `failures`."""
        return {
            field.name: read_or_null(
                field.type, value.get(field.json_name), prefix + field.name, field.required, failures
            )
            for field in self.fields
        }

    def unknown(self, value: Any) -> dict[str, Any] | None:
        """The fields that are not declared, and of those that are what is unknown within them."""
        found = {name: each for name, each in value.items() if name not in self.known_names}
        if not self.is_flat:
            for field in self.fields:
                each = value.get(field.json_name)
                within = None if each is None else field.type.unknown(each)
                if within is not None:
                    found[field.json_name] = within
        return found or None


Type = Scalar | Array | Map | Struct


def read_or_null(type_: Type, value: Any, path: str, required: bool, failures: Failures) -> Any:
    if value is not None:
        return type_.read(value, path, failures)
    if required:
        failures.append(f"{path}_is_present")
    return None
