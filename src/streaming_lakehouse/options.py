"""What a source or a sink takes as `--option`: Spark's own names, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from streaming_lakehouse.errors import LakehouseError, did_you_mean

_SINKS = "sink."


@dataclass(frozen=True)
class Options:
    """What `owner`, such as `source 'kafka'`, takes.

    `accepts` holds the names in Spark's spelling; one that ends in `.` stands for all that begin so. Those that are
    whole numbers are in `least` with the least of them, those that are true or false in `flags`.
    """

    owner: str
    accepts: tuple[str, ...] = ()
    least: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        prefixes = tuple(known.lower() for known in self.accepts if known.endswith("."))
        return name.lower() in {known.lower() for known in self.accepts} or name.lower().startswith(prefixes)

    def check(self, given: Mapping[str, str]) -> None:
        """Raises LakehouseError for an option that is not taken, or a value that cannot be."""
        for name in given:
            if not self.has(name):
                others = did_you_mean(name, self.accepts) if self.accepts else "; it takes none"
                raise LakehouseError(f"{self.owner} has no option {name!r}{others}")
        for name, least in self.least.items():
            text = option(given, name)
            if text is not None and not is_whole(text, least):
                raise LakehouseError(f"{self.owner}: {name} is a whole number from {least} on, not {text!r}")
        for name in self.flags:
            text = option(given, name)
            if text is not None and text.lower() not in ("true", "false"):
                raise LakehouseError(f"{self.owner}: {name} is true or false, not {text!r}")


def divided(given: Mapping[str, str], source: Options, sink: Options) -> tuple[dict[str, str], dict[str, str]]:
    """The source's options, and the sink's: those that begin with `sink.`, and those that the sink alone takes.

    Raises LakehouseError where the sink would get one in both ways.
    """
    of_source: dict[str, str] = {}
    of_sink: dict[str, str] = {}
    for name, value in given.items():
        is_sinks = name.lower().startswith(_SINKS)
        bare = name[len(_SINKS) :] if is_sinks else name
        to = of_sink if is_sinks or (sink.has(name) and not source.has(name)) else of_source
        if option(to, bare) is not None:
            raise LakehouseError(f"--option {bare} and --option {_SINKS}{bare} are the same of {sink.owner}: give one")
        to[bare] = value
    return of_source, of_sink


def option(given: Mapping[str, str], name: str, default: str | None = None) -> str | None:
    """The option's value; names are compared as Spark does, without case."""
    return {key.lower(): value for key, value in given.items()}.get(name.lower(), default)


def required(owner: str, given: Mapping[str, str], name: str) -> str:
    value = option(given, name)
    if not value:
        raise LakehouseError(f"{owner} needs --option {name}=…")
    return value


def without(given: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """All but the options of these names."""
    ours = {name.lower() for name in names}
    return {name: value for name, value in given.items() if name.lower() not in ours}


def is_whole(text: str, least: int, most: float = float("inf")) -> bool:
    """True for the digits of a whole number within the bounds; of endless ones only the first are read."""
    return text.isascii() and text.isdigit() and least <= int(text[:20]) <= most
