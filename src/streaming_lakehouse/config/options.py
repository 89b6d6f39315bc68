"""The `--option`s that a source or a sink accepts: Spark's own names, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streaming_lakehouse.errors import LakehouseError, did_you_mean

_SINK_PREFIX = "sink."


@dataclass(frozen=True)
class OptionSpec:
    """The options that `owner`, such as `source 'kafka'`, accepts.

    `names` are in Spark's spelling; one that ends in `.` is a prefix. `minimums` holds the lower bounds of the integer
    options, `booleans` the options that are true or false.
    """

    owner: str
    names: tuple[str, ...] = ()
    minimums: Mapping[str, int] = field(default_factory=dict)
    booleans: tuple[str, ...] = ()

    def accepts(self, name: str) -> bool:
        prefixes = tuple(known.lower() for known in self.names if known.endswith("."))
        return name.lower() in {known.lower() for known in self.names} or name.lower().startswith(prefixes)

    def check(self, options: Mapping[str, str]) -> None:
        """Raises LakehouseError for an unknown option or an invalid value."""
        for name in options:
            if not self.accepts(name):
                others = did_you_mean(name, self.names) if self.names else "; it has no options"
                raise LakehouseError(f"{self.owner} has no option {name!r}{others}")
        for name, minimum in self.minimums.items():
            text = get_option(options, name)
            if text is not None and not is_int_in_range(text, minimum):
                raise LakehouseError(f"{self.owner}: {name} is an integer of at least {minimum}, not {text!r}")
        for name in self.booleans:
            text = get_option(options, name)
            if text is not None and text.lower() not in ("true", "false"):
                raise LakehouseError(f"{self.owner}: {name} is true or false, not {text!r}")


def split_options(
    options: Mapping[str, str], source: OptionSpec, sink: OptionSpec, tables: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The source's options, and the sink's: those with the prefix `sink.`, and those that only the sink accepts.

    An option with the prefix of a table is the source's. Raises LakehouseError if an option of the sink is given both
    with and without the prefix.
    """
    source_options: dict[str, str] = {}
    sink_options: dict[str, str] = {}
    for name, value in options.items():
        has_prefix = name.lower().startswith(_SINK_PREFIX)
        bare = name[len(_SINK_PREFIX) :] if has_prefix else name
        is_sinks = sink.accepts(name) and not source.accepts(name) and not _table_of(name, tables)
        chosen = sink_options if has_prefix or is_sinks else source_options
        if get_option(chosen, bare) is not None:
            raise LakehouseError(
                f"--option {bare} and --option {_SINK_PREFIX}{bare} set the same option of {sink.owner}: give one"
            )
        chosen[bare] = value
    return source_options, sink_options


def options_of(table: str, options: Mapping[str, str], tables: Sequence[str]) -> dict[str, str]:
    """The options that apply to one of `tables`: those without a table's prefix, overridden by those with its own."""
    own = {name[len(table) + 1 :]: value for name, value in options.items() if _table_of(name, tables) == table}
    common = {name: value for name, value in options.items() if not _table_of(name, tables)}
    return {**omit(common, own), **own}


def shared_options(table: str, options: Mapping[str, str], tables: Sequence[str]) -> frozenset[str]:
    """The names, in lower case, of the options that `table` shares with others of `tables`."""
    if len(tables) == 1:
        return frozenset()
    own = {name[len(table) + 1 :].lower() for name in options if _table_of(name, tables) == table}
    return frozenset({name.lower() for name in options if not _table_of(name, tables)} - own)


def check_one_table(options: Mapping[str, str], one_table: Iterable[str], pipeline: str, tables: Sequence[str]) -> None:
    """Raises LakehouseError if several tables would share an option that names the records of a single one."""
    shared = {name.lower() for name in one_table}
    for name in options:
        if len(tables) > 1 and name.lower() in shared:
            raise LakehouseError(
                f"--option {name}: pipeline {pipeline!r} has {len(tables)} tables; write which of them, such as "
                f"{tables[0]}.{name}"
            )


def _table_of(name: str, tables: Sequence[str]) -> str | None:
    return next((table for table in tables if name.startswith(f"{table}.")), None)


def get_option(options: Mapping[str, str], name: str, default: str | None = None) -> str | None:
    """The option's value; names are case-insensitive, as in Spark."""
    return {key.lower(): value for key, value in options.items()}.get(name.lower(), default)


def require_option(owner: str, options: Mapping[str, str], name: str) -> str:
    value = get_option(options, name)
    if not value:
        raise LakehouseError(f"{owner} needs --option {name}=…")
    return value


def omit(options: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The options without those of these names."""
    omitted = {name.lower() for name in names}
    return {name: value for name, value in options.items() if name.lower() not in omitted}


def is_int_in_range(text: str, minimum: int, maximum: float = float("inf")) -> bool:
    """True for the digits of an integer within the bounds; only the first 20 digits are read."""
    return text.isascii() and text.isdigit() and minimum <= int(text[:20]) <= maximum
