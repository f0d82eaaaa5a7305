"""Whole mip chains: a picture at its own size, and at every halving of it."""

from __future__ import annotations

from torch import Tensor

from taichi2dgs.checks import whole
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.rendering.render import render


def render_mips(
    gaussians: Gaussians, levels: int | None = None, *, tile: bool | None = None
) -> list[Tensor]:
    """Render Gaussians at the picture's own size and at every halving of it, down to 1x1.

    Each level is what `render(size=)` makes of it: averaged over its pixels, and differentiable.
    Heights and widths are halved and rounded down, to 1 at least, as graphics APIs do.

    Args:
        gaussians: what to render.
        levels: how many, from the largest; all if None.
        tile: whether the picture wraps around; as `gaussians.settings` if None.

    Returns:
        The levels, the largest first. [H, W, C], [H / 2, W / 2, C], ...

    Raises:
        ValueError: levels is not a number from 1 to that of all, or see `taichi2dgs.render`.

    >>> import torch
    >>> g = Gaussians(torch.tensor([[4.0, 4.0]]), torch.zeros(1, 2), torch.zeros(1),
    ...               torch.ones(1, 3), (5, 12))
    >>> [tuple(level.shape) for level in render_mips(g)]
    [(5, 12, 3), (2, 6, 3), (1, 3, 3), (1, 1, 3)]
    """
    check_gaussians(gaussians)
    height, width = gaussians.size
    most = max(height, width).bit_length()
    count = most if levels is None else whole(levels, "levels", 1, most)
    sizes = [(max(1, height >> level), max(1, width >> level)) for level in range(count)]
    return [render(gaussians, size, tile=tile) for size in sizes]
