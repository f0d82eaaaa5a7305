"""One picture of a fit, which may have many."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.fitting import between


@dataclass(frozen=True, eq=False)
class Picture:
    """What Gaussians are to show, and which they are when the fit begins.

    Args:
        target: [H, W, C]
        params: packed. [N, 5 + C]
        frozen: which Gaussians stay as they are; None for none. bool [N]
        name: of the picture in messages, where there are several.
        order: where each Gaussian belongs in the order of the result: that of those that came in,
            behind which those follow that were added; as they are if None. [N]
        weight: how much each pixel counts, from 0 to 1; None for all alike. [H, W]
        tile: whether it wraps around.
    """

    target: Tensor
    params: Tensor
    frozen: Tensor | None = None
    name: str = ""
    order: Tensor | None = None
    weight: Tensor | None = None
    tile: bool = False

    @property
    def places(self) -> Tensor:
        """Where each Gaussian belongs in the order of the result. [N]"""
        return torch.arange(len(self.params)) if self.order is None else self.order

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.target.shape[0], self.target.shape[1]

    @property
    def spacing(self) -> float:
        """Side of the square of pixels that count, that each Gaussian has to itself, in pixels."""
        count = self.size[0] * self.size[1]
        if self.weight is not None:
            count = int(self.weight.count_nonzero())
        return math.sqrt(count / len(self.params))

    @functools.cached_property
    def mass(self) -> float:
        """The number of values, C for each pixel, or the sum of their weights."""
        if self.weight is None:
            return self.target.numel()
        return float(self.weight.sum(dtype=torch.float64)) * self.target.shape[2]

    @functools.cached_property
    def phases(self) -> list[Tensor]:
        """What steps between the pixels see, see `between.phases`."""
        return between.phases(self.target, self.tile)

    @functools.cached_property
    def phase_weight(self) -> Tensor | None:
        """How much each pixel counts in such a step: see `between.inner_weight`."""
        return None if self.weight is None else between.inner_weight(self.weight)


def check_memory(pictures: Sequence[Picture], counts: Sequence[int]) -> None:
    """Raise ValueError if a fit of pictures by so many Gaussians needs more memory than the limit.

    Args:
        pictures: one or more, of as many channels each.
        counts: of the Gaussians of each.
    """
    height, width, channels = pictures[0].target.shape
    n, where = sum(counts), f"{height}x{width}"
    if len(pictures) > 1:
        pixels = [math.prod(picture.size) for picture in pictures]
        height, width, where = sum(pixels), 1, f"{len(pixels)} images"
    what = f"gaussians of {n} for {where}"
    limits.check_fit(what, height, width, channels, n, runtime.is_gpu())
