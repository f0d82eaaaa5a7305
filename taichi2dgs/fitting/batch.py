"""Fits of many pictures at once: one launch a step for all of them."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from taichi2dgs.checks import shown
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.fitting.fit import checked_job
from taichi2dgs.fitting.job import Job
from taichi2dgs.fitting.options import FitInterrupted, FitOptions, FitResult, Report
from taichi2dgs.fitting.run import Run
from taichi2dgs.gaussians import Gaussians

OnBatchReport = Callable[[int, Report], object]


def fit_batch(
    images: Sequence[Any],
    gaussians: Sequence[Gaussians],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    target_psnr: float | Sequence[float | None] | None = None,
    frozen: Sequence[Tensor | None] | None = None,
    weight: Sequence[Any] | None = None,
    on_report: OnBatchReport | None = None,
    options: FitOptions | None = None,
) -> list[FitResult]:
    """Fit Gaussians to many images at once, each as `fit` does.

    Sizes and numbers of Gaussians may differ; channels and blending are the same for all. Every
    image makes step after step together with the others, in one launch, so that small ones keep all
    cores busy. After the same steps, the result of an image is that of `fit`, bit for bit on CPU.

    Args:
        images: what `fit` takes, each; or a tensor [B, H, W, C].
        gaussians: where to start, for each image.
        steps: budget in steps.
        seconds: budget in seconds, for all images together.
        target_psnr: in dB, one for all images or one for each, None for none. An image that has
            reached its own leaves the others, and its result is of that report.
        frozen: for each image, which Gaussians stay as they are, None for none. bool [N] each
        weight: for each image, how much each of its pixels counts, as of `fit`, None for all alike.
        on_report: called with the number of the image, from 0, and its `Report`.
        options: as of `fit`, for all images.

    Returns:
        The result of each image. `seconds` are those of the whole batch up to its last report.

    Raises:
        ValueError: an argument does not fit, or there is no budget; the message has the number of
            the image.
        FitInterrupted: Ctrl-C came; its `result` is the list of all results so far.
        FloatingPointError, MemoryError: as of `fit`, for all images.

    >>> import pipelines
    >>> import torch
    >>> images = [torch.rand(16, 24, 3), torch.rand(20, 20, 3)]
    >>> starts = [pipelines.initialize(image, k, "random") for image, k in zip(images, (40, 50))]
    >>> [result.gaussians for result in fit_batch(images, starts, steps=10)]
    [Gaussians(40; 16x24; 3 channels; cpu), Gaussians(50; 20x20; 3 channels; cpu)]
    """
    if on_report is not None and not callable(on_report):
        raise ValueError(f"on_report={shown(on_report)}; expected a function, or None")
    budget = Budget(steps, seconds)
    pictures = listed(images, "images")
    starts = listed(gaussians, "gaussians", len(pictures))
    masks = [None] * len(pictures) if frozen is None else listed(frozen, "frozen", len(pictures))
    weights = [None] * len(pictures) if weight is None else listed(weight, "weight", len(pictures))
    several = isinstance(target_psnr, list | tuple) or getattr(target_psnr, "ndim", 0) == 1
    targets: Any = target_psnr if several else [target_psnr] * len(pictures)
    targets = listed(targets, "target_psnr", len(pictures))
    jobs: list[Job] = []
    for n, (image, start, mask, target, own) in enumerate(
        zip(pictures, starts, masks, targets, weights, strict=True)
    ):
        told = None if on_report is None else functools.partial(on_report, n)
        with naming(n):
            name = f"images[{n}]"
            jobs.append(checked_job(image, start, options, mask, target, told, name, weight=own))
            _check_alike(jobs[0], jobs[n])
    interrupted = Run(jobs, budget).until_done()
    results = [job.result() for job in jobs]
    if interrupted:
        raise FitInterrupted(results)
    return results


def listed(values: Any, name: str, count: int | None = None) -> list[Any]:
    """Return what was given for each image, or raise ValueError naming the argument."""
    if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
        raise ValueError(f"{name}={shown(values)}; expected a list, with one for each image")
    try:
        given = list(values)
    except (TypeError, ValueError, RuntimeError):  # a tensor without axes, for one
        raise ValueError(f"{name}={shown(values)}; expected a list") from None
    if not given or len(given) != (count or len(given)):
        expected = "one image or more" if count is None else f"{count}, one for each image"
        raise ValueError(f"{name} has {len(given)} items; expected {expected}")
    return given


@contextlib.contextmanager
def naming(n: int) -> Iterator[None]:
    """Let messages say which image they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"images[{n}]: {error}") from None


def _check_alike(first: Job, other: Job) -> None:
    """Raise ValueError if two images cannot be in one launch."""
    one, two = first.gaussians, other.gaussians
    if one.channels != two.channels:
        raise ValueError(
            f"gaussians has {two.channels} channels; expected {one.channels}, as gaussians[0]"
        )
    if first.options != other.options:
        raise ValueError(
            f"gaussians blends by {shown(two.settings)}; expected {shown(one.settings)}, as "
            "gaussians[0], or options with settings"
        )
