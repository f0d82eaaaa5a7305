"""How Gaussians blend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

MAX_TOP_K = 64
MIN_EPS = 1.2e-38  # float32 has smaller numbers, but not every device that divides by them
BLENDS = ("normalized", "sum")


@dataclass(frozen=True)
class RenderSettings:
    """How Gaussians are blended.

    Args:
        top_k: Gaussians that a pixel may blend, the nearest in units of their own scale (1 to 64).
            The "sum" blend takes all.
        cutoff: radius of the support in standard deviations.
        eps: added to the denominator of the normalised blend, 1.2e-38 or more.
        blend: "normalized" (paper Eq. 3) or "sum" (the accumulated sum of GaussianImage).
    """

    top_k: int = 10
    cutoff: float = 4.5
    eps: float = 1e-4
    blend: str = "normalized"

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, int) or not 1 <= self.top_k <= MAX_TOP_K:
            raise ValueError(f"top_k={self.top_k!r}; expected a whole number in 1..{MAX_TOP_K}")
        if not 0 < self.cutoff <= 12:
            raise ValueError(f"cutoff={self.cutoff!r}; expected 0 < cutoff <= 12")
        if not MIN_EPS <= self.eps < math.inf:
            raise ValueError(f"eps={self.eps!r}; expected a number of at least {MIN_EPS}")
        if self.blend not in BLENDS:
            raise ValueError(f"blend={self.blend!r}; expected one of {', '.join(BLENDS)}")

    def but(self, **changes: Any) -> RenderSettings:
        """Return these settings with those changes that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)


DEFAULT = RenderSettings()
