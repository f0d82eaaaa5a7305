"""A picture to Gaussians in one call: the only place where this package looks up to pipelines."""

from __future__ import annotations

from typing import Any

from taichi2dgs import files
from taichi2dgs.fit import check_budget, fit
from taichi2dgs.gaussians import Gaussians

SECONDS = 10.0  # unless told


def encode(
    image: Any,
    k: int = 50_000,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    init: str = "prior",
    seed: int = 0,
) -> Gaussians:
    """Turn a picture into k Gaussians: a start, and a fit for as long as you like.

    Args:
        image: a path or "sample:astronaut", a PIL image, or a NumPy array or torch tensor [H, W] or
            [H, W, C] of 8 or 16 bit integers or floats in [0, 1].
        k: number of Gaussians.
        steps: of the fit; 0 returns the start as it is.
        seconds: of the fit; with steps too, what runs out first ends it. 10 if both are None.
        init: "prior" (the learned start), or another of `pipelines.INITS`.
        seed: of the start.

    Returns:
        The Gaussians, on the device of the image.

    Raises:
        ValueError: an argument does not fit, or a file cannot be read.
    """
    from pipelines import initialize

    if steps is None and seconds is None:
        seconds = SECONDS
    check_budget(steps, seconds)
    picture = files.as_image(image)
    start = initialize(picture, k, init, seed)
    if steps == 0 or seconds == 0:
        return start
    return fit(picture, start, steps=steps, seconds=seconds).gaussians
