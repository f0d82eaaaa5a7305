"""Instant-GI's start as far as its paper goes: Gaussians shaped by a Delaunay triangulation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nets.weights import load
from pipelines.starts import prior
from pipelines.starts.place import MIN_SCALE
from taichi2dgs.gaussians import Gaussians


def triangulated(image: Tensor, k: int, seed: int) -> Gaussians:
    """Dither the position network's heatmap, triangulate the points, and shape them by neighbours.

    A Gaussian's covariance is the mean of d d^T over the edges d that meet at its centre: on a
    lattice of equal triangles, round, with 0.71 of an edge as its standard deviation. Colours are
    those of the pixels. Points that have no triangulation, fewer than three or all on a line,
    stay round.

    Args:
        image: values in [0, 1]. [H, W, C]
        k: number of Gaussians.
        seed: of the dithering.

    Raises:
        ImportError: SciPy is not installed.
    """
    spatial = _spatial()
    batch = image.permute(2, 0, 1)[None]
    heat = prior.heatmaps(load("position").to(image.device), batch, [k])
    start = prior.place(batch, heat, [k], "floyd-steinberg", seed)[0]
    points = start.xy.cpu().double().numpy()
    try:
        first, others = spatial.Delaunay(points).vertex_neighbor_vertices
    except (spatial.QhullError, ValueError):
        return start
    edges = points[others] - np.repeat(points, np.diff(first), 0)
    products = edges[:, :, None] * edges[:, None]
    sums = np.zeros((len(points), 2, 2))
    np.add.at(sums, np.repeat(np.arange(len(points)), np.diff(first)), products)
    met = np.diff(first)  # none at duplicates, which stay round
    covariance = torch.from_numpy(sums / np.maximum(met, 1)[:, None, None])
    variance, axes = torch.linalg.eigh(covariance)  # ascending; axes are columns
    scale = variance.flip(1).clamp(min=MIN_SCALE**2).sqrt().log().float().to(image.device)
    theta = torch.atan2(axes[:, 1, 1], axes[:, 0, 1]).float().to(image.device)
    shaped = torch.from_numpy(met > 0).to(image.device)
    return replace(
        start,
        log_scale=torch.where(shaped[:, None], scale, start.log_scale),
        theta=torch.where(shaped, theta, start.theta),
    )


def _spatial() -> Any:
    try:
        from scipy import spatial
    except ImportError as error:
        raise ImportError(
            "start 'instant-gi' needs the package scipy; pip install 'taichi2dgs[bench]'"
        ) from error
    return spatial
