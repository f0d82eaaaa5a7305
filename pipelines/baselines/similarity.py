"""Structural similarity, by a package that only some methods and the benchmarks need."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5  # pixels


def similarity_to(image: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the structural similarity to an image, as a function of another. [H, W, C]"""
    package, target = similarity_package(), _planes(image)
    # The package would make its window anew at every call, on the CPU.
    offset = torch.arange(SSIM_WINDOW, dtype=torch.float32, device=image.device) - SSIM_WINDOW // 2
    window = (-offset.square() / (2 * SSIM_SIGMA**2)).exp()
    window = (window / window.sum()).repeat(image.shape[2], 1, 1, 1)
    return lambda out: package.ssim(_planes(out), target, data_range=1.0, win=window)


def similarity_package() -> ModuleType:
    """Return pytorch_msssim.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import pytorch_msssim
    except ImportError as error:
        raise ImportError(
            "SSIM needs the package pytorch-msssim; pip install 'taichi2dgs[bench]'"
        ) from error
    return pytorch_msssim


def _planes(image: Tensor) -> Tensor:
    """Return a batch of one, channels last in memory: on CPU, SSIM takes 41 ms then, not 108."""
    return image.permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
