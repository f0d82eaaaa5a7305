"""Image quality."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from taichi2dgs.tensors import is_dense, kind_of


def psnr(
    image: Tensor, reference: Tensor, *, rounded: bool = False, weight: Tensor | None = None
) -> float:
    """Return the peak signal-to-noise ratio of an image in dB, for a peak of 1.

    Args:
        image: clamped to [0, 1] first. [H, W, C]
        reference: in [0, 1]. [H, W, C]
        rounded: also round the image to 8 bits, as a saved file would be.
        weight: how much each pixel counts in the mean of squared errors, 0 or more; None for all
            alike. [H, W]

    Raises:
        ValueError: the shapes or devices differ, one is no tensor of floats, or weights are
            negative or not finite, or all 0.

    >>> import torch
    >>> round(psnr(torch.full((4, 4, 3), 0.6), torch.full((4, 4, 3), 0.5)), 2)
    20.0
    """
    for name, given in (("image", image), ("reference", reference)):
        if not is_dense(given) or not given.is_floating_point():
            raise ValueError(f"{name} is {kind_of(given)}; expected a dense tensor of floats")
    if image.shape != reference.shape or image.device != reference.device:
        raise ValueError(
            f"image has shape {list(image.shape)}, on {image.device}; expected "
            f"{list(reference.shape)}, on {reference.device}, as reference"
        )
    image = image.clamp(0, 1).double()
    if rounded:
        image = (image * 255).round() / 255
    errors = (image - reference.double()).square()
    if weight is None:
        return psnr_of_mse(float(errors.mean()))
    _check_weight(weight, image)
    shares = weight.double() / weight.double().max()
    return psnr_of_mse(float((errors.mean(2) * shares).sum() / shares.sum()))


def _check_weight(weight: object, image: Tensor) -> None:
    if not is_dense(weight) or weight.is_complex():
        raise ValueError(f"weight is {kind_of(weight)}; expected a dense tensor, or None")
    if weight.shape != image.shape[:2] or image.ndim != 3 or weight.device != image.device:
        raise ValueError(
            f"weight has shape {list(weight.shape)}, on {weight.device}; expected "
            f"{list(image.shape[:2])}, on {image.device}, as image [H, W, C]"
        )
    if not bool((weight >= 0).all() & torch.isfinite(weight).all() & (weight > 0).any()):
        raise ValueError("weight has numbers below 0 or not finite, or is 0; expected 0 or more")


def psnr_of_mse(mse: float) -> float:
    """Return the PSNR in dB of a mean squared error, infinite for 0."""
    return math.inf if mse == 0 else -10 * math.log10(mse)
