"""Runs a command and prints, as a line of JSON, what it and every process it started have cost.

`measured.py OUTPUT ERRORS COMMAND…`; the command's own output goes to the two files.

CPU seconds are exact on Linux: this process makes itself the reaper of all its descendants, so that a JVM which
outlives the Python that started it is inherited and waited for here, and each waited process hands over its own time
with that of its children. Elsewhere they are the last ones seen of each process, at most one sample old.
Memory is the resident sets of the tree's processes, added up every 0.1 seconds; what two of them share counts twice.
"""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.1
LEFTOVER_SECONDS = 60
_PR_SET_CHILD_SUBREAPER = 36


class Sampler(threading.Thread):
    """Looks at the descendants of this process until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.cpu_seconds: dict[tuple[int, float], float] = {}
        self.stopped = threading.Event()

    def run(self) -> None:
        this = psutil.Process()
        while not self.stopped.wait(SAMPLE_SECONDS):
            resident = 0
            for process in this.children(recursive=True):
                with suppress(psutil.Error):
                    resident += process.memory_info().rss
                    times = process.cpu_times()
                    self.cpu_seconds[process.pid, process.create_time()] = times.user + times.system
            self.peak_bytes = max(self.peak_bytes, resident)


def measure(command: Sequence[str], output: Path, errors: Path) -> dict[str, float | int]:
    """Exit status, wall seconds until the command ended, CPU seconds and peak memory of all its processes."""
    is_reaper = _become_reaper()
    sampler = Sampler()
    sampler.start()
    with output.open("wb") as out, errors.open("wb") as err:
        began_at, began = time.time(), time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    if is_reaper:
        cpu += _reap_the_rest()
    sampler.stopped.set()
    sampler.join()
    return {
        "exit_status": process.returncode,
        "began_at": began_at,
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu if is_reaper else sum(sampler.cpu_seconds.values()), 2),
        "peak_mib": round(sampler.peak_bytes / 2**20),
    }


def _become_reaper() -> bool:
    """True where the kernel now hands this process every descendant whose parent has ended."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def _reap_the_rest() -> float:
    """The CPU seconds of the inherited processes, after their end; one that does not end by itself is killed."""
    deadline = time.monotonic() + LEFTOVER_SECONDS
    cpu = 0.0
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return cpu
        if pid:
            cpu += usage.ru_utime + usage.ru_stime
        elif time.monotonic() > deadline:
            for left in psutil.Process().children(recursive=True):
                left.kill()
        else:
            time.sleep(0.02)


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[3:], Path(sys.argv[1]), Path(sys.argv[2]))))
