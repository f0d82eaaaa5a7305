"""Pictures on disk, and the files of every other kind that are written."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from taichi2dgs.checks import shown, whole
from taichi2dgs.storage import exr, png, tiff
from taichi2dgs.storage.maps import MOST, Map
from taichi2dgs.storage.paths import (
    WriteError,
    check_writable,
    is_stream,
    named,
    one_line,
    replacing,
    writing,
)
from taichi2dgs.storage.pictures import as_image, encoded, format_of, levels, read_image, values

__all__ = [
    "WriteError",
    "as_image",
    "check_writable",
    "is_stream",
    "one_line",
    "read_image",
    "replacing",
    "write_image",
    "write_map",
    "writing",
]

DEPTHS = {"PNG": (8, 16), "TIFF": (8, 16, 32), "EXR": (16, 32)}  # of the others 8 bits only
GLARE = 4.0  # an image of which a tenth is brighter is one of 0 to 255


def write_image(
    path: str | os.PathLike[str], image: Tensor | np.ndarray | Image.Image, bits: int | None = None
) -> None:
    """Write an image, clamped and rounded; the file appears complete or not at all.

    A link stays, and what it points to is replaced; a pipe or device has the picture written to it.

    Args:
        path: its ending names the format: .png, .jpg, .webp, .tif, .bmp or .exr.
        image: values in [0, 1], 1 to 4 channels; of 2 or 4, the last is the opacity, by which the
            others are multiplied. JPEG and BMP have none, and get the image on white. Or what
            `read_image` makes an image of: a PIL image, or integers of 8 or 16 bits. [H, W, C]
        bits: of a channel: 8; 16 of .png, .tif and .exr; 32 of .tif and .exr. Those of .exr, and
            32 bits of colours, are floats of linear light. 8 if None, of .exr 32.

    Raises:
        ValueError: the format cannot hold the image, or needs a package that is not there, its
            values are not what is said above, or the file cannot be written.

    >>> import torch
    >>> write_image("grey.png", torch.linspace(0, 1, 64).reshape(8, 8, 1), bits=16)
    """
    whole_image = values(image)
    channels = whole_image.shape[2]
    if channels > MOST:
        raise ValueError(f"image has shape {list(whole_image.shape)}; expected [H, W, 1 to {MOST}]")
    if float((whole_image > GLARE).float().mean()) > 0.1:
        raise ValueError(f"image has floats up to {float(whole_image.max()):g}; expected [0, 1]")
    write_map(path, whole_image, Map(channels=channels), bits)


def write_map(
    path: str | os.PathLike[str], stored: Tensor, one: Map, bits: int | None = None
) -> None:
    """Write a map as a picture: integers as they are shown, floats as what they stand for.

    Args:
        path: see `write_image`.
        stored: values in [0, 1]. [H, W, C]
        one: what they are.
        bits: see `write_image`; as many as the map has, where the format has them, if None.

    Raises:
        ValueError: see `write_image`.
    """
    kind = format_of(path)
    bits = _checked_bits(path, kind, one.bits, bits)
    is_float = bits == 32 or kind == "EXR"
    if not is_float and bits == 8:
        picture, options = encoded(one.shown(stored), kind, one.kind != "data")
        with writing(path) as temporary:
            _save(picture, temporary, kind, options)
        return
    if is_float:
        pixels = _floats(stored, one, kind).numpy()
        pixels = pixels.astype(np.float16 if bits == 16 else np.float32)
    else:
        pixels = levels(one.shown(stored), kind, bits, one.kind != "data")
    with writing(path) as temporary:
        if kind == "PNG":
            png.write(temporary, pixels)
        elif kind == "EXR":
            exr.write(temporary, pixels)
        else:
            tiff.write(temporary, pixels, is_float and one.kind != "data")


def _checked_bits(path: object, kind: str, own: int, bits: object) -> int:
    """Return how many bits a channel gets, or raise ValueError if the format has no such."""
    depths = DEPTHS.get(kind, (8,))
    if bits is None:
        return 32 if kind == "EXR" else max(depth for depth in depths if depth <= max(own, 8))
    if whole(bits, "bits", 8, 32) not in depths:
        wanted = " or ".join(map(str, depths))
        raise ValueError(f"{named(path)}: bits={shown(bits)}; expected {wanted}")
    return whole(bits, "bits", 8)


def _floats(stored: Tensor, one: Map, kind: str) -> Tensor:
    """Return what floats of a file hold: light of colours, numbers of data.

    Grey of sRGB is written to TIFF as it is, as floats of grey are read as plain numbers.
    """
    stored = stored.detach().cpu().float()
    if one.kind == "srgb" and kind == "TIFF" and one.channels == 1:
        return stored.clamp(0, 1)
    return one.light(stored)


def _save(picture: Image.Image, path: str, kind: str, options: dict[str, Any]) -> None:
    try:
        picture.save(path, kind, **options)
    except SystemError as error:  # some codecs raise it
        raise OSError(one_line(error)) from error
