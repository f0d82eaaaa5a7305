"""Fine-tuning Gaussians to an image: one fused launch per step, state on the device throughout."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taichi2dgs.checks import number, shown
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.options import FitInterrupted, FitOptions, FitResult
from taichi2dgs.fitting.run import Count, OnReport, Run
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.order import morton_order
from taichi2dgs.storage import pictures
from taichi2dgs.tensors import is_dense, kind_of


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

    Learning rates fall along one cosine from full to zero over the whole budget. On one device the
    result is the same, bit for bit, for the same input and number of steps.

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

    >>> import pipelines
    >>> image = torch.rand(16, 24, 3)
    >>> start = pipelines.initialize(image, 40, "random")
    >>> result = fit(image, start, steps=10)
    >>> result.gaussians
    Gaussians(40; 16x24; 3 channels; cpu)
    >>> result.psnr > result.history[0].psnr
    True
    """
    budget = Budget(steps, seconds)
    return _fitted(image, gaussians, budget, options, frozen, target_psnr, on_report)


def fit_counted(
    image: Any,
    gaussians: Gaussians,
    count: Count,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    on_report: OnReport | None = None,
    options: FitOptions | None = None,
) -> FitResult:
    """Fit Gaussians whose number changes on the way.

    Those that leave are the ones that cost the picture least to leave out, and those that come are
    set down at its worst pixels, as respawning does.

    Args:
        count: is asked before the first step and at every moment of respawning, with the share of
            the budget that is used and a report; says how many Gaussians there are from then on.
        image, gaussians, steps, seconds, on_report, options: as `fit` takes them.

    Returns:
        The Gaussians that were there from the beginning, in their order, and then those that came;
        and the reports.

    Raises:
        ValueError, FitInterrupted, FloatingPointError, MemoryError: as `fit` does.
    """
    budget = Budget(steps, seconds)
    return _fitted(image, gaussians, budget, options, on_report=on_report, count=count)


def _fitted(
    image: Any,
    gaussians: Gaussians,
    budget: Budget,
    options: FitOptions | None,
    frozen: Tensor | None = None,
    target_psnr: float | None = None,
    on_report: OnReport | None = None,
    count: Count | None = None,
) -> FitResult:
    """Do what `fit` and `fit_counted` say."""
    options = _checked_options(options, gaussians, target_psnr, on_report)
    target = checked_image(image, gaussians)
    order = morton_order(gaussians.xy, gaussians.size)
    fixed = None if frozen is None else _checked_frozen(frozen, gaussians)[order]
    packed = gaussians.packed().detach()
    engine = Engine(target, packed[order], options, fixed)
    engine.places = order.cpu()

    def read() -> Gaussians:
        fitted = engine.params[engine.places.argsort()].to(packed)
        return Gaussians.from_packed(fitted, gaussians.size, options.settings)

    run = Run(engine, budget, read, target_psnr, on_report, count)
    interrupted = run.until_done()
    result = FitResult(read(), run.history)
    if interrupted:
        raise FitInterrupted(result)
    return result


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


def checked_image(image: Any, gaussians: Gaussians) -> Tensor:
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
