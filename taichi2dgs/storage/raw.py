"""What a reader of picture files finds in one, and how it refuses one."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

MAX_PIXELS = 1 << 26  # 8192 x 8192, twice 8K; checked before anything is decoded


class RefusedError(Exception):
    """A picture that is whole, but not of a kind that is read."""


class Raw(NamedTuple):
    """Pixels as a file has them, and what is yet to be done with them.

    Args:
        pixels: unsigned integers or floats. [H, W] or [H, W, 3]
        opacity: of the same type, if there is any. [H, W]
        space: the ICC profile of the colours, if any.
        orientation: how the picture is to be turned, as EXIF numbers it.
        is_light: whether floats are linear light, and not plain numbers.
        is_multiplied: whether colours are multiplied by the opacity.
    """

    pixels: np.ndarray
    opacity: np.ndarray | None = None
    space: bytes | None = None
    orientation: int = 1
    is_light: bool = False
    is_multiplied: bool = False


def check_pixels(height: int, width: int) -> None:
    """Raise RefusedError if a picture has too many pixels to be decoded."""
    if height * width > MAX_PIXELS:
        raise RefusedError(f"{height}x{width} pixels; expected {MAX_PIXELS} at most")


def package(name: str, extra: str, what: str) -> Any:
    """Return a package that an extra brings.

    Raises:
        RefusedError: it is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RefusedError(
            f"{what}; needs {name.replace('_', '-')}: install the extra, taichi2dgs[{extra}]"
        ) from None
