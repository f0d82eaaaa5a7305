"""A picture to Gaussians in one call: the only place where this package looks up to pipelines."""

from __future__ import annotations

from typing import Any

from taichi2dgs import files
from taichi2dgs.gaussians import Gaussians


def encode(
    image: Any,
    k: int | str | None = None,
    *,
    target_psnr: float | None = None,
    target_bytes: int | None = None,
    quality: str = "high",
    steps: int | None = None,
    seconds: float | None = None,
    init: str = "prior",
    seed: int = 0,
) -> Gaussians:
    """Turn a picture into Gaussians: a start, and a fit for as long as you like.

    Args:
        image: a path or "sample:astronaut", a PIL image, or a NumPy array or torch tensor [H, W] or
            [H, W, C] of 8 or 16 bit integers or floats in [0, 1].
        k: number of Gaussians; "auto" lets the picture's detail choose, for about 38 dB. 50,000 if
            k and both targets are None.
        target_psnr: in place of k: find the number that ends within 0.5 dB of this; where none
            does, the nearest. A search fits mostly twice, at most five times.
        target_bytes: in place of k: find the largest number whose file takes no more.
        quality: of that file, see `Gaussians.save`.
        steps: of a fit; 0 returns the start as it is.
        seconds: of a fit; with steps too, what runs out first ends it. 10 if both are None.
        init: "prior" (the learned start), or another of `pipelines.INITS`.
        seed: of the start.

    Returns:
        The Gaussians, on the device of the image.

    Raises:
        ValueError: an argument does not fit, or a file cannot be read.
        FitInterrupted: Ctrl-C came, a KeyboardInterrupt whose `result.gaussians` are the best that
            were there. It comes as a plain KeyboardInterrupt before the first step.
    """
    from pipelines.encoding import Encoding

    encoding = Encoding(
        k=k, target_psnr=target_psnr, target_bytes=target_bytes, quality=quality, steps=steps,
        seconds=seconds, init=init, seed=seed,
    )  # fmt: skip
    return encoding.run(files.as_image(image)).gaussians
