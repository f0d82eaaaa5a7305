"""How much each pixel of a picture counts."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi2dgs.storage import decoding, pictures
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.paths import named, one_line
from taichi2dgs.storage.stored import scaled
from taichi2dgs.tensors import is_dense, kind_of


def weight_of(image: Any, weight: Any, size: tuple[int, int]) -> Tensor | None:
    """Return the weights of a picture's pixels, of which the largest is 1. [H, W]

    Args:
        image: the picture; a stack may have weights of its own.
        weight: as `taichi2dgs.fit` takes it; those of the image if None.
        size: (height, width) of the picture in pixels.

    Returns:
        float32 on the CPU, or None where all pixels count alike.

    Raises:
        ValueError: it is of another size, has a number that is negative or not finite, or has
            nothing but 0; the message names it, or its file.
    """
    if weight is None and isinstance(image, Stack):
        weight = image.weight
    if weight is None:
        return None
    label, numbers = _read(weight)
    if numbers.shape != size:
        found, wanted = ("x".join(map(str, shape)) for shape in (numbers.shape, size))
        raise ValueError(f"{label} has {found} pixels; expected {wanted}, as the image")
    low, high = float(numbers.min()), float(numbers.max())
    if not 0 <= low <= high < np.inf:  # NaN is in no range
        raise ValueError(f"{label} has numbers from {low:g} to {high:g}; expected 0 or more")
    if high == 0:
        raise ValueError(f"{label} is 0 everywhere; expected a pixel that counts")
    return (numbers / high).float()


def _read(weight: Any) -> tuple[str, Tensor]:
    """Return what errors call weights, and these as float64. [H, W]"""
    if isinstance(weight, str | os.PathLike):
        label = named(weight)
        stack = pictures.read_picture(weight, is_data=True)
        return label, _grey(stack.maps[0].values(stack.image), label).double()
    if isinstance(weight, Image.Image):
        try:
            pixels = decoding.pixels_of(weight, None, "weight")
        except Exception as error:  # PIL images may be decoded only now, and raise anything
            raise ValueError(f"weight cannot be decoded ({one_line(error)})") from error
        return "weight", _grey(scaled(pixels, "weight", is_multiplied=True), "weight").double()
    try:
        given = torch.as_tensor(weight)
        numbers = given.detach().cpu().double() if is_dense(given) else given
    except (TypeError, ValueError, RuntimeError):
        given = numbers = weight
    if not is_dense(numbers) or given.is_complex() or numbers.ndim != 2 or not numbers.numel():
        raise ValueError(f"weight is {kind_of(given)}; expected numbers of 0 or more, [H, W]")
    return "weight", numbers


def _grey(image: Tensor, label: str) -> Tensor:
    """Return the only channel of a grey picture, also if saved as RGB or RGBA. [H, W]"""
    colors = image[..., :-1] if image.shape[2] in (2, 4) else image
    opaque = image.shape[2] not in (2, 4) or bool((image[..., -1] == 1).all())
    if not opaque or not bool((colors == colors[..., :1]).all()):
        raise ValueError(f"{label}: a picture with colours or transparency; expected a grey one")
    return colors[..., 0]
