"""Finding how many Gaussians a picture asks for, in the course of its fit.

What a picture's detail lets expect for a PSNR is off by 40 %, so a short fit comes first, a probe.
The real one begins with the number that this foretells. At the moments of respawning it is told
how far off it will end, and Gaussians come or go. Where it ends too far off all the same, it goes
on for a part of the budget with another number, instead of beginning anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipelines.aims import Aim
from taichi2dgs.fitting.job import Count
from taichi2dgs.fitting.options import FitInterrupted, FitResult, Report
from taichi2dgs.gaussians import Gaussians

TRIES = 5  # fits of one search, at most, where those that go on count, too
# Share of the budget for which a fit goes on with another number, and of the learning rates: by the
# whole rates it would lose what it has, for a while.
GOES_ON, GENTLY = 0.4, 0.4
SHORT = 20  # steps: fewer foretell nothing, and each number is fitted from its own start

OnReport = Callable[[int, Report], object]


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
        fit: goes on with Gaussians for a share of the budget, by a share of the learning rates; it
            is told their number, and whom to report to.
        most: the largest number.
        probe: share of the budget for a short fit before the first; there is none of 0.
        on_report: called with the number of Gaussians and every report.
        tries: fits, at most.
    """

    def __init__(
        self,
        aim: Aim,
        begin: Callable[[int], Gaussians],
        fit: Callable[[Gaussians, float, float, Count, Callable[[Report], None]], FitResult],
        most: int,
        probe: float = 0.0,
        on_report: OnReport | None = None,
        tries: int = TRIES,
    ) -> None:
        self.aim, self.begin, self.fit = aim, begin, fit
        self.most, self.probe, self.on_report, self.tries = most, probe, on_report, tries
        self.tried: list[Tried] = []
        self.k = 0  # Gaussians of the fit that goes on now

    def run(self, k: int) -> FitResult:
        """Search from a number on; return the best of the results.

        Raises:
            FitInterrupted: Ctrl-C came, see `Encoding.run`.
        """
        self.k = max(1, min(k, self.most))
        try:
            if self.probe:
                self._probe()
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

    def _probe(self) -> None:
        """Make a short fit, for the number with which the first one begins."""
        report = self._teller(None)
        result = self.fit(self.begin(self.k), self.probe, 1.0, lambda *_: self.k, report)
        if result.steps >= self.probe * SHORT:
            self.k = self._moved(self.k, self.aim.beyond(result))

    def _teller(self, before: FitResult | None) -> Callable[[Report], None]:
        """Return what hands on reports of a fit that goes on from another."""

        def tell(report: Report) -> None:
            if self.on_report is not None and (before is None or report.step > 0):
                self.on_report(self.k, _after(before, report))

        return tell

    def _try(self) -> None:
        """Make a fit, or let the nearest one go on, with `self.k` Gaussians."""
        before = self._nearest()[0].result if self.tried else None
        if before is None or before.steps < SHORT:
            start, share, rate, before = self.begin(self.k), 1.0, 1.0, None
        else:
            start, share, rate = before.gaussians, GOES_ON, GENTLY

        def count(used: float, report: Report) -> int:
            if not self.tried and used > 0 and report.step >= used * SHORT:
                ahead = self.aim.ahead(used, report, self.k)
                if ahead is not None:
                    self.k = self._moved(self.k, ahead)
            return self.k

        try:
            result = self.fit(start, share, rate, count, self._teller(before))
        except FitInterrupted as stop:
            raise FitInterrupted(_joined(before, stop.result)) from None
        self.tried.append(self._judged(_joined(before, result)))

    def _next(self) -> int:
        """Return the number that the two nearest results let expect not to be off."""
        near = self._nearest()
        share = 1.0  # of what is off, by which levels are off
        if len(near) > 1:
            levels = [self.aim.level(one.k) for one in near]
            measured = (near[0].off - near[1].off) / (levels[0] - levels[1])
            share = 1 / min(max(measured, 1 / 3), 3.0)
        more = self.aim.more if near[0].result.steps >= SHORT else 0.0
        return self._moved(near[0].k, (near[0].off + more) * share)

    def _moved(self, k: int, off: float) -> int:
        """Return the number that is not off, where k is off by so much."""
        lowest, highest = self.aim.level(1), self.aim.level(self.most)
        level = max(lowest, min(self.aim.level(k) - off, highest))
        return max(1, min(round(self.aim.count(level)), self.most))

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
    steps, seconds = before.steps, before.seconds
    return replace(report, step=report.step + steps, seconds=report.seconds + seconds)


def _joined(before: FitResult | None, result: FitResult) -> FitResult:
    """Return the result of a fit that went on, with the reports since it began."""
    if before is None:
        return result
    reports = [_after(before, report) for report in result.history[1:]]
    return FitResult(result.gaussians, before.history + reports)
