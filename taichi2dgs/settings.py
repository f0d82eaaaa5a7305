"""How Gaussians blend, and the names of what else a caller chooses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from taichi2dgs.checks import number, shown, whole

MAX_CHANNELS = 16  # the most channels of a picture
MAX_TOP_K = 64
MIN_EPS = 1.2e-38  # float32 has smaller numbers, but not every device that divides by them
BLENDS = ("normalized", "sum")
LOSSES = ("l2", "l1", "charbonnier")
BACKENDS = ("auto", "cuda", "vulkan", "metal", "opengl", "cpu")
QUALITIES = {"lossless": None, "high": 0.97, "medium": 3.65, "small": 7.0}  # factors of the steps
# Formats of data sets, and the endings of their files.
SETS = {"npz": ".npz", "parquet": ".parquet", "webdataset": ".tar"}
DTYPES = ("float32", "float16")  # of their arrays
Blend = Literal["normalized", "sum"]
Loss = Literal["l2", "l1", "charbonnier"]
Quality = Literal["lossless", "high", "medium", "small"]


@dataclass(frozen=True)
class RenderSettings:
    """How Gaussians are blended.

    Args:
        top_k: Gaussians that a pixel may blend, the nearest in units of their own scale (1 to 64).
            The "sum" blend takes all.
        cutoff: radius of the support in standard deviations.
        eps: added to the denominator of the normalised blend, 1.2e-38 or more.
        blend: "normalized" (paper Eq. 3) or "sum" (the accumulated sum of GaussianImage).
        tile: whether the picture is a texture that wraps around: what of a Gaussian leaves at one
            edge comes in at the other. A Gaussian counts once within the picture, and once in each
            of the eight places one width or height away.

    >>> RenderSettings(top_k=5).but(blend="sum")
    RenderSettings(top_k=5, cutoff=4.5, eps=0.0001, blend='sum', tile=False)
    """

    top_k: int = 10
    cutoff: float = 4.5
    eps: float = 1e-4
    blend: str = "normalized"
    tile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "top_k", whole(self.top_k, "top_k", 1, MAX_TOP_K))
        if not 0 < number(self.cutoff) <= 12:
            raise ValueError(f"cutoff={shown(self.cutoff)}; expected 0 < cutoff <= 12")
        if not MIN_EPS <= number(self.eps) < math.inf:
            raise ValueError(f"eps={shown(self.eps)}; expected a number of at least {MIN_EPS}")
        for name in ("cutoff", "eps"):
            object.__setattr__(self, name, number(getattr(self, name)))
        if not isinstance(self.blend, str) or self.blend not in BLENDS:
            raise ValueError(f"blend={shown(self.blend)}; expected one of {', '.join(BLENDS)}")
        if not isinstance(self.tile, bool):
            raise ValueError(f"tile={shown(self.tile)}; expected True or False")

    def but(self, **changes: Any) -> RenderSettings:
        """Return these settings with those changes that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)


DEFAULT = RenderSettings()
