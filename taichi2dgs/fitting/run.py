"""One fit from its first step to its last: batches of launches, learning rates and reports."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from taichi2dgs.fitting.budget import Budget, Clock
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.options import Report
from taichi2dgs.fitting.respawn import moments
from taichi2dgs.gaussians import Gaussians

BATCH_SECONDS = 0.02  # launches between two polls of the device take no longer
REPORTS = 20  # reports of a fit whose options say nothing else
OnReport = Callable[[Report], object]
Count = Callable[[float, Report], int]  # share of the budget that is used -> number of Gaussians


class Run:
    """The steps and the reports of one fit.

    Without a target, a report on step s reads what launch s + 1 has measured on its way. With one,
    the parameters of the report may be the last: they are measured before the next launch.

    Args:
        engine: the state on the device.
        budget: when the fit ends.
        read: reads the Gaussians from the engine.
        target_psnr: in dB; the report that reaches it ends the fit, too.
        on_report: called with every report.
        count: says how many Gaussians there are to be, before the first step and at each moment of
            respawning; None for as many as there are.
    """

    def __init__(
        self,
        engine: Engine,
        budget: Budget,
        read: Callable[[], Gaussians],
        target_psnr: float | None = None,
        on_report: OnReport | None = None,
        count: Count | None = None,
    ) -> None:
        self.engine, self.budget, self.read = engine, budget, read
        self.target_psnr, self.on_report, self.count = target_psnr, on_report, count
        self.ahead = 1 if target_psnr is None else 0  # launches beyond the step of a report
        self.history: list[Report] = []
        every = engine.options.report_every
        self.every = every or (None if budget.steps is None else max(1, budget.steps // REPORTS))
        self.by_clock = budget.seconds is not None and every is None
        self.clock = Clock()
        self.second_of_step = 0.0
        self.moved = False  # whether Gaussians have moved, come or gone since the last step
        self.moments = moments(engine.options.respawn, engine.spacing)  # that are left to come
        if count is not None:
            self.moments.insert(0, (0.0, 0.0))  # nothing has been fitted that could respawn

    def until_done(self) -> bool:
        """Run to the end of the budget or the target; return whether Ctrl-C came first."""
        try:
            self._report(0)  # the engine measured it when it was made
            while not self._is_over():
                self._respawn()
                if self._batch() and self._due():
                    self._report(self.engine.done - self.ahead)
            self._report(self.engine.done)
            return False
        except KeyboardInterrupt:
            self.engine.recover()
            if self.moved and self.history[-1].step == self.engine.done:
                self.history.pop()  # what it measured is no longer there
            self._report(self.engine.done)
            return True

    def _is_over(self) -> bool:
        if self.target_psnr is not None and self.history[-1].psnr >= self.target_psnr:
            return True
        # The fit ends where it is nearer to its seconds: before a step of which most would be over.
        elapsed = self.clock.elapsed() + self.second_of_step / 2
        return self.budget.is_over(self.engine.done, elapsed)

    def _respawn(self) -> None:
        """Move Gaussians if that is due, and first let some come or go."""
        used = self.budget.used(self.engine.done, self.clock.elapsed())
        due = [share for at, share in self.moments if at <= used]
        self.moments = self.moments[len(due) :]
        if not due:
            return
        on_time = self.every is not None and self.engine.done % self.every == 0
        if on_time or self.count is not None:
            self._report(self.engine.done)  # before anything moves
        self.moved = True
        if self.count is not None:
            self._resize(self.count, used)
        if share := max(due):
            self.engine.respawn(share)

    def _resize(self, count: Count, used: float) -> None:
        """Go on with as many Gaussians as there are to be from now on."""
        with self.clock.stopped():
            k = count(used, replace(self.history[-1], read=self.read))
        if k != len(self.engine.places):
            self.engine.resize(k)
            after = moments(self.engine.options.respawn, self.engine.spacing)
            self.moments = [moment for moment in after if moment[0] > used]

    def _batch(self) -> bool:
        """Launch steps until it is time to poll or to report; return whether the last had room."""
        engine, began, first = self.engine, self.clock.elapsed(), self.engine.done
        fractions = []
        for index in range(self._batch_size(began)):
            at = began + index * self.second_of_step
            used = self.budget.used(first + index, at)
            fractions.append(0.5 * (1 + math.cos(math.pi * used)))
        self.moved = False
        engine.steps(first + 1, fractions)
        had_room = engine.poll()
        if engine.done > first:
            self.second_of_step = (self.clock.elapsed() - began) / (engine.done - first)
        return had_room

    def _batch_size(self, elapsed: float) -> int:
        """Return how many steps to launch at once.

        With steps of 3 ms, six fill the 20 ms between two polls. With a report every 10 steps and
        step 8 done, it is three without a target, as launch 11 measures step 10.
        """
        steps, seconds = self.budget.steps, self.budget.seconds
        count = max(1, int(BATCH_SECONDS / self.second_of_step)) if self.second_of_step else 1
        if steps is not None:
            count = min(count, steps - self.engine.done)
            if self.moments:
                due = math.ceil(self.moments[0][0] * steps)
                count = min(count, max(1, due - self.engine.done))
        if seconds is not None and self.second_of_step:
            count = min(count, max(1, round((seconds - elapsed) / self.second_of_step)))
        if self.every is not None:
            count = min(count, (self.ahead - self.engine.done) % self.every or self.every)
        return count

    def _due(self) -> bool:
        """Whether the step that was measured last is one to report."""
        if self.every is not None and (self.engine.done - self.ahead) % self.every == 0:
            return True
        since = self.clock.elapsed() - self.history[-1].seconds
        return self.by_clock and since >= (self.budget.seconds or 0) / REPORTS

    def _report(self, step: int) -> None:
        """Record a report, unless that step has one.

        A launch that did not see the pixels' centres has measured something else: then the report
        is of the state after it.
        """
        step = step if self.engine.phase is None else self.engine.done
        if self.history and self.history[-1].step >= step:
            return
        seconds = self.clock.elapsed()
        with self.clock.stopped():
            if 0 < step == self.engine.done:
                self.engine.score()
            report = Report(step, seconds, self.engine.psnr())
            self.history.append(report)
            if self.on_report is not None:
                self.on_report(replace(report, read=self.read))
