"""Options for one of several tables, and how options are divided between source and sink."""

from __future__ import annotations

import pytest

from streaming_lakehouse.config.options import OptionSpec, options_of, split_options
from streaming_lakehouse.errors import LakehouseError

TABLES = ("orders", "orders_returned")
SOURCE = OptionSpec("source 'kafka'", ("kafka.", "subscribe"))
SINK = OptionSpec("sink 'kafka'", ("kafka.", "topic"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"subscribe": "all"}, {"subscribe": "all"}),
        ({"orders.subscribe": "mine"}, {"subscribe": "mine"}),
        ({"orders_returned.subscribe": "other"}, {}),
        ({"subscribe": "all", "orders.subscribe": "mine"}, {"subscribe": "mine"}),
        ({"orders.Subscribe": "mine", "subscribe": "all"}, {"Subscribe": "mine"}),
        ({"orders.kafka.group.id": "g", "seed": "1"}, {"kafka.group.id": "g", "seed": "1"}),
    ],
)
def test_a_tables_own_options_override_the_common_ones(options: dict[str, str], expected: dict[str, str]) -> None:
    """Names are case-insensitive; a table whose name begins with another table's is not mistaken for it."""
    assert options_of("orders", options, TABLES) == expected


@pytest.mark.parametrize(
    ("option", "is_sinks", "name"),
    [
        ("subscribe", False, "subscribe"),
        ("topic", True, "topic"),
        ("kafka.acks", False, "kafka.acks"),
        ("sink.kafka.acks", True, "kafka.acks"),
        ("SINK.topic", True, "topic"),
        ("orders.topic", False, "orders.topic"),
        ("unknown", False, "unknown"),
    ],
)
def test_the_sink_has_its_prefix_and_what_it_alone_accepts(option: str, is_sinks: bool, name: str) -> None:
    """All others are the source's, which reports the unknown ones; so are those of a table."""
    assert split_options({option: "x"}, SOURCE, SINK, TABLES) == (({}, {name: "x"}) if is_sinks else ({name: "x"}, {}))


def test_an_option_of_the_sink_is_given_once() -> None:
    with pytest.raises(LakehouseError, match=r"--option topic and --option sink\.topic set the same option of sink"):
        split_options({"topic": "a", "sink.topic": "b"}, SOURCE, SINK, TABLES)
