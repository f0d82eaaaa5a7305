"""A picture to Gaussians in one call: the only place where this package looks up to pipelines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from taichi2dgs.checks import shown
from taichi2dgs.fitting.options import Report
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import Quality
from taichi2dgs.storage.stacks import as_stack

if TYPE_CHECKING:
    from pipelines.encoding import Encoding


def encode(
    image: Any,
    k: int | str | None = None,
    *,
    target_psnr: float | None = None,
    target_bytes: int | None = None,
    quality: Quality = "high",
    steps: int | None = None,
    seconds: float | None = None,
    start: str = "prior",
    seed: int = 0,
    on_report: Callable[[Report], object] | None = None,
    progress: bool = False,
    linear: bool = False,
    weight: Any = None,
    tile: bool = False,
    init: str | None = None,
) -> Gaussians:
    """Turn a picture into Gaussians: a start, and a fit for as long as you like.

    Args:
        image: a path or "sample:astronaut", a PIL image, a NumPy array or torch tensor [H, W] or
            [H, W, C] of 8 or 16 bit integers or floats in [0, 1], or a stack of `read_stack`.
        k: number of Gaussians; "auto" lets the picture choose, for about 38 dB. 50,000 if k and
            both targets are None.
        target_psnr: in place of k: find the number that ends within 0.5 dB of this; where none
            does, the nearest. It is found in the course of the fit, which takes longer than its
            budget: see `pipelines.Encoding.run`.
        target_bytes: in place of k: find the largest number whose file takes no more.
        quality: of that file, see `Gaussians.save`.
        steps: of the fit; 0 returns the start, with the colours that suit it best.
        seconds: of a fit; with steps too, what runs out first ends it. 10 if both are None.
        start: "prior" (the learned start), or another of `pipelines.STARTS`.
        seed: of the start.
        on_report: called with every `Report` of every fit.
        progress: show a bar while it works.
        linear: fit colours as linear light, which the Gaussians then hold.
        weight: how much each pixel counts, see `taichi2dgs.fit`; or the path of a grey picture.
            Where it is 0, no Gaussians are spent. PSNRs are by these weights.
        tile: fit a texture that wraps around, as the Gaussians and their file then do.
        init: an older name of `start`.

    Returns:
        The Gaussians, on the device of the image. `pipelines.Encoding(...).run(image)`, which takes
        the same, returns them with their PSNR and every report.

    Raises:
        ValueError: an argument does not fit, or a file cannot be read.
        FitInterrupted: Ctrl-C came, a KeyboardInterrupt whose `result.gaussians` are the best that
            were there. It comes as a plain KeyboardInterrupt before the first step.

    >>> import torch
    >>> import taichi2dgs as t2
    >>> t2.encode(torch.rand(16, 24, 3), k=40, steps=5, start="random")
    Gaussians(40; 16x24; 3 channels; cpu)
    """
    from pipelines.encoding import Encoding
    from pipelines.progress import FitBar

    encoding = Encoding(
        k=k,
        target_psnr=target_psnr,
        target_bytes=target_bytes,
        quality=quality,
        steps=steps,
        seconds=seconds,
        start=start if init is None else init,
        seed=seed,
        linear=linear,
    )
    encoding = _tiled(encoding, tile)
    if weight is not None:
        image = as_stack(image, linear, weight)
    with FitBar(encoding, hidden=not progress) as bar:

        def report(k: int, one: Report) -> None:
            bar.show(k, one)
            if on_report is not None:
                on_report(one)

        return encoding.run(image, report).gaussians


def encode_batch(
    images: Sequence[Any],
    k: int | str | Sequence[int] | None = None,
    *,
    target_psnr: float | None = None,
    target_bytes: int | None = None,
    quality: Quality = "high",
    steps: int | None = None,
    seconds: float | None = None,
    start: str = "prior",
    seed: int = 0,
    linear: bool = False,
    weight: Sequence[Any] | None = None,
    tile: bool = False,
    on_report: Callable[[int, Report], object] | None = None,
) -> list[Gaussians]:
    """Turn many pictures into Gaussians at once, which takes less time where they are small.

    The networks see all pictures of one size in one pass, which rounds otherwise than one for each,
    in the seventh digit; and all fits are one, see `fit_batch`.

    Args:
        images: what `encode` takes, each, of as many channels each; or a tensor [B, H, W, C].
        k: number of Gaussians, one for all or one for each; see `encode`.
        target_psnr, target_bytes: for each picture, see `encode`; then, and with an "auto" k, they
            are encoded one by one.
        quality, steps, start, seed, linear, tile: see `encode`; all pictures have the same seed.
        weight: for each picture, see `encode`, None where all pixels count alike.
        seconds: of a fit, on average: a batch of B pictures takes B times as long.
        on_report: called with the number of the picture, from 0, and every `Report`.

    Returns:
        The Gaussians of each picture.

    Raises:
        ValueError: an argument does not fit, or a file cannot be read; the message has the number
            of the picture.
        FitInterrupted: Ctrl-C came; its `result` is the list of results so far.

    >>> import torch
    >>> import taichi2dgs as t2
    >>> t2.encode_batch([torch.rand(16, 24, 3), torch.rand(9, 8, 3)], k=40, steps=5, start="random")
    [Gaussians(40; 16x24; 3 channels; cpu), Gaussians(40; 9x8; 3 channels; cpu)]
    """
    from pipelines.batch import encode_all
    from pipelines.encoding import Encoding

    several = (isinstance(k, Sequence) and not isinstance(k, str)) or getattr(k, "ndim", 0) == 1
    encoding = Encoding(
        k=None if several else k,  # type: ignore[arg-type]
        target_psnr=target_psnr,
        target_bytes=target_bytes,
        quality=quality,
        steps=steps,
        seconds=seconds,
        start=start,
        seed=seed,
        linear=linear,
    )
    ks = k if several else None
    results = encode_all(_tiled(encoding, tile), images, ks, on_report, weight=weight)
    return [result.gaussians for result in results]


def _tiled(encoding: Encoding, tile: bool) -> Encoding:
    if not isinstance(tile, bool):
        raise ValueError(f"tile={shown(tile)}; expected True or False")
    return encoding.tiled() if tile else encoding
