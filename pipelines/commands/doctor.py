"""The command `doctor`."""

from __future__ import annotations

import argparse

from taichi2dgs.settings import BACKENDS


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options: it has none."""


def run(options: argparse.Namespace) -> int:
    """Print versions, and how every backend does."""
    from taichi2dgs import doctor

    for name, version in doctor.versions().items():
        print(f"{name:10} {version}")
    print()
    healthy = 0
    for backend in BACKENDS[1:]:
        works, line = doctor.check(backend)
        healthy += works
        print(f"{backend:10} {'ok ' if works else '-- '} {line}", flush=True)
    return 0 if healthy else 2
