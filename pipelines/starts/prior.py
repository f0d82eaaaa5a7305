"""The Deep Gaussian Prior at work: heatmap, samples, attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from nets.prior import Residuals
from nets.unet import per_512
from pipelines.starts import place as placing
from pipelines.starts import projection, sampling
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.rendering.render import render

UNTUNED = 1.3  # power of the heat by which Gaussians are drawn that are not fitted
SHARP = 10_000  # Gaussians per 512x512 pixels, up to which others are drawn by the heat itself
# Above, by the heat to the power of (k / SHARP)^-f, where f is FLATTENING ln(n / FEW) before a fit
# of n steps, and 0 before FEW at most: 50,000 by a power of 0.6 before 50 steps, 0.4 before 500.
FLATTENING, FEW = 0.13, 5


def heatmaps(net: nn.Module, images: Tensor, k: Sequence[int]) -> Tensor:
    """Return the predicted heatmaps. [B, C, H, W] -> [B, H, W]"""
    with torch.no_grad():
        return net(as_rgb(images), torch.tensor(k, device=images.device))[:, 0].float()


def densities(net: nn.Module, images: Tensor, k: Sequence[int], steps: int) -> Tensor:
    """Return what starts are drawn by: a power of heatmaps, which falls with the steps and with k.

    The more Gaussians crowd where it is hot, the better is the start, but the worse what a fit ends
    with: of 100,000 per 512x512 pixels, drawn by the square root of the heat and not the heat, the
    start is 1.3 dB worse, but the fit 0.6 dB better after 50 steps, and 1.9 dB after 600.

    Args:
        net: the position network, on the device of the images.
        images: [B, C, H, W]
        k: number of Gaussians per image.
        steps: of the fit that is to follow, 0 if there is to be none.

    Returns:
        [B, H, W]
    """
    heat = heatmaps(net, images, k)
    if steps == 0:
        return heat**UNTUNED
    flattening = FLATTENING * math.log(max(steps, FEW) / FEW)
    power = (per_512(heat.new_tensor(k), heat[0].numel()) / SHARP).clamp(min=1) ** -flattening
    return heat ** power[:, None, None]


def place(
    images: Tensor,
    heat: Tensor,
    k: Sequence[int],
    method: str,
    seed: int | list[int],
    inside: Tensor | None = None,
) -> list[Gaussians]:
    """Sample heatmaps and put round Gaussians there; see `sampling.sample` and `place.place`.

    Args:
        images: [B, C, H, W]
        heat: [B, H, W]
        k: number of Gaussians per image.
        method: the sampler.
        seed: image b is drawn with seed + b, or with its own of a list.
        inside: where pixels may be chosen; anywhere if None. bool [B, H, W]
    """
    chosen = sampling.sample(heat, k, method, seed, inside)
    seeds = sampling.checked_seeds(seed, len(images))
    return [
        placing.place(image.permute(1, 2, 0), pixels, own)
        for image, pixels, own in zip(images, chosen, seeds, strict=True)
    ]


def rendered(gaussians: Sequence[Gaussians]) -> Tensor:
    """Render Gaussians of one size and channels to a batch. [B, C, H, W]"""
    return torch.stack([render(one).permute(2, 0, 1) for one in gaussians])


def attribute(
    net: nn.Module, images: Tensor, placed: Sequence[Gaussians], renders: Tensor
) -> list[Gaussians]:
    """Give placed Gaussians the attributes that the network predicts, differentiably in it.

    Args:
        net: the attribute network, on the device of the images.
        images: [B, C, H, W]
        placed: a start for each image, as `place` makes them.
        renders: of that start. [B, C, H, W]
    """
    with torch.no_grad():
        points = torch.stack([_points(start) for start in placed])
    k = torch.tensor([len(start) for start in placed], device=images.device)
    residuals = net(as_rgb(images), as_rgb(renders), points, k)
    return [
        moved(start, Residuals(*(part[index] for part in residuals)))
        for index, start in enumerate(placed)
    ]


def moved(start: Gaussians, residuals: Residuals) -> Gaussians:
    """Add the residuals of one image at the pixels under the centres. 4 x [c, H, W]"""
    column, row = _pixels(start)
    at = Residuals(*(part[:, row, column].T for part in residuals))
    color = start.color.clone()
    colored = 3 if start.channels >= 3 else 1  # grey gets the mean, transparency nothing
    color[:, :colored] += at.color if colored == 3 else at.color.mean(1, keepdim=True)
    return replace(
        start,
        xy=start.xy + at.offset * start.log_scale.exp(),
        log_scale=start.log_scale + at.log_scale,
        theta=start.theta + at.theta[:, 0],
        color=color,
    )


def as_rgb(images: Tensor) -> Tensor:
    """Return what the networks look at: three channels, or the first repeated. [B, 3, H, W]"""
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)


def _points(start: Gaussians) -> Tensor:
    """Gaussians per pixel, and the log of their scale, of the largest where several are. [2, H, W]

    Which of several an assignment would leave there, is not the same in every run.
    """
    column, row = _pixels(start)
    pixel = row * start.size[1] + column
    scale = start.xy.new_zeros(start.size).view(-1)
    scale.scatter_reduce_(0, pixel, start.log_scale[:, 0], "amax", include_self=False)
    return torch.stack([projection.count(start.xy, start.size), scale.view(start.size)])


def _pixels(start: Gaussians) -> tuple[Tensor, Tensor]:
    column, row = start.xy.detach().long().unbind(1)
    return column.clamp(0, start.size[1] - 1), row.clamp(0, start.size[0] - 1)
