"""Engines that go on from another: with some of its pictures, or with other Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.fitting import respawn
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture, check_memory
from taichi2dgs.order import morton_order


def only(engine: Engine, which: Sequence[int]) -> Engine:
    """Return an engine of some of the pictures."""
    state = engine.state()
    return heir(engine, [engine.pictures[p] for p in which], [state[p] for p in which])


def resized(engine: Engine, counts: Sequence[int]) -> Engine:
    """Return an engine with so many Gaussians of each picture.

    Those that leave cost the picture least, and those that come are set down at its worst pixels,
    see `respawn.resized`. Adam's averages go on for those that stay.

    Raises:
        ValueError: so many need more memory than the limit.
    """
    check_memory(engine.pictures, counts)
    costs, residuals = engine.removal()
    given = zip(
        engine.pictures, engine.state(), costs.split(engine.counts), engine.images, residuals,
        engine.weights, counts, strict=True,
    )  # fmt: skip
    pictures, state = zip(*(_resized(engine, *one) for one in given), strict=True)
    with runtime.launching(engine.work.owner):
        engine.work.reserve(1)  # the lists are freed before their heirs are made
    return heir(engine, pictures, state)


def _resized(
    engine: Engine,
    picture: Picture,
    state: Tensor,
    costs: Tensor,
    image: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    k: int,
) -> tuple[Picture, Tensor]:
    """Return a picture with k Gaussians, and their state."""
    kept, added = respawn.resized(costs, image, residual, k, *engine.setting_down(), weight=weight)
    kept, added = kept.cpu(), added.cpu()
    begun = torch.stack([added, torch.zeros_like(added), torch.zeros_like(added)])
    state = torch.cat([state[:, kept], begun], 1)
    last, new = int(picture.places.max()) + 1, torch.zeros(len(added), dtype=torch.bool)
    places = torch.cat([picture.places[kept], torch.arange(last, last + len(added))])
    frozen = None if picture.frozen is None else torch.cat([picture.frozen.cpu()[kept], new])
    order = morton_order(state[0, :, :2], picture.size)
    state = state[:, order]
    after = replace(
        picture,
        params=state[0],
        frozen=None if frozen is None else frozen[order],
        order=places[order],
    )
    return after, state


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
