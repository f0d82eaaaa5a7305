"""Engines that go on from another: with some of its pictures, or with other Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.fitting import respawn
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.order import morton_order


def only(engine: Engine, which: Sequence[int]) -> Engine:
    """Return an engine of some of the pictures."""
    state = engine.state()
    return heir(engine, [engine.pictures[p] for p in which], [state[p] for p in which])


def resized(engine: Engine, counts: Sequence[int]) -> tuple[Engine, list[Tensor]]:
    """Return an engine with so many Gaussians of each picture.

    Those that leave cost the picture least, and those that come are set down at its worst pixels,
    see `respawn.resized`. Adam's averages go on for those that stay.

    Returns:
        The engine; and of each picture, for each Gaussian, the row that it had before, or -1 for
        one that was added. [N] each

    Raises:
        ValueError: so many need more memory than the limit.
    """
    engine.check_memory(counts)
    costs, residuals = engine.removal()
    given = zip(
        engine.pictures, engine.state(), costs.split(engine.counts), engine.images, residuals,
        counts, strict=True,
    )  # fmt: skip
    pictures, state, rows = zip(*(_resized(engine, *one) for one in given), strict=True)
    with runtime.launching(engine.work.owner):
        engine.work.reserve(1)  # the lists are freed before their heirs are made
    return heir(engine, pictures, state), list(rows)


def _resized(
    engine: Engine,
    picture: Picture,
    state: Tensor,
    costs: Tensor,
    image: Tensor,
    residual: Tensor,
    k: int,
) -> tuple[Picture, Tensor, Tensor]:
    """Return a picture with k Gaussians, their state, and the rows that they had."""
    kept, added = respawn.resized(costs, image, residual, k, *engine.setting_down())
    kept, added = kept.cpu(), added.cpu()
    begun = torch.stack([added, torch.zeros_like(added), torch.zeros_like(added)])
    state = torch.cat([state[:, kept], begun], 1)
    rows = torch.cat([kept, kept.new_full((len(added),), -1)])
    order = morton_order(state[0, :, :2], picture.size)
    state, rows = state[:, order], rows[order]
    frozen = None
    if picture.frozen is not None:
        frozen = picture.frozen.cpu()[rows.clamp(min=0)] & (rows >= 0)
    return replace(picture, params=state[0], frozen=frozen), state, rows


def heir(engine: Engine, pictures: Sequence[Picture], state: Sequence[Tensor]) -> Engine:
    """Return an engine that goes on with what another's pictures have become.

    Args:
        pictures: with as many Gaussians as the state.
        state: parameters and both averages. [3, N, 5 + C] each
    """
    after = Engine(pictures, engine.options, measured=False)
    after.done = engine.done
    with runtime.launching(engine.work.owner):
        held = (after.packed, after.exp_avg, after.exp_avg_sq)
        for array, rows in zip(held, torch.cat(list(state), 1), strict=True):
            array.from_numpy(rows.contiguous().numpy())
        after.progress.from_numpy(engine.progress.to_numpy())
    return after
