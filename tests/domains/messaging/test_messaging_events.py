"""The generator's chat: reproducible, labelled, and shaped as a chat is."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from statistics import median

from streaming_lakehouse.domains.messaging import events
from streaming_lakehouse.domains.messaging.traffic import ROWS_PER_DAY
from streaming_lakehouse.pipeline.synthetic import FaultRates, generate_records

DAY = [events.generate(row, 7) for row in range(ROWS_PER_DAY)]


def test_an_event_depends_on_its_row_and_seed_alone() -> None:
    """Whatever was generated before, a row is the same; with another seed it is another."""
    assert [events.generate(row, 7) for row in range(900, 700, -1)] == DAY[900:700:-1]
    assert not {event.fields["event_id"] for event in DAY} & {
        events.generate(row, 8).fields["event_id"] for row in range(100)
    }


def test_a_channel_has_no_two_messages_with_one_ts() -> None:
    """`ts` names a message within its channel, and the rows are in its order but for a second of clock skew."""
    names = [(event.fields["channel"], event.fields["ts"]) for event in DAY]
    times = [float(ts) for _, ts in names]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"\d{10}\.\d{6}", ts) for _, ts in names)
    assert max(earlier - later for earlier, later in pairwise(times)) < 1


def test_edits_and_deletes_are_of_messages_that_were_posted() -> None:
    """Each names an earlier message of its channel, as Slack does."""
    posted = {
        (event.fields["channel"], event.fields["ts"]): event.fields["text"]
        for event in DAY
        if event.fields.get("subtype") in (None, "file_share")
    }
    changes = [event.fields for event in DAY if event.fields.get("subtype") in ("message_changed", "message_deleted")]
    for change in changes:
        is_edit = change["subtype"] == "message_changed"
        ts = change["message"]["ts"] if is_edit else change["deleted_ts"]
        assert (change["channel"], ts) in posted
        assert "user" not in change and "text" not in change
    assert 700 < len(changes) < 1_300  # 3.3 % of 30,000


def test_a_mood_drop_is_10_to_20_minutes_of_one_channel() -> None:
    """Its messages are labelled, in at most one episode an hour, none of them before each channel has a level."""
    times = defaultdict(list)
    for event in DAY:
        assert event.label == ("mood_drop" if event.episode else "clean")
        if event.episode:
            assert event.fields["channel"] == event.episode.entity
            times[event.episode.id].append(float(event.fields["ts"]))
    assert 4 <= len(times) <= 14  # half of 18 hours
    assert all(300 < max(of) - min(of) <= 1_201 and len(of) >= 20 for of in times.values())
    assert min(min(of) for of in times.values()) >= 1767225600 + 6 * 3600


def test_texts_are_as_long_as_in_a_chat() -> None:
    """Median 85 and 95th percentile 405 characters, as in a Slack export; some empty, some of 64 kB, some emoji."""
    texts = [event.fields["text"] for event in DAY if "text" in event.fields]
    lengths = sorted(map(len, texts))
    assert 70 < median(lengths) < 110
    assert 340 < lengths[len(lengths) * 95 // 100] < 460
    assert lengths[0] == 0 and 64_000 < lengths[-1] <= 65_536
    assert {"👍", ":tada:"} <= set(texts)


def test_few_users_write_most_and_the_night_is_quiet() -> None:
    """Zipf's law per channel, and a daily cycle."""
    busiest, channel_total = Counter(), Counter()
    for event in DAY:
        channel_total[event.fields["channel"]] += 1
        busiest[event.fields["channel"], event.fields.get("user")] += 1
    assert len(channel_total) == 12
    (channel, _), most = busiest.most_common(1)[0]
    assert most > 0.3 * channel_total[channel]
    hours = Counter(int(float(event.fields["ts"]) % 86_400 // 3600) for event in DAY)
    assert hours[14] > 4 * hours[2]


def test_faults_can_be_mixed_in() -> None:
    """Late and far-future records keep their `ts` a string; a user out of range is an SQL fragment."""
    records = list(
        generate_records(events.MESSAGES, seed=7, start=0, end=5_000, rates=FaultRates(0.05, 0.1, 0.2, 0.05))
    )
    labels = Counter(record.label for record in records)
    assert {"duplicate", "late", "out_of_range", "wrong_type", "far_future", "unknown_field"} <= set(labels)
    fragments = [json.loads(record.value or b"") for record in records if record.label == "out_of_range"]
    assert any("DROP TABLE" in str(each.get("user")) for each in fragments)
    assert all(isinstance(json.loads(r.value or b"")["ts"], str) for r in records if r.label in ("late", "far_future"))
