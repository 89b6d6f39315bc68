"""The Markdown tables of a benchmark's raw results."""

import json
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

Run = dict[str, Any]
Figure = Callable[[Run], float]

NAMES = {
    "ours": "ours",
    "handwritten": "(b) hand-written, our settings",
    "defaults": "(c) hand-written, default settings",
    "duckdb": "(d) librdkafka + DuckDB + delta-rs",
}
FIGURES: dict[str, tuple[Figure, str]] = {
    "wall, s": (lambda run: run["wall_s"], ",.1f"),
    "CPU, s": (lambda run: run["cpu_s"], ",.1f"),
    "peak memory, MiB": (lambda run: run["peak_mib"], ",.0f"),
    "events/s": (lambda run: run["events_per_s"], ",.0f"),
    "first commit, s": (lambda run: run["first_commit_s"], ",.1f"),
    "bronze, s": (lambda run: run["layers_s"]["bronze"], ",.1f"),
    "silver, s": (lambda run: run["layers_s"]["silver"], ",.1f"),
    "gold, s": (lambda run: run["layers_s"]["gold"], ",.1f"),
}
COSTS = ("wall, s", "CPU, s", "bronze, s", "silver, s", "gold, s")
RATIOS = ("wall, s", "CPU, s", "peak memory, MiB", "first commit, s", "bronze, s", "silver, s", "gold, s")
# The targets: figure, other implementation, events, and the maximum of ours divided by theirs.
TARGETS = (
    ("wall, s", "handwritten", 1_000_000, 1.05),
    ("wall, s", "handwritten", 5_000_000, 1.05),
    ("wall, s", "defaults", 1_000_000, 1 / 2.5),
    ("gold, s", "defaults", 1_000_000, 1 / 6),
    ("first commit, s", "defaults", 100_000, 0.4),
    ("first commit, s", "defaults", 1_000_000, 0.4),
    ("first commit, s", "defaults", 5_000_000, 0.4),
)


class Results:
    """The runs of one file, without warm-ups."""

    def __init__(self, file: Path) -> None:
        content = json.loads(file.read_text())
        self.name, self.started_at, self.commit = file.name, content["started_at"], content["commit"]
        self.machine: dict[str, Any] = content["machine"]
        self.runs: list[Run] = [run for run in content["runs"] if run["repetition"] > 0]
        self.sizes = sorted({run["events"] for run in self.runs})
        self.implementations = [name for name in NAMES if any(run["implementation"] == name for run in self.runs)]

    def of(self, implementation: str, events: int, figure: str) -> dict[int, float]:
        """The figure in each repetition."""
        read = FIGURES[figure][0]
        return {
            run["repetition"]: read(run)
            for run in self.runs
            if (run["implementation"], run["events"]) == (implementation, events)
        }

    def ratios(self, other: str, events: int, figure: str) -> list[float]:
        """Ours divided by the other's in the same repetition."""
        ours, theirs = self.of("ours", events, figure), self.of(other, events, figure)
        return [ours[repetition] / theirs[repetition] for repetition in ours if theirs.get(repetition)]

    def medians(self, implementation: str, figure: str) -> dict[int, float]:
        found = {events: self.of(implementation, events, figure) for events in self.sizes}
        return {events: median(values.values()) for events, values in found.items() if values}


def write_report(file: Path) -> None:
    """Writes README.md into the folder of the results."""
    results = Results(file)
    parts = [_heading(results), _targets(results)]
    parts += [_figures(results, events) for events in results.sizes]
    parts += [_ratios(results), _regression(results), _costs(results)]
    (file.parent / "README.md").write_text("\n\n".join(part for part in parts if part) + "\n")


def _heading(results: Results) -> str:
    versions = [
        f"{name} {value}" for name, value in results.machine.items() if name not in ("cores", "memory_gib", "os")
    ]
    repetitions = len({run["repetition"] for run in results.runs})
    counts = {tuple(run["batches"].values()) for run in results.runs}
    batches = (
        "one micro-batch per layer in every run"
        if counts == {(1, 1)}
        else f"batches (bronze, silver): {sorted(counts)}"
    )
    return (
        f"# Results\n\nWritten by `make bench` from [{results.name}]({results.name}), which has every single run: "
        f"started {results.started_at}, commit {results.commit}, {results.machine['cores']} cores, "
        f"{results.machine['memory_gib']} GiB, {results.machine['os']}, {', '.join(versions)}.\n\n"
        f"Median of {repetitions} repetitions [smallest – largest]; {batches}. The tables of each run were "
        "verified. How to read this: [../README.md](../README.md)."
    )


