"""Curves of quality against rate: what they have at a rate, and how far one is from another."""

from __future__ import annotations

import math

import numpy as np

Curve = list[tuple[float, float]]  # bits a pixel and quality, of one picture


def rising(curve: Curve) -> Curve:
    """Return the points of a curve, from the lowest rate on, that are better than all before."""
    kept: Curve = []
    for rate, quality in sorted(curve):
        if not kept or (quality > kept[-1][1] and rate > kept[-1][0]):
            kept.append((rate, quality))
    return kept


def at(curve: Curve, rate: float) -> float | None:
    """Return the quality at a rate, linear in the logarithm of the rate; None beyond the curve.

    Halfway, in this sense, between 30 dB at 0.25 bits a pixel and 34 dB at 1.0 are 32 dB at 0.5.
    """
    points = rising(curve)
    if not points or not points[0][0] <= rate <= points[-1][0]:
        return None
    rates, qualities = zip(*points, strict=True)
    return float(np.interp(math.log(rate), np.log(rates), qualities))


def bd_rate(curve: Curve, reference: Curve) -> float | None:
    """Return Bjontegaard's mean difference in rate at equal quality, in per cent of the reference.

    Logarithms of rates are interpolated over quality by monotone cubics, as is usual today, and
    averaged over the qualities that both curves have; None if they have none in common.
    """
    from scipy.interpolate import PchipInterpolator

    logs, ranges = [], []
    for points in (rising(curve), rising(reference)):
        if len(points) < 2:
            return None
        rates, qualities = zip(*points, strict=True)
        logs.append(PchipInterpolator(qualities, np.log(rates)))
        ranges.append((qualities[0], qualities[-1]))
    low, high = max(first for first, _ in ranges), min(last for _, last in ranges)
    if low >= high:
        return None
    means = [float(log.integrate(low, high)) / (high - low) for log in logs]
    return 100 * math.expm1(means[0] - means[1])
