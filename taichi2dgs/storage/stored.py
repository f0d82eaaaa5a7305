"""Decoded pixels as stored values: what images have, and Gaussians are fitted to."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.settings import MAX_CHANNELS
from taichi2dgs.storage.decoding import Decoded
from taichi2dgs.storage.maps import MOST, Map, Stack

OVER = 1e-3  # by which rounding, of float16 too, may take floats out of [0, 1]


def stack_of(found: Decoded, label: str, name: str = "", is_data: bool = False) -> Stack:
    """Return decoded pixels as a stack of one map; see `read_picture`.

    Args:
        found: the pixels.
        label: what an error calls the picture.
    """
    if found.pixels.dtype.kind == "f":
        return _of_floats(found, label, name, is_data)
    multiplied = is_data or found.is_multiplied
    image = scaled(found.pixels, label, multiplied)
    bits = 16 if found.pixels.dtype == np.uint16 else 8
    if (name, is_data, bits) == ("", False, 8) or image.shape[2] > MOST:
        return Stack(image)
    kind = "data" if is_data else "srgb"
    return Stack(image, (Map(name, image.shape[2], kind, bits),))


def _of_floats(found: Decoded, label: str, name: str, is_data: bool) -> Stack:
    """Return floats with their range: light by a curve, as sRGB if nothing is beyond white."""
    pixels = found.pixels if found.pixels.ndim == 3 else found.pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] > MOST:
        raise ValueError(f"{label}: pixels of shape {list(pixels.shape)}; expected one picture")
    with np.errstate(over="ignore"):
        image = torch.from_numpy(pixels.astype(np.float32, order="C"))
    if not bool(torch.isfinite(image).all()):
        raise ValueError(f"{label}: pixels that are not finite; expected numbers")
    if is_data or not found.is_light:
        low, high = float(image.min()), float(image.max())
        if 0 <= low <= high <= 1:
            low, high = 0.0, 1.0
        elif low == high:
            high = low + 1 + abs(low)
        kind = "data"
    else:
        color = image
        if has_alpha(image):
            alpha = image[..., -1:].clamp_(0, 1)
            if not found.is_multiplied:
                image[..., :-1] *= alpha
            color = torch.where(alpha > 0.5 / 255, image[..., :-1] / alpha, 0.0)
        low, high = 0.0, float(color.max())
        kind, high = ("srgb", 1.0) if high <= 1 + OVER else ("pq", high)
    try:
        one = Map(name, image.shape[2], kind, 32, low, high)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    return Stack(one.stored(image), (one,))


def has_alpha(image: Tensor) -> bool:
    """Whether the last channel of an image is its opacity. [H, W, C]"""
    return image.shape[2] in (2, 4)


def scaled(pixels: np.ndarray, name: str, is_multiplied: bool = False) -> Tensor:
    """Bring decoded pixels to float32 [H, W, C] in [0, 1], multiplied by the opacity."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.shape[2] > MAX_CHANNELS:
        raise ValueError(f"{name}: pixels of shape {list(pixels.shape)}; expected one picture")
    if pixels.dtype.kind not in "bu" or pixels.dtype.itemsize > 2:
        raise ValueError(f"{name}: pixels of type {pixels.dtype}; expected 8 or 16 bits")
    peak = 1 if pixels.dtype == np.bool_ else np.iinfo(pixels.dtype).max
    image = torch.from_numpy(pixels.astype(np.float32, order="C")).div_(peak)
    if has_alpha(image) and not is_multiplied:
        image[..., :-1] *= image[..., -1:]
    return image
