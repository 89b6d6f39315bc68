"""What becomes of a record: which silver table takes it, what it fails, and whether it is late or a duplicate."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from .domain import PROVENANCE, Row, Silver
from .json_text import canonical, decode
from .moments import micros_of
from .records import RawRecord

MOST_FAILURES = 100  # of a record with arrays, maps or structs


class Outcome(NamedTuple):
    """`silver` is the table whose rules decided, None where no table's did; a row has passed all of them."""

    silver: Silver | None
    row: Row | None
    failures: list[str]


def classify(
    record: RawRecord, ingested_at: datetime | None, silver: Silver, *others: Silver
) -> tuple[Row | None, list[str]]:
    """Stages 1 to 3 for one record: its row and no failures, or no row and the failed expectations in order."""
    stamps = {"source_timestamp": record.source_timestamp, "ingested_at": ingested_at}
    micros = {name: None if moment is None else micros_of(moment) for name, moment in stamps.items()}
    return outcome({**record._asdict(), **micros}, (silver, *others))[1:]


def outcome(record: Row, routes: Sequence[Silver]) -> Outcome:
    """Stages 1 to 3 for one row of bronze, its timestamps in microseconds.

    1: the record as a whole, and who takes it. 2: each field in its type. 3: the expectations. A stage reports all that
    fails in it, except for the first, which has one reason.
    """
    fields = decode(record["value"])
    if isinstance(fields, str):
        return Outcome(None, None, [fields])
    silver = next((each for each in routes if each.route is None or each.route(fields, record)), None)
    if silver is None:
        return Outcome(None, None, ["record_has_a_route"])
    failures: list[str] = []
    row = silver.event.read_fields(fields, "", failures)
    if failures:
        return Outcome(silver, None, failures if silver.event.is_flat else failures[:MOST_FAILURES])
    row.update({name: record[name] for name in PROVENANCE})
    failures = [each.name for each in silver.all_expectations if not each.is_met(row)]
    if failures:
        return Outcome(silver, None, failures)
    unknown = silver.event.unknown(fields)
    row["_rescued_data"] = canonical(unknown) if unknown else None
    return Outcome(silver, row, [])


def rejected_deliveries(rows: Iterable[tuple[int, int, Hashable, int]], watermark: int) -> Iterator[tuple[int, str]]:
    """Stages 4 and 5: (row, failed expectation) of the valid rows of one silver table that do not enter it.

    `rows` are (batch, row, deduplication key, event time), ordered by batch and, in a batch, by source, partition and
    offset. Both decisions follow from the batches before: a row is late when it is more than the watermark behind the
    newest of them; a duplicate when its batch or, not before the watermark, silver has its key.
    """
    newest_time: int | None = None
    times_in_silver: dict[Hashable, int] = {}  # the newest time of each key
    for _, batch in groupby(rows, key=lambda row: row[0]):
        closed_until = None if newest_time is None else newest_time - watermark
        accepted: dict[Hashable, int] = {}
        for _, row, key, time in batch:
            known_time = times_in_silver.get(key)
            if closed_until is not None and time < closed_until:
                yield row, "is_on_time"
            elif key in accepted or (
                closed_until is not None and known_time is not None and known_time >= closed_until
            ):
                yield row, "is_first_delivery"
            else:
                accepted[key] = time
        for key, time in accepted.items():
            times_in_silver[key] = max(time, times_in_silver.get(key, time))
            newest_time = time if newest_time is None else max(time, newest_time)
