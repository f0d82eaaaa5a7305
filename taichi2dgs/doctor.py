"""What works on this machine: versions, and every backend tried in a process of its own."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

import taichi2dgs
from taichi2dgs import runtime

PROBE = "import sys; from taichi2dgs import doctor; sys.exit(doctor.probe(sys.argv[1]))"
SECONDS = 120
PACKAGES = ("taichi", "torch", "numpy", "imageio")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter."""
    found = {
        "taichi2dgs": taichi2dgs.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Return what git calls the checkout that this package lies in, or its version."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:  # no git
        return f"version {taichi2dgs.__version__}"
    return done.stdout.strip() or f"version {taichi2dgs.__version__}"


def check(backend: str) -> tuple[bool, str]:
    """Return whether a backend starts and counts right here, and a line that says so.

    It runs in a process of its own: a driver that crashes or hangs takes nothing with it.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE, backend], capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return False, f"does not answer within {SECONDS} s"
    if done.returncode < 0:
        return False, f"crashes (signal {-done.returncode})"
    lines = (done.stdout or done.stderr).strip().splitlines()
    return done.returncode == 0, lines[-1] if lines else "says nothing"


def probe(backend: str) -> int:
    """Start a backend in this process, print how it does, and return an exit code."""
    try:
        runtime.init(backend)
    except (RuntimeError, ValueError) as error:
        print(str(error).splitlines()[0])
        return 1
    right = runtime.counts_right()
    print("starts and counts right" if right else "starts, but loses atomic adds: do not use it")
    return 0 if right else 1
