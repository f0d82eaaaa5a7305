"""Options that several commands have, and how their texts are read."""

from __future__ import annotations

import argparse
import re

from pipelines.defaults import AUTO
from taichi2dgs.settings import BACKENDS


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add --backend."""
    parser.add_argument("--backend", metavar="NAME", help=f"{', '.join(BACKENDS)} (auto)")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add --quiet. Where the output is no terminal, bars are quiet anyway: see `hidden`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def hidden(quiet: bool) -> bool | None:
    """Return tqdm's `disable`: None shows a bar on a terminal only."""
    return True if quiet else None


def count(text: str) -> int | str:
    """Read a number of Gaussians, or "auto"."""
    if text == AUTO or re.fullmatch(r"[+-]?\d+", text):
        return text if text == AUTO else int(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number or {AUTO}")


def shard(text: str) -> tuple[int, int]:
    """Read I/N, the I-th of N parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N with 1 <= I <= N, such as 1/8")
    return int(match[1]), int(match[2])


def size(text: str) -> tuple[int, int]:
    """Read HxW, a height and a width in pixels."""
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}; expected HxW, such as 1080x1920")
    return int(match[1]), int(match[2])


def crop(text: str) -> tuple[int, int, int, int]:
    """Read TOP,LEFT,HxW, a rectangle of pixels."""
    match = re.fullmatch(r"(\d+),(\d+),(.+)", text)
    try:
        height, width = size(match[3] if match else "")
    except argparse.ArgumentTypeError:
        expected = "TOP,LEFT,HxW, such as 0,128,512x512"
        raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}") from None
    assert match
    return int(match[1]), int(match[2]), height, width
