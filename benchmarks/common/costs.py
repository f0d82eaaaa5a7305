"""What work costs: time and memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPEATS = 5  # times that some work is measured; the median counts


def seconds_of(
    work: Callable[[], object], repeats: int = REPEATS, wait: Callable[[], object] = lambda: None
) -> float:
    """Return the median time that some work takes; see `times_of`."""
    return statistics.median(times_of(work, repeats, wait=wait))


def reset_peak() -> None:
    """Let the peak memory of this process count from now on, where the system can (Linux).

    Memory that was freed goes back to the system first: glibc keeps it, 1 GiB after 50 fits.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # no glibc
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Return the peak memory of this process, in MiB, without that of a GPU."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, KiB elsewhere
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def cores_of(work: Callable[[], object], seconds: float, wait: Callable[[], object]) -> float:
    """Return how many cores some work keeps busy: CPU time of this process over wall time.

    Args:
        work: called again and again.
        seconds: for so long, at least.
        wait: called at the end, until when the clocks run.
    """
    began, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        work()
    wait()
    return (time.process_time() - used) / (time.perf_counter() - began)


def times_of(
    work: Callable[[], object],
    repeats: int = REPEATS,
    count: int = 1,
    wait: Callable[[], object] = lambda: None,
) -> list[float]:
    """Return the seconds that some work takes, once for each repeat.

    Args:
        work: what to time.
        repeats: times to do so.
        count: of calls in a repeat, which share its seconds evenly.
        wait: called at the end of a repeat, until when its clock runs.
    """
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(count):
            work()
        wait()
        times.append((time.perf_counter() - began) / count)
    return times
