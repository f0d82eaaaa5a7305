"""Rendering Gaussians to images."""

from __future__ import annotations

from torch import Tensor

from taichi2dgs import limits
from taichi2dgs.gaussians import Gaussians, check_gaussians
from taichi2dgs.rendering import footprint
from taichi2dgs.rendering.autograd import render_packed
from taichi2dgs.rendering.view import View
from taichi2dgs.rendering.workspace import SHAPES
from taichi2dgs.settings import Blend


def render(
    gaussians: Gaussians,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    *,
    scale: float | None = None,
    antialias: bool = True,
    top_k: int | None = None,
    cutoff: float | None = None,
    eps: float | None = None,
    blend: Blend | None = None,
    tile: bool | None = None,
) -> Tensor:
    """Render Gaussians to an image, differentiably, once, in xy, log_scale, theta and color.

    `torch.compile` leaves a call between two graphs; `torch.func` and `vmap` refuse it.

    Each pixel blends the top_k Gaussians that weigh most there (lower index first on a tie), among
    those whose ellipse at `cutoff` standard deviations covers the pixel's centre; which ones these
    are is treated as constant by the backward pass. A pixel that nothing covers is 0.

    Args:
        gaussians: what to render, float32 (or float64, on backends that have it).
        size: (height, width) of the output in pixels; the picture's own size if None.
        scale: in place of size, how many times the picture's own size; 3 is three times each side.
        crop: (top, left, height, width) in output pixels; equals the same part of the whole
            render, bit for bit.
        antialias: below the picture's own size, average Gaussians over the larger pixels, so that
            detail fades instead of aliasing; see `footprint.py`. Here the normalised blend
            takes all Gaussians, whatever top_k. Without it, pixels are samples at their centres.
        top_k, cutoff, eps, blend, tile: see `RenderSettings`; as `gaussians.settings` if None.

    Returns:
        The image, not clamped, on the device of the Gaussians. [H, W, C]

    Raises:
        ValueError: an argument is out of range, or the picture needs more memory than the limit
            (see `set_memory_limit`).
        MemoryError: the Gaussians are so large that their tile lists need more.

    Source: paper Eq. 1, Eq. 2 and Eq. 3.

    >>> import torch
    >>> g = Gaussians(torch.tensor([[4.0, 4.0]]), torch.zeros(1, 2), torch.zeros(1),
    ...               torch.ones(1, 1), (8, 8))
    >>> render(g, scale=2).shape
    torch.Size([16, 16, 1])
    >>> bool((render(g, scale=2, crop=(4, 4, 8, 8)) == render(g, scale=2)[4:12, 4:12]).all())
    True
    """
    check_gaussians(gaussians)
    settings = gaussians.settings.but(top_k=top_k, cutoff=cutoff, eps=eps, blend=blend, tile=tile)
    view, params = View.of(gaussians.size, size, crop, scale), gaussians.packed()
    if not antialias or view.spread == (0, 0):
        return render_packed(params, view, settings)
    limits.check_render(
        view.height, view.width, gaussians.channels, len(params), params.element_size(), True
    )
    widened = footprint.widened(params, *view.spread)
    sums = render_packed(widened, view, footprint.summed(settings), SHAPES[1])
    return footprint.blended(sums, settings)
