"""What Taichi needs of the process around it: a folder to write to, and a bound CUDA context."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import tempfile
from collections.abc import Iterator

CACHE = "XDG_CACHE_HOME"


def prepare_import() -> None:
    """Set what Taichi reads when it is imported; without a home folder it ends the process."""
    os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "False")
    if os.name != "nt" and CACHE not in os.environ and "HOME" not in os.environ:
        folder = os.path.expanduser("~/.cache")  # of the account, as there is no variable
        os.environ[CACHE] = folder if os.path.isabs(folder) else os.devnull


def can_cache() -> bool:
    """Whether Taichi can keep compiled kernels on disk; where it cannot, it crashes at exit."""
    if os.name == "nt":
        return True
    folder = os.environ.get("TI_OFFLINE_CACHE_FILE_PATH") or os.path.join(
        os.environ.get(CACHE, os.path.expanduser("~/.cache")), "taichi", "ticache"
    )
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    return False


@contextlib.contextmanager
def cuda_context() -> Iterator[None]:
    """Make the context of Taichi and torch current in this thread; of all Taichi does, only
    launches do so. A thread that had another one gets it back."""
    driver, context = _driver()
    before = ctypes.c_void_p()
    driver.cuCtxGetCurrent(ctypes.byref(before))
    driver.cuCtxSetCurrent(context)
    try:
        yield
    finally:
        if before:
            driver.cuCtxSetCurrent(before)


@functools.cache
def _driver() -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    """The CUDA driver, and the primary context of its first device."""
    driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so")
    context, device = ctypes.c_void_p(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), 0)
    if driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        raise RuntimeError("CUDA's first device has no context")
    return driver, context
