"""The command: see the package."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __doc__ as description
from .domain import Domain, import_domain, load_domain
from .lake import check
from .records import RawRecord, read_files, read_topic


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the account and returns 0, or the difference and returns 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        domain = import_domain(options.domain) if options.domain else load_domain(options.pipeline)
        topics = _by_table(options.topic, domain)
        modes = dict(_pair(mode) for mode in options.mode)
        raw = {table: _read(table, topics.get(table, []), options, domain) for table in domain.bronze}
    except ValueError as error:
        parser.error(str(error))
    try:
        accounts = check(options.lake, domain, raw, modes)
    except AssertionError as difference:
        print(difference, file=sys.stderr)
        return 1
    for table, account in accounts.items():
        counts = ", ".join(f"{name} {count:,}" for name, count in account._asdict().items())
        print(f"{table}: {counts}" if len(accounts) > 1 else counts)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "oracle", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lake", type=Path, help="the folder that holds bronze, silver, quarantine and gold")
    parser.add_argument("pipeline", help="the pipeline's name")
    origin = parser.add_mutually_exclusive_group(required=True)
    origin.add_argument("--kafka", metavar="HOST:PORT", help="read the raw records from this broker")
    origin.add_argument(
        "--files", type=Path, metavar="DIR", help="read the raw records from the files in DIR/TABLE, or in DIR"
    )
    parser.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="[TABLE=]TOPIC",
        help="the topic of a bronze table, by default the table's name with dashes; repeatable",
    )
    parser.add_argument("--domain", metavar="MODULE", help="the module that declares the pipeline's DOMAIN")
    parser.add_argument(
        "--mode",
        action="append",
        default=[],
        metavar="TABLE=MODE",
        help="the output mode of a gold table that does not run in append mode; repeatable",
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


def _by_table(topics: Sequence[str], domain: Domain) -> dict[str, list[str]]:
    """The topics of each bronze table; of the only one, where the topic is given alone."""
    found: dict[str, list[str]] = {}
    for text in topics:
        table, topic = _pair(text if "=" in text or len(domain.bronze) > 1 else f"{domain.bronze[0]}={text}")
        if table not in domain.bronze:
            raise ValueError(f"no bronze table {table}; there are {', '.join(domain.bronze)}")
        found.setdefault(table, []).append(topic)
    return found


def _read(table: str, topics: list[str], options: argparse.Namespace, domain: Domain) -> list[RawRecord]:
    if options.kafka:
        names = topics or [table.replace("_", "-")]
        return [record for topic in names for record in read_topic(options.kafka, topic)]
    own: Path = options.files / table
    if not own.is_dir() and len(domain.bronze) > 1:
        raise ValueError(f"there is no folder {own}")
    return read_files(own if own.is_dir() else options.files)
