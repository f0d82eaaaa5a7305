"""Pictures on disk, and the files of every other kind that are written."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from taichi2dgs.storage.paths import (
    WriteError,
    check_writable,
    is_stream,
    one_line,
    replacing,
    writing,
)
from taichi2dgs.storage.pictures import as_image, encoded, format_of, read_image, values

__all__ = [
    "WriteError",
    "as_image",
    "check_writable",
    "is_stream",
    "one_line",
    "read_image",
    "replacing",
    "write_image",
    "writing",
]

GLARE = 4.0  # an image of which a tenth is brighter is one of 0 to 255


def write_image(path: str | os.PathLike[str], image: Tensor | np.ndarray | Image.Image) -> None:
    """Write an image, clamped and rounded to 8 bits; the file appears complete or not at all.

    A link stays, and what it points to is replaced; a pipe or device has the picture written to it.

    Args:
        path: its ending names the format: .png, .jpg, .webp, .tif or .bmp.
        image: values in [0, 1], 1 to 4 channels; of 2 or 4, the last is the opacity, by which the
            others are multiplied. JPEG and BMP have none, and get the image on white. Or what
            `read_image` makes an image of: a PIL image, or integers of 8 or 16 bits. [H, W, C]

    Raises:
        ValueError: the format cannot hold the image, its values are not what is said above, or
            the file cannot be written.

    >>> import torch
    >>> write_image("grey.png", torch.linspace(0, 1, 64).reshape(8, 8, 1))
    """
    whole = values(image)
    if whole.shape[2] > 4:
        raise ValueError(f"image has shape {list(whole.shape)}; expected [H, W, 1 to 4]")
    if float((whole > GLARE).float().mean()) > 0.1:
        raise ValueError(f"image has floats up to {float(whole.max()):g}; expected [0, 1]")
    kind = format_of(path)
    picture, options = encoded(whole, kind)
    with writing(path) as temporary:
        _save(picture, temporary, kind, options)


def _save(picture: Image.Image, path: str, kind: str, options: dict[str, Any]) -> None:
    try:
        picture.save(path, kind, **options)
    except SystemError as error:  # some codecs raise it
        raise OSError(one_line(error)) from error
