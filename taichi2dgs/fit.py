"""Fine-tuning Gaussians to an image: one fused launch per step, state on the device throughout."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.engine import Engine
from taichi2dgs.gaussians import Gaussians, morton_order
from taichi2dgs.settings import RenderSettings

BATCH_SECONDS = 0.02  # launches between two looks at the device, at the latest
REPORTS = 20  # per fit, unless told


@dataclass(frozen=True)
class FitOptions:
    """How to optimise. Learning rates are in each parameter's own unit, at the first step.

    Args:
        xy, log_scale, theta, color: learning rates in pixels, log pixels, radians, colour units.
        beta1, beta2, epsilon: Adam's constants. The usual 0.9 and 0.999 (the configuration "adam")
            remember longer than a fit of a few hundred steps has use for.
        settings: how the fitted Gaussians blend; as those that came in if None.
        report_every: steps between reports; a twentieth of the budget if None.
    """

    xy: float = 0.3
    log_scale: float = 0.15
    theta: float = 0.1
    color: float = 0.01
    beta1: float = 0.8
    beta2: float = 0.9
    epsilon: float = 1e-8
    settings: RenderSettings = None  # type: ignore[assignment]  (`fit` puts them in)
    report_every: int | None = None

    def __post_init__(self) -> None:
        for name in ("xy", "log_scale", "theta", "color", "epsilon"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a number of 0 or more")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected 0 <= {name} < 1")
        if self.report_every is not None and self.report_every < 1:
            raise ValueError(f"report_every={self.report_every!r}; expected 1 or more, or None")


@dataclass(frozen=True)
class Report:
    """Where a fit stood after `step` steps: wall-clock seconds without compiling, PSNR in dB."""

    step: int
    seconds: float
    psnr: float


@dataclass(frozen=True)
class FitResult:
    """What a fit ends with.

    Args:
        gaussians: the fitted Gaussians, in the order and on the device of those that came in, with
            the settings that they were fitted for.
        history: reports from step 0 to the last step.
        interrupted: whether Ctrl-C ended the fit before its budget did.
    """

    gaussians: Gaussians
    history: list[Report]
    interrupted: bool


def fit(
    image: Tensor | np.ndarray,
    gaussians: Gaussians,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    target_psnr: float | None = None,
    frozen: Tensor | None = None,
    on_report: Callable[[Report], object] | None = None,
    options: FitOptions | None = None,
) -> FitResult:
    """Fit Gaussians to an image by Adam on the squared error.

    Learning rates fall along one cosine from full to zero over the whole budget. On CPU the result
    is the same, bit for bit, for the same input and number of steps.

    Args:
        image: values in [0, 1]. [H, W, C]
        gaussians: where to start; their size and channels are those of the image.
        steps: budget in steps.
        seconds: budget in seconds, in which compiling and `on_report` do not count. With both, the
            one that runs out first ends the fit.
        target_psnr: stop at the first report that reaches this PSNR in dB.
        frozen: which Gaussians stay as they are; None for none. bool [N]
        on_report: called with every `Report`.
        options: learning rates, blending and how often to report.

    Returns:
        The fitted Gaussians and the reports. Ctrl-C ends a fit early, with what is there.

    Raises:
        ValueError: an argument does not fit, or there is no budget.
        FloatingPointError: a parameter is no longer finite; the message has the step.
        MemoryError: the Gaussians have grown too large for their tile lists.
    """
    options = options or FitOptions()
    options = replace(options, settings=options.settings or gaussians.settings)
    target = _checked_image(image, gaussians)
    check_budget(steps, seconds)
    order = morton_order(gaussians.xy, gaussians.size)
    held = None if frozen is None else _checked_frozen(frozen, gaussians)[order]
    run = _Run(Engine(target, gaussians.packed().detach()[order], options, held), steps, seconds)
    interrupted = run.until_done(target_psnr, on_report)
    fitted = torch.empty_like(gaussians.packed())
    fitted[order] = run.engine.params.to(fitted)
    result = Gaussians.from_packed(fitted, gaussians.size, options.settings)
    return FitResult(result, run.history, interrupted)


def check_budget(steps: int | None, seconds: float | None) -> None:
    """Raise ValueError unless steps or seconds, or both, say when a fit ends."""
    if steps is None and seconds is None:
        raise ValueError("steps and seconds are both None; expected a budget")
    if steps is not None and (not isinstance(steps, int) or steps < 0):
        raise ValueError(f"steps={steps!r}; expected a whole number of 0 or more")
    if seconds is not None and not 0 <= seconds < math.inf:
        raise ValueError(f"seconds={seconds!r}; expected 0 or more")


class _Run:
    """The clock, the schedule and the reports of one fit."""

    def __init__(self, engine: Engine, steps: int | None, seconds: float | None) -> None:
        self.engine, self.steps, self.seconds = engine, steps, seconds
        self.history: list[Report] = []
        self.excluded = 0.0
        every = engine.options.report_every
        self.every = every or (None if steps is None else max(1, steps // REPORTS))
        self.start = time.perf_counter()
        self.second_of_step = 0.0

    def elapsed(self) -> float:
        return time.perf_counter() - self.start - self.excluded

    def until_done(self, target_psnr, on_report) -> bool:
        """Run to the end of the budget; return whether Ctrl-C came first."""
        interrupted = False
        try:
            while not self._is_over():
                measured = self._batch() and self._due()
                if measured and self._report(self.engine.done - 1, target_psnr, on_report):
                    break
        except KeyboardInterrupt:
            interrupted = True
        before = time.perf_counter()
        self.engine.score()
        self.excluded += time.perf_counter() - before  # measuring is not fitting
        self._report(self.engine.done, None, on_report)
        return interrupted

    def _is_over(self) -> bool:
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
        if self.every is not None:  # a report on step s reads what launch s + 1 has measured
            count = min(count, (1 - first) % self.every or self.every)
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
        if self.every is not None:
            return (self.engine.done - 1) % self.every == 0
        last = self.history[-1].seconds if self.history else -math.inf
        return self.elapsed() - last >= (self.seconds or 0) / REPORTS

    def _report(self, step: int, target_psnr, on_report) -> bool:
        """Record a report, unless that step has one; return whether the target is reached."""
        if self.history and self.history[-1].step >= step:
            return False
        report = Report(step, self.elapsed(), self.engine.psnr())
        self.history.append(report)
        if on_report is not None:
            before = time.perf_counter()
            on_report(report)
            self.excluded += time.perf_counter() - before
        return target_psnr is not None and report.psnr >= target_psnr


def _checked_image(image: Tensor | np.ndarray, gaussians: Gaussians) -> Tensor:
    """Return the image as a float32 tensor, or raise ValueError."""
    target = torch.as_tensor(image)
    shape = (*gaussians.size, gaussians.channels)
    if tuple(target.shape) != shape:
        raise ValueError(
            f"image has shape {list(target.shape)}; expected {list(shape)}, as the gaussians say"
        )
    if not target.is_floating_point():
        raise ValueError(f"image is {target.dtype}; expected floating point values in [0, 1]")
    if not bool(torch.isfinite(target).all()):
        raise ValueError("image has values that are not finite; expected values in [0, 1]")
    if not len(gaussians):
        raise ValueError("gaussians is empty; expected at least one Gaussian to fit")
    return target.detach().to(torch.float32)


def _checked_frozen(frozen: Tensor, gaussians: Gaussians) -> Tensor:
    """Return a mask on the device of the Gaussians, or raise ValueError."""
    mask = torch.as_tensor(frozen)
    if mask.shape != (len(gaussians),) or mask.dtype != torch.bool:
        raise ValueError(
            f"frozen is {mask.dtype} {list(mask.shape)}; expected torch.bool [{len(gaussians)}]"
        )
    return mask.to(gaussians.xy.device)
