"""Fitting on for what rounding will do, and then while parameters are being rounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from taichi2dgs.checks import whole
from taichi2dgs.fitting.fit import fit
from taichi2dgs.fitting.options import FitInterrupted, FitOptions
from taichi2dgs.gaussians import GEOMETRY, Gaussians
from taichi2dgs.order import morton_order
from taichi2dgs.storage import t2d
from taichi2dgs.storage.quantise import Precision, quantise

CENTRES = 2  # columns of packed parameters that hold them
GROUPS = 4  # into which Gaussians are dealt out, and which are rounded one after the other
FEW = 200  # steps; with fewer there is no fit before anything is rounded
MANY = 300  # steps that the fits after it have together, at most
# Learning rates of that fit, and of those after it, in the steps to which parameters are rounded:
# what is rounded finely has little to move. Those of angles are in steps of stretch.
BEFORE = {"xy": 0.3, "log_scale": 0.66, "theta": 0.125, "color": 0.3}
AFTER = {"xy": 0.0, "log_scale": 0.23, "theta": 0.11, "color": 0.38}
STAGES = 1 + 2 * GROUPS  # fits, of which the first, if there is one, has half of the steps or more


def refined(
    gaussians: Gaussians,
    image: Any,
    precision: Precision,
    steps: int,
    on_stage: Callable[[int], object] | None = None,
) -> Gaussians:
    """Return Gaussians that lose less to rounding: it goes by stages, and fits make up for each.

    Before anything is rounded, a fit with noise (`noise.py`) finds what rounding harms less, if
    there are steps enough. Then all centres are rounded, then scales and angles of one group of
    Gaussians after the other, and then their colours. After each a fit moves what is still free, so
    that it makes up for what rounding cost; nothing makes up for the colours of the last group.

    Args:
        gaussians: of the image.
        image: what `taichi2dgs.fit` takes.
        precision: to which they will be rounded.
        steps: of the fits, in all.
        on_stage: called after each of the `STAGES`, with how many are done.

    Raises:
        KeyboardInterrupt: Ctrl-C came; nothing is changed.
        ValueError: the image does not fit the Gaussians, or steps is not a whole number.
    """
    group = _groups(gaussians)
    still = FitOptions(settings=gaussians.settings, respawn=0, report_every=max(1, steps))
    noisy = replace(still, rounding=precision, growing_memory=False, **_rates(BEFORE, precision))
    shapes = replace(still, **_rates(AFTER, precision))
    colors = replace(shapes, log_scale=0.0, theta=0.0)
    everyone = torch.ones_like(group, dtype=torch.bool)
    stages = [(None, None, None, noisy), (everyone, CENTRES, None, shapes)]
    stages += [(group <= g, GEOMETRY, group <= g, shapes) for g in range(GROUPS - 1)]
    stages += [(everyone, GEOMETRY, None, colors)]
    stages += [(group <= g, None, group <= g, colors) for g in range(GROUPS - 1)]
    shares = _parts(steps, STAGES - 1)
    for number, (rows, columns, frozen, options) in enumerate(stages):
        if rows is not None:
            gaussians = rounded(gaussians, precision, rows, columns)
        try:
            result = fit(image, gaussians, steps=shares[number], frozen=frozen, options=options)
        except FitInterrupted:  # its result is half rounded, and of no use to anyone
            raise KeyboardInterrupt from None
        gaussians = result.gaussians
        if on_stage is not None:
            on_stage(number + 1)
    return gaussians


def _rates(shares: dict[str, float], precision: Precision) -> dict[str, float]:
    """Return learning rates, which are given in the steps to which parameters are rounded."""
    units = (precision.xy, precision.log_size, precision.stretch, precision.color)
    return {name: share * unit for (name, share), unit in zip(shares.items(), units, strict=True)}


def _parts(steps: int, count: int) -> list[int]:
    """Deal steps out: half or more to the first fit, if they are many, the others evenly.

    >>> _parts(201, 4), _parts(25, 4), _parts(1200, 3)
    ([100, 25, 25, 25, 26], [0, 6, 6, 6, 7], [900, 100, 100, 100])
    """
    first = max(steps // 2, steps - MANY) if steps >= FEW else 0
    rest = steps - first
    return [first, *(rest * (n + 1) // count - rest * n // count for n in range(count))]


def encode_refined(
    gaussians: Gaussians,
    quality: str,
    image: Any,
    refine: int,
    on_stage: Callable[[int], object] | None = None,
    progressive: bool = False,
) -> bytes:
    """Return the content of a .t2d file, for which Gaussians are refined; see `Gaussians.save`.

    For `on_stage` see `refine`.
    """
    precision = t2d.checked_precision(gaussians, quality, progressive)
    steps = whole(refine, "refine", 0)
    if steps and precision is not None:
        if image is None:
            raise ValueError(f"refine={steps} without an image; expected the one that was fitted")
        gaussians = refined(gaussians, image, precision, steps, on_stage)
    return t2d.encode(gaussians, quality, progressive)


def _groups(gaussians: Gaussians) -> Tensor:
    """Deal Gaussians out to groups, neighbours to different ones. [N]"""
    group = torch.empty(len(gaussians), dtype=torch.int64, device=gaussians.xy.device)
    order = morton_order(gaussians.xy, gaussians.size)
    group[order] = torch.arange(len(group), device=group.device) % GROUPS
    return group


def rounded(
    gaussians: Gaussians, precision: Precision, rows: Tensor, columns: int | None
) -> Gaussians:
    """Return Gaussians, of which the first columns of some rows of parameters are rounded."""
    params = gaussians.packed().detach().clone()
    cells = quantise(params.cpu().float().numpy(), gaussians.size, precision)
    params[rows, :columns] = torch.from_numpy(cells.params()).to(params)[rows, :columns]
    return Gaussians.from_packed(params, gaussians.size, gaussians.settings, gaussians.maps)
