"""Finding a number of Gaussians by trying some."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

TRIES = 5  # results of one search, at most
Result = TypeVar("Result")


def search(
    results: list[Result],
    attempt: Callable[[int], Result],
    off: Callable[[Result], float],
    k: int,
    slope: float,
    within: tuple[float, float],
    most: int,
) -> None:
    """Try numbers of Gaussians until one is off by little enough.

    Args:
        results: to which all results are added, so that an exception leaves those made before it.
        attempt: makes a result.
        off: how far that is from what is wanted; about linear in log k.
        k: the first to try.
        slope: of that line, before two results have shown it.
        within: range of `off` that is good enough.
        most: the largest k.
    """
    tried: dict[int, float] = {}
    k = max(1, min(k, most))
    while len(results) < TRIES and k not in tried:
        results.append(attempt(k))
        tried[k] = off(results[-1])
        if within[0] <= tried[k] <= within[1]:
            break
        nearest = sorted(tried, key=lambda other: abs(tried[other]))[:2]
        if len(nearest) == 2:
            measured = (tried[nearest[0]] - tried[nearest[1]]) / math.log(nearest[0] / nearest[1])
            slope = min(max(measured, slope / 2), slope * 2)
        k = max(1, min(round(nearest[0] * math.exp(-tried[nearest[0]] / slope)), most))
