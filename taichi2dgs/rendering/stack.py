"""Rendering Gaussians of several maps to each of them."""

from __future__ import annotations

from torch import Tensor

from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.metrics import psnr
from taichi2dgs.rendering.render import render
from taichi2dgs.storage.maps import split


def render_stack(
    gaussians: Gaussians,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    *,
    scale: float | None = None,
    antialias: bool = True,
) -> dict[str, Tensor]:
    """Render Gaussians to the maps that they hold, each as the values that it stands for.

    Args:
        gaussians: what to render.
        size, crop, scale, antialias: see `taichi2dgs.render`.

    Returns:
        By the name of each map: values of sRGB, linear light or numbers, as its kind says, not
        clamped. A plain picture has the name "". Of light by the curve of HDR video there is no
        gradient. [H, W, C]

    Raises:
        ValueError: see `taichi2dgs.render`.

    >>> import torch
    >>> from taichi2dgs import Map
    >>> maps = (Map("color", 3), Map("height", 1, "data", 32, 0.0, 40.0))
    >>> g = Gaussians(torch.tensor([[2.0, 2.0]]), torch.ones(1, 2), torch.zeros(1),
    ...               torch.tensor([[0.9, 0.8, 0.7, 0.5]]), (4, 4), maps=maps)
    >>> round(float(render_stack(g)["height"][2, 2, 0]), 1)
    20.0
    """
    check_gaussians(gaussians)
    image = render(gaussians, size, crop, scale=scale, antialias=antialias)
    if not gaussians.maps:
        return {"": image}
    return {one.name: one.values(part) for one, part in split(image, gaussians.maps)}


def psnrs(gaussians: Gaussians, image: Tensor, weight: Tensor | None = None) -> dict[str, float]:
    """Return what there is to say of the PSNR, in dB, beside that of all stored values together.

    Args:
        gaussians: of several maps, or of linear light; of others there is nothing to say.
        image: stored values that they were fitted to. [H, W, C]
        weight: how much each pixel counts; None for all alike. [H, W]

    Returns:
        That of each of several maps, by "of NAME"; of linear light that in sRGB, too.
    """
    maps = gaussians.maps
    if len(maps) < 2 and not any(one.kind == "linear" for one in maps):
        return {}
    rendered = gaussians.render()
    found = {}
    for (one, ours), (_, theirs) in zip(split(rendered, maps), split(image, maps), strict=True):
        if len(maps) > 1:
            found[f"of {one.name}"] = psnr(ours, theirs, weight=weight)
        if one.kind == "linear":
            label = f"of {one.name} in sRGB" if one.name else "in sRGB"
            found[label] = psnr(one.shown(ours), one.shown(theirs), weight=weight)
    return found
