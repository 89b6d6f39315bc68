"""The text of a frame's optimized plan, the same for the same computation in every process."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from typing import Any

from pyspark.sql import DataFrame

from streaming_lakehouse.config.spark_settings import applied
from streaming_lakehouse.execution.frames import TABLE_OPTION
from streaming_lakehouse.session import is_connect

_NO_ABBREVIATION = {"spark.sql.debug.maxToStringFields": str(2**31 - 1)}  # of a list in a plan's text
_INPUT = re.compile(rf"^([\s:|+-]*)~?Generate inline\(from_json\(.*?\({TABLE_OPTION},([^)]*)\)")
_COLUMNS = re.compile(r"Project \[\w+#\d+L?(?:-T\d+ms)?(?:, \w+#\d+L?(?:-T\d+ms)?)*\]$")
# Variables of lambdas and the optimizer's own columns, numbered over the whole process.
_COUNTED = re.compile(r"(\blambda \w+?|\b_[a-z_]+?)_\d+#")
_ID = re.compile(r"(?<=[\w)\]])#(\d+)L?")
_PROJECT = re.compile(r"(.*?Project \[)(.*)(\])")
_HINTS = re.compile(r", (?:left|right)Hint=\(.*?\)(?=,|$)", re.MULTILINE)
# An id of the node, another each time.
_NODE_ID = re.compile(r"(?<=EventTimeWatermark )[0-9a-f-]{36}")


def plan_text(rows: DataFrame) -> str:
    """The optimized plan, the same for the same computation in every process; its inputs are their tables' names.

    What the optimizer removes does not matter: the order of steps and columns, columns that nobody uses, hints.
    """
    lines: list[str] = []
    depth = None  # of the input whose own plan is left out
    for line in _HINTS.sub("", _NODE_ID.sub("", _optimized(rows))).splitlines():
        prefix = len(line) - len(line.lstrip(" :|+-"))
        if depth is not None and prefix > depth:
            continue
        depth = None
        if found := _INPUT.match(line):
            depth = prefix
            if lines and _COLUMNS.search(lines[-1]):
                lines.pop()
        lines.append(f"Input {found[2]}" if found else _with_sorted_columns(line.strip()))
    return _numbered(_COUNTED.sub(r"\1#", "\n".join(lines)))


def _with_sorted_columns(line: str) -> str:
    """A projection with its columns in alphabetical order."""
    found = _PROJECT.fullmatch(line)
    if not found:
        return line
    columns, depth, start = [], 0, 0
    for position, character in enumerate(found[2]):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            columns.append(found[2][start:position].strip())
            start = position + 1
    columns.append(found[2][start:].strip())
    return found[1] + ", ".join(sorted(columns, key=lambda column: _ID.sub("#", column))) + found[3]


def _numbered(text: str) -> str:
    """The ids of expressions in the order in which they occur."""
    ids: dict[str, int] = {}
    return _ID.sub(lambda found: f"#{ids.setdefault(found[1], len(ids))}", text)


def _optimized(rows: DataFrame) -> str:
    spark = rows.sparkSession
    with applied(spark, _NO_ABBREVIATION):
        if is_connect(spark):
            return explained(rows)
        session: Any = spark._jsparkSession
        plan = session.sessionState().optimizer().execute(rows._jdf.queryExecution().analyzed())
        return str(plan.toString())


def explained(rows: DataFrame) -> str:
    """The optimized plan by a Connect client, which has no other access to it; it makes a physical plan too."""
    text = io.StringIO()
    with redirect_stdout(text):
        rows.explain(extended=True)
    return text.getvalue().partition("== Optimized Logical Plan ==\n")[2].partition("\n\n== ")[0].partition("\n== ")[0]
