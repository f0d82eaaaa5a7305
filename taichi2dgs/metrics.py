"""Image quality."""

from __future__ import annotations

import math

from torch import Tensor

from taichi2dgs.tensors import is_dense, kind_of


def psnr(image: Tensor, reference: Tensor, *, rounded: bool = False) -> float:
    """Return the peak signal-to-noise ratio of an image in dB, for a peak of 1.

    Args:
        image: clamped to [0, 1] first. [H, W, C]
        reference: in [0, 1]. [H, W, C]
        rounded: also round the image to 8 bits, as a saved file would be.

    Raises:
        ValueError: the shapes or devices differ, or either is no tensor of floats.

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
    return psnr_of_mse(float((image - reference.double()).square().mean()))


def psnr_of_mse(mse: float) -> float:
    """Return the PSNR in dB of a mean squared error, infinite for 0."""
    return math.inf if mse == 0 else -10 * math.log10(mse)
