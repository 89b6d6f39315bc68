"""Bronze against the raw records: each record of a topic, each line of a file, unmodified, and no other row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from .compare import Database, quoted, refuse
from .domain import ENVELOPE, KEY, Row
from .moments import micros_of
from .records import RawRecord
from .tables import comparable


def check_bronze(database: Database, what: str, raw: Sequence[RawRecord]) -> None:
    """Each record of a topic under its own partition and offset, each file's lines in their order, no other row.

    The table `bronze` is there.
    """
    topics = {record.source for record in raw if record.partition is not None}
    database.add("topics", pa.table({"source": pa.array(sorted(topics), pa.string())}))
    columns = {name: ENVELOPE[name] for name in ("key", "value", *KEY, "source_timestamp")}
    database.add("raw", comparable(map(_row, raw), columns))
    database.execute("CREATE VIEW raw_topics AS FROM raw WHERE partition IS NOT NULL")
    database.execute("CREATE VIEW bronze_topics AS FROM bronze SEMI JOIN topics USING (source)")
    database.execute("CREATE VIEW bronze_files AS FROM bronze ANTI JOIN topics USING (source)")
    unstamped = f"SELECT {quoted(KEY)} FROM bronze WHERE ingested_at IS NULL"
    refuse(database.found(f"{what}: rows without ingested_at", unstamped))
    database.compare(what, ("raw_topics", "bronze_topics"), KEY, exact=("key", "value", "source_timestamp"))
    _check_files(database, what)


def _row(record: RawRecord) -> Row:
    at = record.source_timestamp
    return {**record._asdict(), "source_timestamp": None if at is None else micros_of(at)}


def _file_name(source: str | None) -> str | None:
    """The last part of a path or URI; a URI's escapes are undone."""
    if source is None:
        return None
    path = unquote(urlsplit(source).path) if re.match(r"[A-Za-z][\w+.-]*:/", source) else source
    return path.rsplit("/", 1)[-1]


def _check_files(database: Database, what: str) -> None:
    """Lines as a multiset for each file name, then each file's sequence of lines."""
    for view in ("raw", "bronze_files"):
        sources = [row[0] for row in database.rows(f"SELECT DISTINCT source FROM {view}")]
        names = {"source": pa.array(sources, pa.string()), "file": pa.array(map(_file_name, sources), pa.string())}
        database.add(f"{view}_names", pa.table(names))
    database.execute(
        """CREATE TABLE lines AS
           SELECT 1 AS side, file, source, 0 AS partition, "offset", value, key
           FROM raw JOIN raw_names USING (source) WHERE partition IS NULL
           UNION ALL SELECT -1, n.file, b.source, b.partition, b."offset", b.value, b.key
           FROM bronze_files b LEFT JOIN bronze_files_names n USING (source)"""
    )
    surplus = "SELECT file, value, abs(sum(side)) AS times FROM lines GROUP BY file, value HAVING sum(side)"
    found = database.found(f"{what}: lines of files missing", f"{surplus} > 0")
    found += database.found(f"{what}: lines of files unexpected or more than once", f"{surplus} < 0")
    listed = quoted(KEY)
    keyed = f"SELECT {listed} FROM lines WHERE key IS NOT NULL"
    found += database.found(f"{what}: lines of files with a key", keyed)
    doubled = f"SELECT {listed}, count(*) AS copies FROM lines WHERE side < 0 GROUP BY {listed} HAVING count(*) > 1"
    found += database.found(f"{what}: lines of files under one partition and offset", doubled)
    refuse(found)
    digests = """SELECT file, side, md5(string_agg(md5(value), '' ORDER BY partition, "offset")) AS digest
                 FROM lines GROUP BY file, side, source"""
    disordered = f"SELECT DISTINCT file FROM (SELECT file FROM ({digests}) GROUP BY file, digest HAVING sum(side) <> 0)"
    refuse(database.found(f"{what}: files whose lines are not in the file's order", disordered))
