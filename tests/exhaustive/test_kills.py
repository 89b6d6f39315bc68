"""Each pipeline through many kills, from a real broker; on demand: `make test-exhaustive`."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.kills import Command, command
from support.topics import Topics

from streaming_lakehouse.local.broker import Broker
from streaming_lakehouse.pipeline.discovery import load_pipeline, pipeline_names

KILLS = int(os.environ.get("LAKEHOUSE_KILLS", "10"))
# New events of each bronze table before each command, in several batches: there is work in every layer.
ROWS, BRONZE_BATCHES = 5_000, 3
# The oracle judges late rows by the batches that Delta's log has, and silver lets none through that gold would drop:
# so the comparison is exact wherever the kills have cut the batches.
RATES = {"late": "0.01", "duplicates": "0.05", "malformed": "0.03"}
MOMENTS = ("available-now", "1 second")


@dataclass(frozen=True)
class Kill:
    """How a command was killed, the micro-batches that it had finished, and those that it had open, by their step."""

    how: str
    finished: int
    open: dict[str, int]

    @property
    def is_in_state(self) -> bool:
        """Whether it fell into a batch of gold that continues the state of batches before."""
        return any(step.startswith("gold.") and number > 0 for step, number in self.open.items())

    def __str__(self) -> str:
        inside = ", ".join(f"{step} batch {number}" for step, number in self.open.items())
        return f"{self.how}, {self.finished} batches finished, in {inside or 'no batch'}"


@dataclass
class Killer:
    """Runs a pipeline over its topics by one command after the other, most of which are killed."""

    topics: Topics
    root: Path
    dice: random.Random
    seconds: float = 0.0  # from the first batch of an uninterrupted run to its end
    commands: int = 0

    def words(self, trigger: str) -> list[str]:
        """A command, for which there are new records."""
        self.topics.publish(ROWS)
        self.commands += 1
        options = {**self.topics.source_options, "maxOffsetsPerTrigger": str(-(-ROWS // BRONZE_BATCHES))}
        given = [f"--option={name}={value}" for name, value in options.items()]
        run = ["run", self.topics.pipeline.name, "--source", "kafka", *given, "--trigger", trigger]
        return [*run, "--root", str(self.root / "lake")]

    @property
    def log(self) -> Path:
        return self.root / f"command-{self.commands}.log"

    def run_to_the_end(self) -> None:
        words = self.words("available-now")
        with command(self.log, words) as running:
            running.wait_for_batch()
            started_at = time.monotonic()
            running.end()
        self.seconds = self.seconds or time.monotonic() - started_at

    def kill_at_a_moment(self, trigger: str) -> Kill | None:
        """At any time after its first batch; None where it has ended before."""
        words = self.words(trigger)
        with command(self.log, words) as running:
            running.wait_for_batch()
            moment = self.dice.uniform(0, self.seconds)
            if running.ends_within(moment):
                running.end()
                return None
            running.kill()
            return self._fell(running, f"{trigger}, {moment:.1f} s after its first batch")

    def kill_at_a_commit(self, layer: str) -> Kill | None:
        """Around one of the layer's first commits, about one for each table; None where it has made fewer.

        Around a later one of bronze, when the command has reported its first batch.
        """
        pipeline, when = self.topics.pipeline, self.dice.choice(["before", "after", "after"])
        if layer == "bronze":
            number = len(pipeline.bronze) + 2
        else:
            number = self.dice.randint(1, len(pipeline.gold if layer == "gold" else pipeline.silver))
        words = self.words("available-now")
        with command(self.log, words, kill_at=(f"{layer}.{number}", when)) as running:
            if running.ended() == 0:
                return None
            running.end(-signal.SIGKILL)
            return self._fell(running, f"{when} commit {number} of {layer}")

    def _fell(self, killed: Command, how: str) -> Kill:
        checkpoints = self.root / "lake" / "_checkpoints" / self.topics.pipeline.name
        return Kill(how, killed.batches, killed.open_batches(checkpoints))

    def kills(self, number: int) -> list[Kill]:
        """Kills of each kind in turn, as many as are asked for."""
        found: list[Kill] = []
        while len(found) < number:
            assert self.commands < 3 * number, "most commands ended before their kill"
            turn = len(found) % 4
            if turn % 2 == 0:
                kill = self.kill_at_a_moment(MOMENTS[turn // 2])
            else:
                kill = self.kill_at_a_commit(
                    "gold" if turn == 1 else self.dice.choice(["bronze", "silver", "quarantine"])
                )
            if kill:
                found.append(kill)
                print(f"kill {len(found)}: {kill}", flush=True)
        return found


@pytest.mark.parametrize("name", pipeline_names())
def test_killed_again_and_again_every_table_equals_what_the_oracle_computes(
    broker: Broker, tmp_path: Path, name: str
) -> None:
    """kill -9 in the midst of batches and around commits, each followed by more records and the next command.

    State is open across all kills: windows, sessions, joins and custom state span several commands. At last a command
    runs to its end, and the oracle computes all tables from the topic in plain Python. Prints where each kill fell and
    where the records went.
    """
    print(f"\n{name}", flush=True)
    started_at = time.monotonic()
    topics = Topics(load_pipeline(name), broker.bootstrap_servers, "kills", seed=9, rates=RATES)
    killer = Killer(topics, tmp_path, random.Random(name))
    killer.run_to_the_end()
    kills = killer.kills(KILLS)
    killer.run_to_the_end()
    topics.confirmed(tmp_path / "lake")
    late = [kill for kill in kills if kill.finished]
    in_state = [kill for kill in kills if kill.is_in_state]
    print(
        f"{len(kills)} kills, {len(late)} after a finished batch, {len(in_state)} in a batch of gold with state; ",
        end="",
    )
    print(f"{killer.commands} commands, {time.monotonic() - started_at:.0f} s", flush=True)
    assert len(late) >= 0.8 * KILLS
    assert len(in_state) >= 0.25 * KILLS - 1
