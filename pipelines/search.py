"""Finding how many Gaussians a picture asks for, in the course of its fit.

A fit begins with the number that the picture's detail, or the bytes, let expect. At the moments of
respawning it is told how far off it will end, and Gaussians come or go. Where it ends too far off
all the same, it goes on for a part of the budget with another number, instead of beginning anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from torch import Tensor

from nets.detail import gradient_magnitude
from taichi2dgs.fitting.options import FitInterrupted, FitResult, Report
from taichi2dgs.fitting.run import Count
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import t2d

AUTO_PSNR = 38.0  # dB, about what an automatic number reaches
# Of 12 training photographs, fitted for 60 steps: Gaussians per pixel that reach AUTO_PSNR are
# DENSITY * detail ** POWER, to within a factor of 1.23 in two cases of three; while k grows e-fold,
# SLOPE dB are gained. benchmarks/calibrate_count.py measures them.
DENSITY, POWER, SLOPE = 6.82, 1.83, 6.6
LARGEST_POWER = 100.0  # e to this power is more than any picture asks for, and still a float
PSNR_WITHIN = 0.5  # dB that a result may be off its target
FILLED = (0.955, 0.98, 0.995)  # shares of the bytes: least, aimed at, most; refining adds a little
TRIES = 5  # fits of one search, at most, where those that go on count, too
GOES_ON = 0.3  # share of the budget for which a fit goes on with another number
SHORT = 20  # steps: fewer foretell nothing, and each number is fitted from its own start

# A fit of n steps ends above what it has after a share of them by so many dB: at each share, so
# many, more for each dB of its PSNR above AUTO_PSNR, and more for e times as many steps as 200.
# benchmarks/calibrate_gain.py measures them.
GAIN = {
    0.1: (6.0, 0.3, 0.5),
    0.2: (4.5, 0.25, 0.4),
    0.3: (3.5, 0.2, 0.3),
    0.4: (2.5, 0.15, 0.2),
    0.5: (2.0, 0.12, 0.1),
}
GAIN_STEPS = 200

OnReport = Callable[[int, Report], object]


def gain(used: float, psnr: float, steps: float) -> float:
    """Return how many dB a fit is still to gain, from what it has when a share of it is over.

    Args:
        used: that share of its budget.
        psnr: in dB, then.
        steps: of the whole fit.
    """
    columns = zip(*GAIN.values(), strict=True)
    base, level, length = (np.interp(used, list(GAIN), column) for column in columns)
    more = level * (psnr - AUTO_PSNR) + length * math.log(steps / GAIN_STEPS)
    return max(0.0, float(base + more))


def automatic_count(image: Tensor, psnr: float = AUTO_PSNR) -> int:
    """Return how many Gaussians should reach a PSNR, from the picture's mean gradient magnitude.

    Args:
        image: values in [0, 1]. [H, W, C]
        psnr: in dB.
    """
    detail = float(gradient_magnitude(image.permute(2, 0, 1)[None].float()).mean())
    more = math.exp(min((psnr - AUTO_PSNR) / SLOPE, LARGEST_POWER))
    per_pixel = DENSITY * detail**POWER * more
    pixels = image.shape[0] * image.shape[1]
    return max(1, min(most(image), round(per_pixel * pixels)))


def most(image: Tensor) -> int:
    """Return how many Gaussians a search tries at most: one per pixel, or what a file holds."""
    return min(image.shape[0] * image.shape[1], t2d.MAX_K)


class Aim(Protocol):
    """What a search is to end with. It is off by a number that is about linear in log k."""

    slope: float  # of that line, before two results have shown it
    within: tuple[float, float]  # how far off is good enough

    def off(self, seen: FitResult | Report) -> float:
        """Return how far off Gaussians are."""
        ...

    def ahead(self, used: float, report: Report) -> float | None:
        """Return how far off a fit will end, told when that share of its budget was used.

        It is None where nothing is to change at that moment.
        """
        ...

    def rank(self, off: float) -> tuple[bool, float]:
        """Return a number that is lower for better results, behind whether it is unacceptable."""
        ...


class PsnrAim:
    """A PSNR in dB, to within PSNR_WITHIN."""

    slope, within = SLOPE, (-PSNR_WITHIN, PSNR_WITHIN)

    def __init__(self, psnr: float) -> None:
        self.psnr = psnr

    def off(self, seen: FitResult | Report) -> float:
        return seen.psnr - self.psnr

    def ahead(self, used: float, report: Report) -> float | None:
        return self.off(report) + gain(used, report.psnr, report.step / used)

    def rank(self, off: float) -> tuple[bool, float]:
        return False, abs(off)


class BytesAim:
    """As many bytes as a file may have, or a little less.

    Args:
        most: bytes.
        size: returns how many bytes Gaussians take.
    """

    slope = 1.0

    def __init__(self, most: int, size: Callable[[Gaussians], int]) -> None:
        self.most, self.size = most, size
        least, aim, full = (math.log(share) for share in FILLED)
        self.log_aim, self.within = math.log(most) + aim, (least - aim, full - aim)

    def off(self, seen: FitResult | Report) -> float:
        return math.log(self.size(seen.gaussians)) - self.log_aim

    def ahead(self, used: float, report: Report) -> float | None:
        return self.off(report)

    def rank(self, off: float) -> tuple[bool, float]:
        too_large = round(math.exp(self.log_aim + off)) > self.most
        return too_large, off if too_large else -off


@dataclass(frozen=True)
class Tried:
    """A fit that has ended, and how far off."""

    result: FitResult
    off: float

    @property
    def k(self) -> int:
        return len(self.result.gaussians)


class Search:
    """Fits, the next with a number of Gaussians that those before it let expect to be right.

    Args:
        aim: what the last one is to end with.
        begin: returns a start of so many Gaussians.
        fit: goes on with Gaussians for a share of the budget; it is told their number, and whom to
            report to.
        most: the largest number.
        on_report: called with the number of Gaussians and every report.
        tries: fits, at most.
    """

    def __init__(
        self,
        aim: Aim,
        begin: Callable[[int], Gaussians],
        fit: Callable[[Gaussians, float, Count, Callable[[Report], None]], FitResult],
        most: int,
        on_report: OnReport | None = None,
        tries: int = TRIES,
    ) -> None:
        self.aim, self.begin, self.fit = aim, begin, fit
        self.most, self.on_report, self.tries = most, on_report, tries
        self.tried: list[Tried] = []
        self.k = 0  # Gaussians of the fit that goes on now

    def run(self, k: int) -> FitResult:
        """Search from a number on; return the best of the results.

        Raises:
            FitInterrupted: Ctrl-C came, see `Encoding.run`.
        """
        self.k = self._bounded(k)
        try:
            while len(self.tried) < self.tries and self.k not in {one.k for one in self.tried}:
                self._try()
                if self.aim.within[0] <= self.tried[-1].off <= self.aim.within[1]:
                    break
                self.k = self._next()
        except KeyboardInterrupt as stop:
            unfinished = [self._judged(stop.result)] if isinstance(stop, FitInterrupted) else []
            there = self.tried or unfinished
            if not there:
                raise
            finished, other = self._best(there), self._best(unfinished or there)
            takes_other = self.aim.rank(finished.off)[0] > self.aim.rank(other.off)[0]
            raise FitInterrupted((other if takes_other else finished).result) from None
        return self._best(self.tried).result

    def _try(self) -> None:
        """Make a fit, or let the nearest one go on, with `self.k` Gaussians."""
        before = self._nearest()[0].result if self.tried else None
        if before is None or before.history[-1].step < SHORT:
            start, share, before = self.begin(self.k), 1.0, None
        else:
            start, share = before.gaussians, GOES_ON

        def count(used: float, report: Report) -> int:
            if not self.tried and used > 0 and report.step >= used * SHORT:
                ahead = self.aim.ahead(used, report)
                if ahead is not None:
                    self.k = self._moved(self.k, ahead, self.aim.slope)
            return self.k

        def tell(report: Report) -> None:
            if self.on_report is not None and (before is None or report.step > 0):
                self.on_report(self.k, _after(before, report))

        try:
            result = self.fit(start, share, count, tell)
        except FitInterrupted as stop:
            raise FitInterrupted(_joined(before, stop.result)) from None
        self.tried.append(self._judged(_joined(before, result)))

    def _next(self) -> int:
        """Return the number where a line through the two nearest results is not off."""
        near = self._nearest()
        slope = self.aim.slope
        if len(near) > 1:
            measured = (near[0].off - near[1].off) / math.log(near[0].k / near[1].k)
            slope = min(max(measured, slope / 2), slope * 2)
        return self._moved(near[0].k, near[0].off, slope)

    def _moved(self, k: int, off: float, slope: float) -> int:
        """Return the number where a line of that slope through `off` at k is not off."""
        power = max(-LARGEST_POWER, min(-off / slope, LARGEST_POWER))
        return self._bounded(k * math.exp(power))

    def _bounded(self, k: float) -> int:
        return max(1, min(round(k), self.most))

    def _judged(self, result: FitResult) -> Tried:
        return Tried(result, self.aim.off(result))

    def _nearest(self) -> list[Tried]:
        """The two results of different numbers that are the least off, or the only one."""
        return sorted(self.tried, key=lambda one: abs(one.off))[:2]

    def _best(self, results: list[Tried]) -> Tried:
        return min(results, key=lambda one: self.aim.rank(one.off))


def _after(before: FitResult | None, report: Report) -> Report:
    """Return a report of a fit that goes on, counted from where it began."""
    if before is None:
        return report
    steps, seconds = before.history[-1].step, before.seconds
    return replace(report, step=report.step + steps, seconds=report.seconds + seconds)


def _joined(before: FitResult | None, result: FitResult) -> FitResult:
    """Return the result of a fit that went on, with the reports since it began."""
    if before is None:
        return result
    reports = [_after(before, report) for report in result.history[1:]]
    return FitResult(result.gaussians, before.history + reports)
