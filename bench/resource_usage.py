"""Runs a command and prints, as a line of JSON, the resources used by it and all processes that it started.

`resource_usage.py OUTPUT ERRORS COMMAND…`; the command's output goes to the two files.

CPU seconds are exact on Linux: this process is the subreaper of all its descendants, so it also waits for a JVM that
outlives the Python that started it, and `wait4` returns the time of each process with its children. Elsewhere they are
from the last sample of each process.
Memory is the sum of the processes' resident sets, sampled every 0.1 seconds; shared pages count once per process.
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
    """Samples the descendants of this process until it is stopped."""

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
        started_at, start = time.time(), time.monotonic()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    if is_reaper:
        cpu += _reap_descendants()
    sampler.stopped.set()
    sampler.join()
    return {
        "exit_status": process.returncode,
        "started_at": started_at,
        "wall_s": round(wall, 3),
        "cpu_s": round(cpu if is_reaper else sum(sampler.cpu_seconds.values()), 2),
        "peak_mib": round(sampler.peak_bytes / 2**20),
    }


def _become_reaper() -> bool:
    """Makes this process the parent of orphaned descendants; False if the system does not support that."""
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def _reap_descendants() -> float:
    """Waits for the inherited processes, killing those that do not end; returns their CPU seconds."""
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
