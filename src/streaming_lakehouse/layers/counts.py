"""Where silver sent the records of a micro-batch: the numbers that a run reports."""

from __future__ import annotations

from dataclasses import dataclass

from streaming_lakehouse.errors import counted


@dataclass(frozen=True)
class BatchCounts:
    """Each record is one of the four: `valid` ones are in silver, the others in quarantine.

    `quarantined` are those that fail an expectation of the pipeline, or cannot be parsed.
    """

    valid: int = 0
    quarantined: int = 0
    duplicates: int = 0
    late: int = 0

    @property
    def rejected(self) -> int:
        """The rows that the quarantine table gets."""
        return self.quarantined + self.duplicates + self.late

    def __add__(self, other: BatchCounts) -> BatchCounts:
        return BatchCounts(
            self.valid + other.valid,
            self.quarantined + other.quarantined,
            self.duplicates + other.duplicates,
            self.late + other.late,
        )

    def __str__(self) -> str:
        rejected = f"{self.quarantined:,} quarantined, {counted(self.duplicates, 'duplicate')}, {self.late:,} late"
        return f"{self.valid:,} valid, {rejected}"
