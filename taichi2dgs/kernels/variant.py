"""What a set of kernels is compiled for."""

from dataclasses import dataclass
from typing import Any

import taichi as ti


@dataclass(frozen=True)
class Variant:
    """One set of kernels: equal variants share it.

    Args:
        channels: colour channels C.
        top_k: K, how many Gaussians a pixel blends; without meaning where blend is "sum".
        blend: "normalized" (paper Eq. 3 over the top K) or "sum" (all Gaussians, no denominator).
        double: whether numbers are float64.
        shape: what columns 2 to 4 of the parameters are, see `binning.py`.
        loss: of a fit, see `residual.py`.
        tile: whether pictures wrap around, see `copies.py`.
        weighted: whether the target of a fit has a weight for each pixel, behind its channels.
    """

    channels: int
    top_k: int
    blend: str
    double: bool = False
    shape: str = "scale-rotation"
    tile: bool = False
    loss: str = "l2"
    weighted: bool = False

    @property
    def normalized(self) -> bool:
        """Whether a pixel's colours are divided by the sum of its weights."""
        return self.blend == "normalized"

    @property
    def copies(self) -> int:
        """Slots of a Gaussian, see `copies.py`."""
        return 9 if self.tile else 1

    @property
    def columns(self) -> int:
        """Numbers of a pixel of the target: its channels, and its weight if there are weights."""
        return self.channels + self.weighted

    @property
    def real(self) -> Any:
        """The type of numbers that are not whole."""
        return ti.f64 if self.double else ti.f32
