"""Nearest-neighbour distances of scattered points."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.checks import whole
from taichi2dgs.kernels import neighbours as kernels
from taichi2dgs.tensors import check_dense

POINTS_PER_CELL = 2


def neighbour_distances(xy: Tensor, count: int = 3) -> Tensor:
    """Return the distances from every point to its nearest others, ascending.

    Args:
        xy: finite points in any unit. [N, 2]
        count: how many neighbours, from 1 to 16.

    Returns:
        Distances in the same unit, infinite where fewer than `count` other points exist. [N, count]

    Raises:
        ValueError: an argument is out of range.
    """
    check_dense(xy, "xy")
    if xy.ndim != 2 or xy.shape[1] != 2 or not bool(torch.isfinite(xy).all()):
        raise ValueError(f"xy has shape {list(xy.shape)}; expected finite points, [N, 2]")
    count = whole(count, "count", 1, 16)
    if not len(xy):
        return xy.new_empty(0, count)
    points = xy.detach().float().cpu()
    points = points - points.amin(0)
    extent = points.amax(0).clamp(min=1e-6)
    side = max(
        math.sqrt(float(extent.prod()) * POINTS_PER_CELL / len(points)),
        float(extent.max()) / (2 * len(points)),  # bounds the grid of points on a line
    )
    columns, rows = (int(length / side) + 1 for length in extent.tolist())
    cell = (points / side).long()
    cell = cell[:, 1].clamp(max=rows - 1) * columns + cell[:, 0].clamp(max=columns - 1)
    cell, order = cell.sort(stable=True)
    starts = torch.searchsorted(cell, torch.arange(columns * rows + 1, device="cpu")).int()
    distances = points.new_empty(len(points), count)
    with runtime.launching():
        kernels.make(count)(
            points[order].contiguous(), cell.int(), starts, distances, columns, rows, side
        )
        runtime.sync()
    result = torch.empty_like(distances)
    result[order] = distances
    return result.to(xy)
