"""How Gaussians blend."""

from __future__ import annotations

import math
import numbers
import operator
import re
from dataclasses import dataclass, replace
from typing import Any

MAX_TOP_K = 64
MIN_EPS = 1.2e-38  # float32 has smaller numbers, but not every device that divides by them
LONGEST = 200  # characters of a value in a message
BLENDS = ("normalized", "sum")


def shown(value: object) -> str:
    """Return how a value looks in a message: on one line, and not too long."""
    try:
        text = re.sub(r"\s*\n\s*", " ", repr(value))
    except Exception:  # a whole number of thousands of digits, for one, has no text
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def whole(value: object, name: str, least: int, most: int | None = None) -> int:
    """Return a whole number as an int, whatever library made it, or raise ValueError.

    Args:
        value: an int, or an integer of NumPy or torch; booleans are not numbers.
        name: of the argument, for the message.
        least, most: the range that it must lie in; without an upper end if `most` is None.

    Raises:
        ValueError: it is no whole number, or out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or number < least or (most is not None and number > most):
        wanted = f"of {least} or more" if most is None else f"in {least}..{most}"
        raise ValueError(f"{name}={shown(value)}; expected a whole number {wanted}")
    return number


def wholes(values: object, count: int) -> tuple[int, ...] | None:
    """Return so many whole numbers, which may come as floats, as ints; None if they are not."""
    if isinstance(values, str | bytes):
        return None
    try:
        given = list(values)  # type: ignore[call-overload]
    except (TypeError, ValueError, RuntimeError):
        return None
    reals = [number(value) for value in given]
    if len(reals) != count or not all(real.is_integer() for real in reals):
        return None
    return tuple(int(value) for value in given)


def number(value: object) -> float:
    """Return a number as a float; what is no number as NaN, which lies in no range."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # of NumPy or torch
        try:
            value = value.item()  # type: ignore[attr-defined]
        except (TypeError, ValueError, RuntimeError):  # a meta tensor, for one, has none
            return math.nan
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # a whole number beyond all floats
        return math.nan


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
        object.__setattr__(self, "top_k", whole(self.top_k, "top_k", 1, MAX_TOP_K))
        if not 0 < number(self.cutoff) <= 12:
            raise ValueError(f"cutoff={shown(self.cutoff)}; expected 0 < cutoff <= 12")
        if not MIN_EPS <= number(self.eps) < math.inf:
            raise ValueError(f"eps={shown(self.eps)}; expected a number of at least {MIN_EPS}")
        for name in ("cutoff", "eps"):
            object.__setattr__(self, name, number(getattr(self, name)))
        if not isinstance(self.blend, str) or self.blend not in BLENDS:
            raise ValueError(f"blend={shown(self.blend)}; expected one of {', '.join(BLENDS)}")

    def but(self, **changes: Any) -> RenderSettings:
        """Return these settings with those changes that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)


DEFAULT = RenderSettings()
