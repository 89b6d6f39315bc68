"""What a domain imports: the declaration of a pipeline, its expectations, and synthetic events."""

from streaming_lakehouse.pipeline.declaration import (
    Bronze,
    Detection,
    Gold,
    HotPath,
    Pipeline,
    Reference,
    Silver,
    State,
)
from streaming_lakehouse.pipeline.expectations import (
    expect,
    expect_not_ahead,
    expect_or_fail,
    expect_or_quarantine,
)
from streaming_lakehouse.pipeline.fields import field
from streaming_lakehouse.pipeline.synthetic import Episode, Event, EventGenerator

__all__ = [
    "Bronze",
    "Detection",
    "Episode",
    "Event",
    "EventGenerator",
    "Gold",
    "HotPath",
    "Pipeline",
    "Reference",
    "Silver",
    "State",
    "expect",
    "expect_not_ahead",
    "expect_or_fail",
    "expect_or_quarantine",
    "field",
]
