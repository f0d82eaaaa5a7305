"""Fine-tuning Gaussians to an image: one fused launch per step, state on the device throughout."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taichi2dgs.checks import number, shown
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.fitting.job import Count, Job, OnReport
from taichi2dgs.fitting.options import FitInterrupted, FitOptions, FitResult
from taichi2dgs.fitting.run import Run
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.storage import stacks
from taichi2dgs.storage.weights import weight_of
from taichi2dgs.tensors import is_dense, kind_of


def fit(
    image: Any,
    gaussians: Gaussians,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    target_psnr: float | None = None,
    frozen: Tensor | None = None,
    weight: Any = None,
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
        weight: how much each pixel counts: numbers of 0 or more, of which only the ratios matter,
            or booleans, as an array or tensor; or a grey picture. A pixel of weight 0 does not
            count at all. Losses, respawning and the PSNR of reports are by these weights. As the
            image says, if that is a stack with weights; else all alike if None. [H, W]
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
    job = checked_job(image, gaussians, options, frozen, target_psnr, on_report, weight=weight)
    return _fitted(job, Budget(steps, seconds))


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
    job = checked_job(image, gaussians, options, on_report=on_report, count=count)
    return _fitted(job, Budget(steps, seconds))


def _fitted(job: Job, budget: Budget) -> FitResult:
    """Do what `fit` and `fit_counted` say."""
    interrupted = Run([job], budget).until_done()
    if interrupted:
        raise FitInterrupted(job.result())
    return job.result()


def checked_job(
    image: Any,
    gaussians: Gaussians,
    options: FitOptions | None = None,
    frozen: Tensor | None = None,
    target_psnr: float | None = None,
    on_report: OnReport | None = None,
    name: str = "",
    count: Count | None = None,
    weight: Any = None,
) -> Job:
    """Return what to do with a picture, or raise ValueError.

    Args:
        image, gaussians, options, frozen, target_psnr, on_report, weight: see `fit`.
        name: of the picture in messages, where there are several.
        count: see `fit_counted`.
    """
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
    return Job(
        checked_image(image, gaussians),
        gaussians,
        replace(options, settings=options.settings or gaussians.settings),
        None if frozen is None else _checked_frozen(frozen, gaussians),
        None if target_psnr is None else number(target_psnr),
        on_report,
        name,
        count,
        weight_of(image, weight, gaussians.size),
    )


def checked_image(image: Any, gaussians: Gaussians) -> Tensor:
    """Return the image as a float32 tensor of stored values, or raise ValueError."""
    target = stacks.stored_as(image, gaussians.maps)
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
