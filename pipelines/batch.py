"""Many pictures encoded at once: what `Encoding.run` does to one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pipelines.defaults import K
from pipelines.encoding import Encoding
from pipelines.starts.named import initialize_all
from pipelines.starts.sampling import checked_counts
from taichi2dgs.fitting.batch import OnBatchReport, fit_batch, listed, naming
from taichi2dgs.fitting.options import FitInterrupted, FitResult, Report
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.stacks import as_stack


def encode_all(
    encoding: Encoding,
    images: Sequence[Any],
    k: Any = None,
    on_report: OnBatchReport | None = None,
    together: bool = True,
    weight: Sequence[Any] | None = None,
) -> list[FitResult]:
    """Encode many pictures, all in one fit where there is nothing to search for.

    Args:
        encoding: how; its seconds are those of a picture, so that a batch has as many times more.
        images: what `taichi2dgs.encode` takes, each, of as many channels each.
        k: number of Gaussians of each image; as the encoding says if None.
        on_report: called with the number of the image, from 0, and every `Report`.
        together: see `initialize_all`; where it is false, results do not depend on the other images
            unless the budget is in seconds.
        weight: for each image, how much each of its pixels counts, None for all alike.

    Returns:
        The fit of each image that counts.

    Raises:
        ValueError: an argument does not fit; the message has the number of the image.
        FitInterrupted: Ctrl-C came; its `result` is the list of results so far, which of a search
            ends with the image that it came to.
    """
    given: list[Stack] = []
    images = listed(images, "images")
    weights = [None] * len(images) if weight is None else listed(weight, "weight", len(images))
    for n, (image, own) in enumerate(zip(images, weights, strict=True)):
        with naming(n):
            given.append(as_stack(image, encoding.linear, own))
    if encoding.searches and k is not None:
        raise ValueError("k and a target are given; expected one of them")
    if encoding.searches:
        return _one_by_one(encoding, given, on_report)
    counts = checked_counts((encoding.k or K) if k is None else k, len(given))
    steps = encoding.budget.foreseen
    starts = initialize_all(
        given, counts, encoding.start, encoding.seed, encoding.weights, steps, together
    )
    starts = [encoding.solved(*pair) for pair in zip(given, starts, strict=True)]
    seconds = encoding.seconds
    return fit_batch(
        given,
        starts,
        steps=encoding.steps,
        seconds=None if seconds is None else seconds * len(given),
        options=encoding.options,
        on_report=on_report,
    )


def _one_by_one(
    encoding: Encoding, images: list[Stack], on_report: OnBatchReport | None
) -> list[FitResult]:
    """Search for the number of Gaussians of each image."""
    found: list[FitResult] = []
    for n, image in enumerate(images):
        try:
            with naming(n):
                found.append(encoding.run(image, _numbered(on_report, n)))
        except FitInterrupted as stop:
            raise FitInterrupted([*found, stop.result]) from None
        except KeyboardInterrupt:
            if found:
                raise FitInterrupted(found) from None
            raise
    return found


def _numbered(on_report: OnBatchReport | None, n: int) -> Callable[[int, Report], object] | None:
    """Return a function that `Encoding.run` may call, and that says which image it is."""
    return None if on_report is None else lambda k, report: on_report(n, report)
