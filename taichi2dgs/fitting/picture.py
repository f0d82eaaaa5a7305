"""One picture of a fit, which may have many."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """

    target: Tensor
    params: Tensor
    frozen: Tensor | None = None
    name: str = ""
    order: Tensor | None = None

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
        """Side of the square that each Gaussian has to itself, in pixels."""
        return math.sqrt(self.size[0] * self.size[1] / len(self.params))

    @functools.cached_property
    def phases(self) -> list[Tensor]:
        """What steps between the pixels see, see `between.phases`."""
        return between.phases(self.target)
