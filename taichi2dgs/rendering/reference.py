"""The same mathematics in dense, obvious torch, for any float type; slow, and meant to be read."""

from __future__ import annotations

import torch
from torch import Tensor

from taichi2dgs import limits
from taichi2dgs.edit import rotation
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.rendering.view import View
from taichi2dgs.settings import RenderSettings

PIXELS_AT_ONCE = 4096  # bounds the memory of the [P, N] tables


def squared_distance(gaussians: Gaussians, points: Tensor) -> Tensor:
    """Return d^T Sigma^-1 d for d = point - centre (paper Eq. 1 and Eq. 2). [P, 2] -> [P, N]"""
    offset = points[:, None, :] - gaussians.xy[None]  # [P, N, 2]
    along_axes = torch.einsum("nji,pnj->pni", rotation(gaussians.theta), offset)  # R^T d
    return (along_axes / gaussians.log_scale.exp()).square().sum(-1)


def averaged_at(
    gaussians: Gaussians, points: Tensor, settings: RenderSettings, spread: tuple[float, float]
) -> Tensor:
    """Return the colour at each point with every Gaussian spread by variances along x and y.

    Each keeps its integral, so its peak falls as its area grows. [P, 2] -> [P, C]
    """
    narrow = gaussians.covariance()
    widened = narrow + torch.diag(narrow.new_tensor(spread))  # [N, 2, 2]
    offset = points[:, None, :] - gaussians.xy[None]
    q = torch.einsum("pni,nij,pnj->pn", offset, widened.inverse(), offset)
    peak = (narrow.det() / widened.det()).sqrt()
    weight = torch.where(q <= settings.cutoff**2, peak * (-q / 2).exp(), 0.0)
    total = weight @ gaussians.color
    if settings.blend == "sum":
        return total
    return total / (weight.sum(1, keepdim=True) + settings.eps)


def blend_at(gaussians: Gaussians, points: Tensor, settings: RenderSettings) -> Tensor:
    """Return the colour at each point (paper Eq. 3). [P, 2] -> [P, C]"""
    q = squared_distance(gaussians, points)
    weight = torch.where(q <= settings.cutoff**2, (-q / 2).exp(), 0.0)
    if settings.blend == "sum":
        return weight @ gaussians.color
    nearest = q.detach().sort(dim=1, stable=True).indices[:, : settings.top_k]  # [P, K]
    weight = weight.gather(1, nearest)
    total = (weight[..., None] * gaussians.color[nearest]).sum(1)
    return total / (weight.sum(1, keepdim=True) + settings.eps)


def render(
    gaussians: Gaussians,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    antialias: bool = True,
    **changes,
) -> Tensor:
    """Render as `taichi2dgs.render` does, with its arguments, by autograd-friendly torch.

    Returns:
        The image. [H, W, C]

    Raises:
        ValueError: as `taichi2dgs.render`.
    """
    check_gaussians(gaussians)
    settings = gaussians.settings.but(**changes)
    gaussians = copies(gaussians) if settings.tile else gaussians
    view = View.of(gaussians.size, size, crop)
    pixel_bytes = gaussians.xy.element_size()
    limits.check_render(view.height, view.width, gaussians.channels, len(gaussians), pixel_bytes)
    points = sample_points(view, gaussians.xy)
    parts = points.split(PIXELS_AT_ONCE)
    if antialias and view.spread != (0, 0):
        chunks = [averaged_at(gaussians, part, settings, view.spread) for part in parts]
    else:
        chunks = [blend_at(gaussians, part, settings) for part in parts]
    return torch.cat(chunks).reshape(view.height, view.width, gaussians.channels)


def copies(gaussians: Gaussians) -> Gaussians:
    """Return nine copies of each Gaussian, side by side, for a picture that wraps around. [9 N]

    They are its centre, brought into the picture by whole widths and heights, and the eight places
    next to it.
    """
    height, width = gaussians.size
    period = gaussians.xy.new_tensor([width, height])
    inside = gaussians.xy - (gaussians.xy / period).detach().floor() * period
    steps = torch.tensor([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]).to(period)
    repeated = gaussians[torch.arange(len(gaussians)).repeat_interleave(len(steps))]
    return repeated.replace(xy=(inside[:, None] + steps * period).flatten(0, 1))


def sample_points(view: View, like: Tensor) -> Tensor:
    """Return the sample points of a view, row by row, with the type and device of `like`. [P, 2]"""
    columns = torch.arange(view.width, device=like.device, dtype=like.dtype)
    rows = torch.arange(view.height, device=like.device, dtype=like.dtype)
    x = (columns + view.left + 0.5) * view.pitch_x
    y = (rows + view.top + 0.5) * view.pitch_y
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)
