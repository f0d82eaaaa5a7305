"""How much memory one call may ask for, and what renders and fits need.

A size, a number of Gaussians or a file of a few bytes can ask for more memory than there is. Such
calls are refused before they allocate. The limit is what the caller has set, else the environment
variable TAICHI2DGS_MEMORY, else three quarters of what this process may have.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import re
from pathlib import Path

from taichi2dgs.checks import number, shown
from taichi2dgs.kernels.binning import GEOMETRY, RECORD
from taichi2dgs.kernels.cores_lists import COLOR

VARIABLE = "TAICHI2DGS_MEMORY"
UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}  # powers of 1024
MAX_VALUES = (1 << 31) - 1  # most values of an array, which Taichi counts in 32 bits
RECT = 4  # numbers of the tile rectangle of a Gaussian
CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

_chosen: int | None = None


def set_memory_limit(limit: int | str | None) -> None:
    """Choose how much memory one render or fit may ask for, in bytes.

    Args:
        limit: a number of bytes, or text such as "24G" (K, M, G and T are powers of 1024). None
            returns to the environment variable TAICHI2DGS_MEMORY or, without it, to three quarters
            of the memory that this process may have.

    Raises:
        ValueError: it is not a positive number of bytes.

    >>> set_memory_limit("24G")
    >>> memory_limit() == 24 * 1024**3
    True
    >>> set_memory_limit(None)
    """
    global _chosen
    _chosen = None if limit is None else _parsed(limit, "limit")


def memory_limit() -> int:
    """Return the limit in bytes.

    Raises:
        ValueError: TAICHI2DGS_MEMORY is not a number of bytes.
    """
    if _chosen is not None:
        return _chosen
    text = os.environ.get(VARIABLE)
    return _parsed(text, VARIABLE) if text else machine_memory() * 3 // 4


def render_bytes(
    height: int, width: int, channels: int, n: int, real: int = 4, averaged: bool = False
) -> int:
    """Return the bytes that a render of N Gaussians takes, beside tile lists.

    Args:
        height, width: of the output, in pixels.
        channels: colour channels C.
        n: number of Gaussians.
        real: bytes of a number, 4 or 8.
        averaged: whether Gaussians are averaged over pixels, as they are below the picture's size.
    """
    pixels = height * width * (2 * channels + 2 if averaged else channels)  # sums, and quotients
    rows = n * (2 * (GEOMETRY + channels) + RECORD)  # parameters, their packed copies, and records
    return real * (pixels + rows) + 4 * n * RECT


def fit_bytes(height: int, width: int, channels: int, n: int, gpu: bool = False) -> int:
    """Return the bytes that a fit of N Gaussians takes, at least; see `render_bytes`.

    Of its tile lists, this counts one entry for each Gaussian. How many there are is known when
    the Gaussians have been projected, and checked then.
    """
    target = height * width * channels * 2  # the caller's, and the device's
    # The Gaussians as they came, sorted, and on the device, and Adam's two averages.
    rows = n * (GEOMETRY + channels) * 5
    # An entry has a gradient and, on a GPU, the record and the colour beside its number. On cores
    # these are the Gaussian's own, and the entry has its place.
    record, entry = (RECORD, 1 + RECORD + channels) if gpu else (COLOR + channels, 2)
    each = record + entry + GEOMETRY + channels + RECT + 1  # rectangle, and whether it is frozen
    return 4 * (target + rows + n * each)


def check_render(
    height: int, width: int, channels: int, n: int, real: int = 4, averaged: bool = False
) -> None:
    """Raise ValueError if a render needs more than the limit; arguments as in `render_bytes`."""
    what = f"size={height}x{width} with {channels} channels"
    check(what, render_bytes(height, width, channels, n, real, averaged))
    check_values(what, max(height * width * (channels + averaged), n * (RECORD + channels)))


def check_fit(what: str, height: int, width: int, channels: int, n: int, gpu: bool = False) -> None:
    """Raise ValueError, naming `what` is asked for, if a fit needs more than the limit.

    Args:
        what: the argument and its value, such as "k=1000000000".
        height, width: of the picture, in pixels.
        channels: colour channels C.
        n: number of Gaussians.
        gpu: whether a GPU fits them.
    """
    check(what, fit_bytes(height, width, channels, n, gpu))
    check_values(what, max(height * width * channels, n * (RECORD + channels)))


def check(what: str, needed: int) -> None:
    """Raise ValueError, naming `what` is asked for, if it needs more bytes than the limit."""
    limit = memory_limit()
    if needed > limit:
        raise ValueError(
            f"{what} needs {readable(needed)} of memory; expected at most {readable(limit)}, which "
            f"taichi2dgs.set_memory_limit or {VARIABLE} raises"
        )


def check_values(what: str, count: int) -> None:
    """Raise ValueError, naming `what` is asked for, if one array has more numbers than it can."""
    if count > MAX_VALUES:
        raise ValueError(
            f"{what} needs an array of {count} numbers; expected at most {MAX_VALUES}, which is "
            "what Taichi can index"
        )


def readable(size: int) -> str:
    """Return a number of bytes as people write it."""
    if size >= 1 << 60:
        return "over a million TiB"
    power = max(0, min(4, (size.bit_length() - 1) // 10))
    return f"{size / 1024**power:.1f} {'KMGT'[power - 1]}iB" if power else f"{size} bytes"


def machine_memory() -> int:
    """Return the bytes of memory that this process may have: the machine's, or a lower limit."""
    found = _installed()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        return min(found, soft) if soft > 0 else found  # -1 is no limit
    return found


@functools.cache  # reading files takes as long as a small render
def _installed() -> int:
    """The machine's memory, or the container's."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        status = (ctypes.c_uint64 * 8)(64)  # MEMORYSTATUSEX: its size, then load; then bytes
        ctypes.windll.kernel32.GlobalMemoryStatusEx(status)  # type: ignore[attr-defined]
        found = status[1]
    for path in CGROUP:
        with contextlib.suppress(OSError, ValueError):  # "max" is no limit
            found = min(found, int(Path(path).read_text()))
    return found


def _parsed(limit: object, name: str) -> int:
    if isinstance(limit, str):
        text = limit.strip().upper()
        match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)\s*([KMGT]?)(?:I?B)?", text)
        size = float(match[1]) * 1024 ** UNITS[match[2]] if match else 0.0
    else:
        size = number(limit)
    if not 1 <= size < math.inf:
        raise ValueError(
            f"{name}={shown(limit)}; expected a number of bytes, or text such as '24G'"
        )
    return int(size)
