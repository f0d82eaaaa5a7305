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
    """

    channels: int
    top_k: int
    blend: str
    double: bool = False
    shape: str = "scale-rotation"

    @property
    def normalized(self) -> bool:
        """Whether a pixel's colours are divided by the sum of its weights."""
        return self.blend == "normalized"

    @property
    def real(self) -> Any:
        """The type of numbers that are not whole."""
        return ti.f64 if self.double else ti.f32
