"""What searches for a number of Gaussians aim at, and what tells them how far off they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np
from torch import Tensor

from nets.detail import gradient_magnitude
from taichi2dgs.fitting.options import FitResult, Report
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import t2d

AUTO_PSNR = 38.0  # dB, about what an automatic number reaches
# Of 12 training photographs, fitted for 60 steps: Gaussians per pixel that reach AUTO_PSNR are
# DENSITY * detail ** POWER, to within a factor of 1.23 in two cases of three.
# benchmarks/calibrate_count.py measures them.
DENSITY, POWER = 6.82, 1.83
# While d, the Gaussians per pixel, grow e-fold, STEEP * d ** STEEPER dB are gained: 4 dB at one for
# 64 pixels, 11 at one for 5 (9 training photographs, 60 to 600 steps; calibrate_gain.py).
STEEP, STEEPER = 20.8, 0.39
# What a fit is still to gain after a share of its budget, in dB, is a sum of so much of each of its
# `signs`; earlier than that it is anybody's guess. And with the whole budget it ends above a fit of
# PROBE of it by a sum of so much of each of `probe_signs`. Of 4 training photographs, after 100 and
# 300 steps, they are off by 0.2, 0.15 and 0.7 dB (calibrate_gain.py --images 4 --crop 160 --steps
# 100 300); of 10, also after 30, 60, 200 and 600 steps and each foretold by the others, by 0.9 and
# 0.4 dB.
GAIN = {
    0.4: (0.056, -0.014, 1.800, -0.002, -0.285, 0.066, 0.049),
    0.5: (0.368, -0.006, 1.495, 0.116, -0.320, 0.060, -0.004),
}
PROBE, PROBE_GAIN = 0.15, (5.333, -1.232, -3.338, 0.742)
# dB by which a fit must be going to end too high, after those shares, for Gaussians to go, and the
# share of it that is made up for. They go once, since that makes the signs of the next moment void.
# None come: so late that costs 0.2 to 0.4 dB. So fits begin with a few more than foretold.
MISSED, MENDED = {0.4: 1.0, 0.5: 0.35}, {0.4: 0.6, 0.5: 1.0}
SPARE = 0.3  # dB
MORE = 0.25  # dB that a fit gains by going on, with whatever number
USUAL_STEPS, USUAL_EACH = 200, 5.2  # of a fit; pixels for each of its Gaussians
STEPS, EACH = (30, 600), (3.0, 120.0)  # what was measured
TENTH = 0.1  # of a budget
PSNR_WITHIN = 0.5  # dB that a result may be off its target
FILLED = (0.955, 0.98, 0.995)  # shares of the bytes: least, aimed at, most; refining adds a little
SETTLED = 0.45  # share of the budget after which a file has nearly the bytes of the fit's end


def signs(psnr: float, risen: float, steps: float, each: float) -> list[float]:
    """Return what tells how much a fit is still to gain.

    Args:
        psnr: in dB, now.
        risen: by how much it has risen while a tenth of the budget was used.
        steps: of the whole fit.
        each: pixels for each Gaussian.
    """
    one, length, room, square = probe_signs(steps, each)
    return [one, psnr - AUTO_PSNR, risen, length, room, square, length * room]


def probe_signs(steps: float, each: float) -> list[float]:
    """Return what tells how much a fit gains over a short one; arguments as for `signs`."""
    length = math.log(min(max(steps, STEPS[0]), STEPS[1]) / USUAL_STEPS)
    room = math.log(min(max(each, EACH[0]), EACH[1]) / USUAL_EACH)
    return [1.0, length, room, room * room]


def automatic_count(image: Tensor, psnr: float = AUTO_PSNR, weight: Tensor | None = None) -> int:
    """Return how many Gaussians should reach a PSNR, from the picture's mean gradient magnitude.

    Args:
        image: values in [0, 1]. [H, W, C]
        psnr: in dB.
        weight: how much each pixel counts; None for all alike. [H, W]
    """
    details = gradient_magnitude(image.permute(2, 0, 1)[None].float())
    if weight is None:
        detail = float(details.mean())
    else:
        detail = float((details[0, 0].cpu() * weight).sum() / weight.sum())
    aim, pixels = PsnrAim(psnr, image, weight), counted(image, weight)
    level = aim.level(DENSITY * detail**POWER * pixels) + psnr - AUTO_PSNR
    return max(1, round(aim.count(min(level, aim.level(most(image, weight))))))


def counted(image: Tensor, weight: Tensor | None = None) -> int:
    """Return how many pixels count; arguments as of `automatic_count`."""
    if weight is not None:
        return int(weight.count_nonzero())
    return image.shape[0] * image.shape[1]


def most(image: Tensor, weight: Tensor | None = None) -> int:
    """Return how many Gaussians a search tries at most: one per pixel, or what a file holds."""
    return min(counted(image, weight), t2d.MAX_K)


class Aim(Protocol):
    """What a search is to end with."""

    within: tuple[float, float]  # how far off is good enough
    more: float  # by which results rise when they go on

    def off(self, seen: FitResult | Report) -> float:
        """Return how far off Gaussians are."""
        ...

    def ahead(self, used: float, report: Report, k: int) -> float | None:
        """Return how far off a fit of k Gaussians will end, told at a share of its budget.

        It is None where that moment tells nothing.
        """
        ...

    def beyond(self, probe: FitResult) -> float:
        """Return how far off a fit of the whole budget will end, told by one of PROBE of it."""
        ...

    def level(self, k: float) -> float:
        """Return what a result of k Gaussians is off, but for a number that no k changes."""
        ...

    def count(self, level: float) -> float:
        """Return the k of a level."""
        ...

    def rank(self, off: float) -> tuple[bool, float]:
        """Return whether a result is unacceptable, and a number that is lower for better ones."""
        ...


class PsnrAim:
    """A PSNR, to within PSNR_WITHIN.

    Args:
        psnr: in dB.
        image: [H, W, C]
        weight: how much each pixel counts; None for all alike. [H, W]
    """

    within, more = (-PSNR_WITHIN, PSNR_WITHIN), MORE

    def __init__(self, psnr: float, image: Tensor, weight: Tensor | None = None) -> None:
        self.psnr, self.pixels = psnr, counted(image, weight)
        self.before: tuple[float, float] | None = None  # share of the budget, and PSNR last time
        self.has_steered = False

    def off(self, seen: FitResult | Report) -> float:
        return seen.psnr - self.psnr

    def ahead(self, used: float, report: Report, k: int) -> float | None:
        before, self.before = self.before, (used, report.psnr)
        if before is None or used < min(GAIN) or used - before[0] < TENTH / 2:
            return None
        risen = (report.psnr - before[1]) * TENTH / (used - before[0])
        found = signs(report.psnr, risen, report.step / used, self.pixels / k)
        shares, weights = list(GAIN), zip(*GAIN.values(), strict=True)
        left = sum(
            np.interp(used, shares, own) * one for own, one in zip(weights, found, strict=True)
        )
        ahead = self.off(report) + max(0.0, float(left))
        if self.has_steered or ahead < np.interp(used, shares, list(MISSED.values())):
            return None
        self.has_steered = True
        return ahead * float(np.interp(used, shares, list(MENDED.values())))

    def beyond(self, probe: FitResult) -> float:
        steps, each = probe.steps / PROBE, self.pixels / len(probe.gaussians)
        return self.off(probe) + float(np.dot(PROBE_GAIN, probe_signs(steps, each))) - SPARE

    def level(self, k: float) -> float:
        return STEEP / STEEPER * (k / self.pixels) ** STEEPER

    def count(self, level: float) -> float:
        return self.pixels * (max(level, 0.0) * STEEPER / STEEP) ** (1 / STEEPER)

    def rank(self, off: float) -> tuple[bool, float]:
        return False, abs(off)


class BytesAim:
    """As many bytes as a file may have, or a little less; off by logarithms.

    Args:
        most: bytes.
        size: returns how many bytes Gaussians take.
    """

    def __init__(self, most: int, size: Callable[[Gaussians], int]) -> None:
        self.most, self.size, self.more = most, size, 0.0
        least, aim, full = (math.log(share) for share in FILLED)
        self.log_aim, self.within = math.log(most) + aim, (least - aim, full - aim)
        self.asked = False

    def off(self, seen: FitResult | Report) -> float:
        return math.log(self.size(seen.gaussians)) - self.log_aim

    def ahead(self, used: float, report: Report, k: int) -> float | None:
        if self.asked and used < SETTLED:
            return None  # writing takes time, and between the first and the last changes little
        self.asked = True
        return self.off(report)

    def beyond(self, probe: FitResult) -> float:
        return self.off(probe)

    def level(self, k: float) -> float:
        return math.log(k)

    def count(self, level: float) -> float:
        return math.exp(level)

    def rank(self, off: float) -> tuple[bool, float]:
        too_large = round(math.exp(self.log_aim + off)) > self.most
        return too_large, off if too_large else -off