def _targets(results: Results) -> str:
    rows = []
    for figure, other, events, maximum in TARGETS:
        found = results.ratios(other, events, figure)
        if found:
            verdict = "yes" if median(found) <= maximum else "**no**"
            ratio = f"{figure.split(',')[0]}, ours / {NAMES[other]}, {events:,} events"
            rows.append([ratio, f"≤ {maximum:.3g}", _spread(found, ".2f"), verdict])
    costs = [seconds / events * 1e6 for events, seconds in results.medians("ours", "wall, s").items()]
    if len(costs) > 1:
        falls = all(later <= earlier for earlier, later in pairwise(costs))
        shown = " → ".join(f"{cost:,.1f}" for cost in costs)
        rows.append(["cost per event, ours, µs, by size", "does not grow", shown, "yes" if falls else "**no**"])
    return "## Targets\n\n" + _table(["", "target", "measured", "met"], rows) if rows else ""


def _figures(results: Results, events: int) -> str:
    rows = []
    for implementation in results.implementations:
        cells = [results.of(implementation, events, figure) for figure in FIGURES]
        if all(cells):
            shown = zip(cells, FIGURES.values(), strict=True)
            rows.append([NAMES[implementation], *(_spread(cell.values(), form) for cell, (_, form) in shown)])
    return f"## {events:,} events\n\n" + _table(["", *FIGURES], rows)


def _ratios(results: Results) -> str:
    rows = []
    for events in results.sizes:
        for other in results.implementations:
            found = [results.ratios(other, events, figure) for figure in RATIOS]
            if other != "ours" and all(found):
                rows.append([f"{events:,}", NAMES[other], *(_spread(ratios, ".2f") for ratios in found)])
    heading = ["events", "ours divided by", *(figure.split(",")[0] for figure in RATIOS)]
    return (
        "## Ratios\n\nOurs divided by the other in the same repetition: below 1, ours is smaller.\n\n"
        + _table(heading, rows)
        if rows
        else ""
    )


def _regression(results: Results) -> str:
    if len(results.sizes) < 2:
        return ""
    rows = []
    for implementation in results.implementations:
        row = [NAMES[implementation]]
        for figure in COSTS:
            medians = results.medians(implementation, figure)
            if len(medians) < 2:
                break
            slope, intercept = linear_regression(list(medians), list(medians.values()))
            row.append(f"{intercept:,.1f} s + {slope * 1e6:,.2f} µs")
        else:
            rows.append(row)
    return (
        "## Fixed and marginal cost\n\nSeconds per run + microseconds per event, by least squares over the medians of "
        "the sizes. Silver and gold run one batch, so their constant is that of a first batch; wall and CPU include "
        "the start of the process.\n\n" + _table(["", *(figure.split(",")[0] for figure in COSTS)], rows)
    )


def _costs(results: Results) -> str:
    rows = []
    for implementation in results.implementations:
        medians = results.medians(implementation, "wall, s")
        if list(medians) != results.sizes:
            continue
        costs = [f"{medians[events] / events * 1e6:,.1f}" for events in results.sizes]
        steps = pairwise(results.sizes)
        costs += [f"{(medians[more] - medians[less]) / (more - less) * 1e6:,.1f}" for less, more in steps]
        rows.append([NAMES[implementation], *costs])
    heading = ["", *(f"at {events:,}" for events in results.sizes)]
    heading += [f"from {less:,} to {more:,}" for less, more in pairwise(results.sizes)]
    return (
        "## Cost per event\n\nMicroseconds of wall time: the whole run divided by its events, then the marginal cost "
        "per event between two sizes.\n\n" + _table(heading, rows)
    )


def _spread(values: Iterable[float], form: str) -> str:
    found = list(values)
    return f"{median(found):{form}} [{min(found):{form}} – {max(found):{form}}]"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (heading, *rows)]
    lines.insert(1, "|---" * len(heading) + "|")
    return "\n".join(lines)
