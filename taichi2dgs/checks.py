"""Checks of arguments that many functions share. A message says what came and what is expected."""

from __future__ import annotations

import math
import numbers
import operator
import re

LONGEST = 200  # characters of a value in a message
MAX_SIDE = 2**31 - 1  # pixels, which kernels count in 32 bits


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


def checked_size(size: object, name: str) -> tuple[int, int]:
    """Return (height, width) as two positive ints, or raise ValueError naming the argument."""
    extents = wholes(size, 2)
    if extents is None or min(extents) < 1:
        raise ValueError(
            f"{name}={shown(size)}; expected two positive whole numbers of pixels, (height, width)"
        )
    if max(extents) > MAX_SIDE:
        raise ValueError(f"{name}={shown(size)}; expected at most {MAX_SIDE} pixels a side")
    return extents[0], extents[1]
