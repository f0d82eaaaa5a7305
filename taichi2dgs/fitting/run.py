"""Fits from their first step to their last: launches, learning rates and reports."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

from taichi2dgs.fitting import heirs
from taichi2dgs.fitting.budget import Budget, Clock
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.job import Job
from taichi2dgs.fitting.options import Report
from taichi2dgs.fitting.schedule import falling
from taichi2dgs.gaussians import Gaussians

LAUNCH_SECONDS = 0.02  # launches between two polls of the device take no longer
REPORTS = 20  # reports of a fit whose options say nothing else


class Run:
    """The steps and the reports of a fit of some pictures, which make each step together.

    Without targets, a report on step s reads what launch s + 1 has measured on its way. With one,
    the parameters of the report may be the last: they are measured before the next launch.

    Args:
        jobs: the pictures, with the same options; those that reach their targets leave the others.
        budget: when the fit ends.
    """

    def __init__(self, jobs: Sequence[Job], budget: Budget) -> None:
        self.jobs, self.budget = list(jobs), budget  # jobs that the engine has
        options = self.jobs[0].options
        self.engine = Engine([job.picture for job in jobs], options)
        stops = any(job.target_psnr is not None for job in jobs)
        self.ahead = 0 if stops else 1  # launches beyond the step of a report
        self.reported, self.reported_at = -1, 0.0  # step and seconds of the last report
        every = options.report_every
        self.every = every or (None if budget.steps is None else max(1, budget.steps // REPORTS))
        self.by_clock = budget.seconds is not None and every is None
        self.clock = Clock()
        self.second_of_step = 0.0
        self.lacked_room = False  # whether not all of the last launches made their steps
        self.moved = False  # whether Gaussians have moved, come or gone since the last step

    def until_done(self) -> bool:
        """Run to the end of the budget or the targets; return whether Ctrl-C came first."""
        interrupted = False
        try:
            self._report(0)  # the engine measured it when it was made
            while not self._is_over():
                self._respawn()
                if self._advance() and self._due():
                    self._report(self.engine.done - self.ahead)
            self._report(self.engine.done)
        except KeyboardInterrupt:
            self.engine.recover()
            if self.moved and self.reported == self.engine.done:
                self.reported -= 1  # what it measured is no longer there
                for job in self.jobs:
                    job.history.pop()
            self._report(self.engine.done)
            interrupted = True
        self._end(self.jobs)
        return interrupted

    def _is_over(self) -> bool:
        if any(job.has_arrived for job in self.jobs):
            self._let_go()
        # The fit ends where it is nearer to its seconds: before a step of which most would be over.
        elapsed = self.clock.elapsed() + self.second_of_step / 2
        return not self.jobs or self.budget.is_over(self.engine.done, elapsed)

    def _let_go(self) -> None:
        """Go on without the pictures that have reached their targets."""
        self._end([job for job in self.jobs if job.has_arrived])
        staying = [n for n, job in enumerate(self.jobs) if not job.has_arrived]
        engine = heirs.only(self.engine, staying) if staying else self.engine
        self.engine, self.jobs = engine, [self.jobs[n] for n in staying]

    def _end(self, ended: list[Job]) -> None:
        """Keep what has become of some of the pictures."""
        if ended:
            for job, params in zip(self.jobs, self.engine.results(), strict=True):
                if job in ended:
                    job.fitted = params

    def _respawn(self) -> None:
        """Move Gaussians if that is due, and first let some come or go."""
        used = self.budget.used(self.engine.done, self.clock.elapsed())
        shares = [job.due_share(used) for job in self.jobs]
        if all(share is None for share in shares):
            return
        changes = any(job.count is not None for job in self.jobs)
        if changes or (self.every is not None and self.engine.done % self.every == 0):
            self._report(self.engine.done)  # before anything moves
        self.moved = True
        if changes:
            self._resize(used)
        left = self._steps_left(self.clock.elapsed())
        shares = [
            share if share and left >= job.recovery else 0.0
            for job, share in zip(self.jobs, shares, strict=True)
        ]
        if any(shares):
            self.engine.respawn(shares)

    def _steps_left(self, elapsed: float) -> float:
        """Return how many steps the budget has room for."""
        left = math.inf
        if self.budget.steps is not None:
            left = self.budget.steps - self.engine.done
        if self.budget.seconds is not None and self.second_of_step:
            left = min(left, (self.budget.seconds - elapsed) / self.second_of_step)
        return left

    def _resize(self, used: float) -> None:
        """Go on with as many Gaussians as there are to be from now on."""
        with self.clock.stopped():
            counts = [
                job.wanted(used, k, functools.partial(self._read, job))
                for job, k in zip(self.jobs, self.engine.counts, strict=True)
            ]
        if counts != self.engine.counts:
            self.engine = heirs.resized(self.engine, counts)
            for job, picture in zip(self.jobs, self.engine.pictures, strict=True):
                job.resize(picture, used)

    def _advance(self) -> bool:
        """Launch steps until it is time to poll or to report; return whether the last had room."""
        engine, began, first = self.engine, self.clock.elapsed(), self.engine.done
        fractions = []
        for index in range(self._launches(began)):
            at = began + index * self.second_of_step
            used = self.budget.used(first + index, at)
            fractions.append(falling(used))
        self.moved = False
        engine.steps(first + 1, fractions)
        had_room = engine.poll()
        self.lacked_room = engine.done < first + len(fractions)
        if engine.done > first:
            self.second_of_step = (self.clock.elapsed() - began) / (engine.done - first)
        return had_room

    def _launches(self, elapsed: float) -> int:
        """Return how many steps to launch at once.

        With steps of 3 ms, six fill the 20 ms between two polls. With a report every 10 steps and
        step 8 done, it is three without a target, as launch 11 measures step 10. After launches
        that lacked room it is one: room for the last of several may not do for the first, which
        may see other places.
        """
        if self.lacked_room:
            return 1
        count = max(1, int(LAUNCH_SECONDS / self.second_of_step)) if self.second_of_step else 1
        count = max(1, round(min(count, self._steps_left(elapsed))))
        coming = [job.moments[0][0] for job in self.jobs if job.moments]
        if self.budget.steps is not None and coming:
            due = math.ceil(min(coming) * self.budget.steps)
            count = min(count, max(1, due - self.engine.done))
        if self.every is not None:
            count = min(count, (self.ahead - self.engine.done) % self.every or self.every)
        return count

    def _due(self) -> bool:
        """Whether the step that was measured last is one to report."""
        if self.every is not None and (self.engine.done - self.ahead) % self.every == 0:
            return True
        since = self.clock.elapsed() - self.reported_at
        return self.by_clock and since >= (self.budget.seconds or 0) / REPORTS

    def _report(self, step: int) -> None:
        """Record a report of each picture, unless that step has them.

        A launch that did not see the pixels' centres, or saw noise, has measured something else:
        then the report is of the state after it.
        """
        step = step if self.engine.is_exact else self.engine.done
        if self.reported >= step or not self.jobs:
            return
        seconds = self.clock.elapsed()
        with self.clock.stopped():
            if 0 < step == self.engine.done:
                self.engine.score()
            psnrs = self.engine.psnrs()
            self.reported, self.reported_at = step, seconds
            reports = [Report(step, seconds, psnr) for psnr in psnrs]
            for job, report in zip(self.jobs, reports, strict=True):
                job.history.append(report)
            for job, report in zip(self.jobs, reports, strict=True):
                if job.on_report is not None:
                    job.on_report(replace(report, read=functools.partial(self._read, job)))

    def _read(self, job: Job) -> Gaussians:
        """Return the Gaussians of one of the pictures as they are now."""
        if job not in self.jobs:
            return job.read(job.fitted)
        return job.read(self.engine.results()[self.jobs.index(job)])
