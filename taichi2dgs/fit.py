"""Fine-tuning Gaussians to an image: one fused launch per step, state on the device throughout."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taichi2dgs import pictures
from taichi2dgs.engine import Engine
from taichi2dgs.gaussians import Gaussians, check_gaussians, morton_order
from taichi2dgs.options import FitInterrupted, FitOptions, FitResult, Report
from taichi2dgs.settings import number, shown, whole
from taichi2dgs.tensors import is_dense, kind_of

BATCH_SECONDS = 0.02  # launches between two looks at the device, at the latest
REPORTS = 20  # per fit, unless told
OnReport = Callable[[Report], object]


def fit(
    image: Any,
    gaussians: Gaussians,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    target_psnr: float | None = None,
    frozen: Tensor | None = None,
    on_report: OnReport | None = None,
    options: FitOptions | None = None,
) -> FitResult:
    """Fit Gaussians to an image by Adam on the squared error.

    Learning rates fall along one cosine from full to zero over the whole budget. On CPU the result
    is the same, bit for bit, for the same input and number of steps.

    Args:
        image: what `taichi2dgs.encode` takes: a path, a PIL image, or an array or tensor. [H, W, C]
        gaussians: where to start; their size and channels are those of the image.
        steps: budget in steps.
        seconds: budget in seconds, in which compiling, measuring and `on_report` do not count. With
            both, the one that runs out first ends the fit.
        target_psnr: stop at the first report that reaches this PSNR in dB, and return the Gaussians
            of that very report; of those that came in, if they reach it.
        frozen: which Gaussians stay as they are; None for none. bool [N]
        on_report: called with every `Report`.
        options: learning rates, blending and how often to report.

    Returns:
        The fitted Gaussians and the reports.

    Raises:
        ValueError: an argument does not fit, or there is no budget.
        FitInterrupted: Ctrl-C came, a KeyboardInterrupt whose `result` is what was there. It comes
            as a plain KeyboardInterrupt before the first step, and when Ctrl-C comes twice.
        FloatingPointError: a parameter is no longer finite; the message has the step.
        MemoryError: the Gaussians have grown too large for their tile lists.
    """
    options = _checked_options(options, gaussians, target_psnr, on_report)
    target = _checked_image(image, gaussians)
    steps, seconds = check_budget(steps, seconds)
    order = morton_order(gaussians.xy, gaussians.size)
    held = None if frozen is None else _checked_frozen(frozen, gaussians)[order]
    engine = Engine(target, gaussians.packed().detach()[order], options, held)
    run = _Run(engine, steps, seconds, target_psnr, on_report)
    interrupted = run.until_done()
    fitted = torch.empty_like(gaussians.packed())
    fitted[order] = engine.params.to(fitted)
    result = FitResult(Gaussians.from_packed(fitted, gaussians.size, options.settings), run.history)
    if interrupted:
        raise FitInterrupted(result)
    return result


def check_budget(steps: int | None, seconds: float | None) -> tuple[int | None, float | None]:
    """Return when a fit ends; raise ValueError unless steps or seconds, or both, say so."""
    if steps is None and seconds is None:
        raise ValueError("steps and seconds are both None; expected a budget")
    if seconds is not None and not 0 <= number(seconds) < math.inf:
        raise ValueError(f"seconds={shown(seconds)}; expected 0 or more")
    return (
        None if steps is None else whole(steps, "steps", 0),
        None if seconds is None else number(seconds),
    )


class _Run:
    """The clock, the schedule and the reports of one fit.

    Without a target, a report on step s reads what launch s + 1 has measured on its way. With one,
    the parameters of the report may be the last: they are measured before the next launch.
    """

    def __init__(
        self, engine: Engine, steps: int | None, seconds: float | None,
        target_psnr: float | None, on_report: OnReport | None,
    ) -> None:  # fmt: skip
        self.engine, self.steps, self.seconds = engine, steps, seconds
        self.target_psnr, self.on_report = target_psnr, on_report
        self.ahead = 1 if target_psnr is None else 0  # launches beyond the step of a report
        self.history: list[Report] = []
        self.excluded = 0.0
        every = engine.options.report_every
        self.every = every or (None if steps is None else max(1, steps // REPORTS))
        self.by_clock = seconds is not None and every is None
        self.start = time.perf_counter()
        self.second_of_step = 0.0

    def elapsed(self) -> float:
        return time.perf_counter() - self.start - self.excluded

    def until_done(self) -> bool:
        """Run to the end of the budget or the target; return whether Ctrl-C came first."""
        try:
            self._report(0)  # which the engine has measured
            while not self._is_over():
                if self._batch() and self._due():
                    self._report(self.engine.done - self.ahead)
            self._report(self.engine.done)
            return False
        except KeyboardInterrupt:
            self.engine.recover()
            self._report(self.engine.done)
            return True

    def _is_over(self) -> bool:
        if self.target_psnr is not None and self.history[-1].psnr >= self.target_psnr:
            return True
        if self.steps is not None and self.engine.done >= self.steps:
            return True
        return self.seconds is not None and (
            self.elapsed() + self.second_of_step / 2 >= self.seconds
        )

    def _batch(self) -> bool:
        """Launch steps until it is time to look at the clock or to report; see `Engine.look`."""
        engine, began, first = self.engine, self.elapsed(), self.engine.done
        count = max(1, int(BATCH_SECONDS / self.second_of_step)) if self.second_of_step else 1
        if self.steps is not None:
            count = min(count, self.steps - first)
        if self.seconds is not None and self.second_of_step:
            count = min(count, max(1, round((self.seconds - began) / self.second_of_step)))
        if self.every is not None:
            count = min(count, (self.ahead - first) % self.every or self.every)
        for index in range(count):
            at = began + index * self.second_of_step
            engine.step(first + 1 + index, self._rate(first + index, at))
        had_room = engine.look()
        if engine.done > first:
            self.second_of_step = (self.elapsed() - began) / (engine.done - first)
        return had_room

    def _rate(self, done: int, elapsed: float) -> float:
        """Fraction of the learning rates: a cosine over the budget that is used up faster."""
        used = done / self.steps if self.steps else 0.0
        if self.seconds:
            used = max(used, min(elapsed / self.seconds, 1.0))
        return 0.5 * (1 + math.cos(math.pi * used))

    def _due(self) -> bool:
        if self.every is not None and (self.engine.done - self.ahead) % self.every == 0:
            return True
        since = self.elapsed() - self.history[-1].seconds
        return self.by_clock and since >= (self.seconds or 0) / REPORTS

    def _report(self, step: int) -> None:
        """Record a report, unless that step has one."""
        if self.history and self.history[-1].step >= step:
            return
        before = time.perf_counter()
        if 0 < step == self.engine.done:
            self.engine.score()
        report = Report(step, before - self.start - self.excluded, self.engine.psnr())
        self.history.append(report)
        if self.on_report is not None:
            self.on_report(report)
        self.excluded += time.perf_counter() - before  # measuring is not fitting


def _checked_options(options: Any, gaussians: Any, target_psnr: Any, on_report: Any) -> FitOptions:
    """Return the options with the settings that hold, or raise ValueError."""
    check_gaussians(gaussians)
    if not len(gaussians):
        raise ValueError("gaussians is empty; expected at least one Gaussian to fit")
    if options is not None and not isinstance(options, FitOptions):
        raise ValueError(f"options={shown(options)}; expected FitOptions, or None")
    if target_psnr is not None and math.isnan(number(target_psnr)):
        raise ValueError(f"target_psnr={shown(target_psnr)}; expected a number of dB, or None")
    if on_report is not None and not callable(on_report):
        raise ValueError(f"on_report={shown(on_report)}; expected a function, or None")
    options = options or FitOptions()
    return replace(options, settings=options.settings or gaussians.settings)


def _checked_image(image: Any, gaussians: Gaussians) -> Tensor:
    """Return the image as a float32 tensor, or raise ValueError."""
    target = pictures.as_image(image)
    shape = (*gaussians.size, gaussians.channels)
    if tuple(target.shape) != shape:
        raise ValueError(
            f"image has shape {list(target.shape)}; expected {list(shape)}, as the gaussians say"
        )
    return target


def _checked_frozen(frozen: Tensor, gaussians: Gaussians) -> Tensor:
    """Return a mask on the device of the Gaussians, or raise ValueError."""
    try:
        mask = torch.as_tensor(frozen)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"frozen={shown(frozen)}; expected booleans, [{len(gaussians)}]") from None
    if not is_dense(mask) or mask.shape != (len(gaussians),) or mask.dtype != torch.bool:
        raise ValueError(f"frozen is {kind_of(mask)}; expected torch.bool [{len(gaussians)}]")
    return mask.to(gaussians.xy.device)
