"""One picture of a fit, which may have many."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

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
    """

    target: Tensor
    params: Tensor
    frozen: Tensor | None = None
    name: str = ""

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
