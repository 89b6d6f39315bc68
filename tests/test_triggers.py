"""The values of --trigger."""

import pytest

from streaming_lakehouse.errors import LakehouseError
from streaming_lakehouse.triggers import parse_trigger


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("available-now", {"availableNow": True}),
        ("default", {}),
        ("30 seconds", {"processingTime": "30 seconds"}),
        (" 1  minute ", {"processingTime": "1 minute"}),
        ("continuous 1 second", {"continuous": "1 second"}),
        ("real-time 5 minutes", {"realTime": "5 minutes"}),
    ],
)
def test_a_trigger_is_the_writers_argument(text: str, arguments: dict[str, object]) -> None:
    """Each form becomes the argument of DataStreamWriter.trigger that it names."""
    assert parse_trigger(text).arguments == arguments


@pytest.mark.parametrize("text", ["", "once", "30", "thirty seconds", "-1 seconds", "continuous", "30 parsecs"])
def test_anything_else_is_refused_with_the_forms_there_are(text: str) -> None:
    """The message shows what would have been right."""
    with pytest.raises(LakehouseError, match="available-now, default"):
        parse_trigger(text)
