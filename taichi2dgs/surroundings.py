"""What is around Taichi: drivers, a folder to write to, and the CUDA context of a thread."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import glob
import os
import platform
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

CACHE = "XDG_CACHE_HOME"


def prepare_import() -> None:
    """Set what Taichi reads when it is imported; without a home folder it ends the process."""
    os.environ.setdefault("ENABLE_TAICHI_HEADER_PRINT", "False")
    if os.name != "nt" and CACHE not in os.environ and "HOME" not in os.environ:
        folder = os.path.expanduser("~/.cache")  # the home of the account, as no variable names one
        os.environ[CACHE] = folder if os.path.isabs(folder) else os.devnull


def cache_folder() -> str | None:
    """Return where Taichi is to keep compiled kernels, or None where its own folder will do.

    It writes there at exit, also where it was told not to, and crashes where it cannot.
    """
    if os.name == "nt":
        return None
    base = os.environ.get(CACHE, os.path.expanduser("~/.cache"))
    own = os.environ.get("TI_OFFLINE_CACHE_FILE_PATH") or os.path.join(base, "taichi", "ticache")
    with contextlib.suppress(OSError):
        os.makedirs(own, exist_ok=True)
        with tempfile.TemporaryFile(dir=own):
            return None
    with contextlib.suppress(OSError):
        folder = os.path.join(tempfile.gettempdir(), f"taichi2dgs-{os.getuid()}")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)  # somebody else's would bring their code into this process
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o77:
            return folder
    return tempfile.mkdtemp(prefix="taichi2dgs-")


def preference() -> tuple[str, ...]:
    """Backends in the order in which they are tried."""
    middle = ("metal",) if platform.system() == "Darwin" else ("vulkan", "opengl")
    return ("cuda", *middle, "cpu")


def has_driver(core: Any, name: str) -> bool:
    """Whether Taichi's core finds a driver. Its OpenGL probe can crash, so that one runs apart."""
    if name == "opengl":
        probe = "import taichi; raise SystemExit(not taichi._lib.core.with_opengl())"
        return subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0
    probes = {
        "cuda": core.with_cuda,
        "vulkan": core.with_vulkan,
        "metal": core.with_metal,
        "cpu": lambda: True,
    }
    return bool(probes[name]())


def has_graphics_hardware() -> bool:
    """Whether a device node says so on Linux; elsewhere drivers come with their hardware."""
    if platform.system() != "Linux":
        return True
    named = os.environ.get("VK_DRIVER_FILES") or os.environ.get("VK_ICD_FILENAMES") or ""
    if any(software in named for software in ("swiftshader", "lvp")):
        return False
    return bool(glob.glob("/dev/dri/renderD*") or glob.glob("/dev/nvidia[0-9]*"))


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
