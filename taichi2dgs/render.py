"""Differentiable rendering: a torch.autograd.Function around the kernels."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi2dgs import footprint, limits, runtime
from taichi2dgs.gaussians import Gaussians, check_gaussians, checked_size
from taichi2dgs.settings import RenderSettings, shown, wholes

SHAPES = ("scale-rotation", "cholesky")
MAX_SIDE = 10**9  # pixels; beyond it, pixel numbers no longer fit the integers of the kernels


@dataclass(frozen=True)
class View:
    """The pixels to render: a crop of the picture, sampled on a grid of any size.

    Sample points are pixel centres scaled to the picture's own units, so rendering at s times the
    size is the same as scaling centres and standard deviations by s.
    """

    left: int
    top: int
    width: int
    height: int
    pitch_x: float
    pitch_y: float

    @property
    def spread(self) -> tuple[float, float]:
        """Variance that pixels larger than the picture's own add along x and along y."""
        return footprint.spread(self.pitch_x), footprint.spread(self.pitch_y)

    @classmethod
    def of(cls, picture: tuple[int, int], size, crop) -> View:
        """Return the view of a picture of (height, width) at `size`, cut to `crop`.

        Raises:
            ValueError: size or crop is malformed, or the crop leaves the image.
        """
        height, width = picture if size is None else checked_size(size, "size")
        if max(height, width) > MAX_SIDE:
            raise ValueError(f"size={(height, width)!r}; expected at most {MAX_SIDE} pixels a side")
        pitch_x, pitch_y = picture[1] / width, picture[0] / height
        if crop is None:
            return cls(0, 0, width, height, pitch_x, pitch_y)
        box = wholes(crop, 4)
        if box is None:
            raise ValueError(
                f"crop={shown(crop)}; expected (top, left, height, width), whole numbers of pixels"
            )
        top, left, rows, columns = box
        inside = top >= 0 and left >= 0 and top + rows <= height and left + columns <= width
        if not inside or rows < 1 or columns < 1:
            raise ValueError(f"crop={shown(crop)} does not lie in an image of {height}x{width}")
        return cls(left, top, columns, rows, pitch_x, pitch_y)


def render(
    gaussians: Gaussians,
    size: tuple[int, int] | None = None,
    crop: tuple[int, int, int, int] | None = None,
    *,
    antialias: bool = True,
    top_k: int | None = None,
    cutoff: float | None = None,
    eps: float | None = None,
    blend: str | None = None,
) -> Tensor:
    """Render Gaussians to an image, differentiably, once, in xy, log_scale, theta and color.

    `torch.compile` leaves a call between two graphs; `torch.func` and `vmap` refuse it.

    Each pixel blends the top_k Gaussians that weigh most there (lower index first on a tie), among
    those whose ellipse at `cutoff` standard deviations covers the pixel's centre; which ones these
    are is treated as constant by the backward pass. A pixel that nothing covers is 0.

    Args:
        gaussians: what to render, float32 (or float64, on backends that have it).
        size: (height, width) of the output in pixels; the picture's own size if None.
        crop: (top, left, height, width) in output pixels; equals the same part of the whole
            render, bit for bit.
        antialias: below the picture's own size, average Gaussians over the larger pixels, so that
            detail fades instead of aliasing; see `footprint.py`. Here the normalised blend
            takes all Gaussians, whatever top_k. Without it, pixels are samples at their centres.
        top_k, cutoff, eps, blend: see `RenderSettings`; those of `gaussians.settings` if None.

    Returns:
        The image, not clamped, on the device of the Gaussians. [H, W, C]

    Raises:
        ValueError: an argument is out of range, or the picture needs more memory than the limit
            (see `set_memory_limit`).
        MemoryError: the Gaussians are so large that their tile lists need more.

    Source: paper Eq. 1 to 3.
    """
    check_gaussians(gaussians)
    settings = gaussians.settings.but(top_k=top_k, cutoff=cutoff, eps=eps, blend=blend)
    view, params = View.of(gaussians.size, size, crop), gaussians.packed()
    if not antialias or view.spread == (0, 0):
        return render_packed(params, view, settings)
    limits.check_render(
        view.height, view.width, gaussians.channels, len(params), params.element_size(), True
    )
    wide = footprint.widened(params, *view.spread)
    sums = render_packed(wide, view, footprint.summed(settings), SHAPES[1])
    return footprint.blended(sums, settings)


def render_packed(
    params: Tensor, view: View, settings: RenderSettings, shape: str = SHAPES[0]
) -> Tensor:
    """Render packed parameters, differentiably in them; see `render`.

    Args:
        params: centre, three columns of shape, and colour. [N, 5 + C]
        view: the pixels to render.
        settings: how to blend.
        shape: "scale-rotation", the columns of `Gaussians.packed`; or "cholesky", the elements
            (l0, l1, l2) of L = [[l0, 0], [l1, l2]] in pixels, where Sigma = L L^T, as in
            GaussianImage. l0 and l2 are not 0.

    Returns:
        The image, on the device of params. [H, W, C]
    """
    # Only a process that has loaded torch's compiler, which takes seconds, can be compiling.
    call = _outside_graphs() if "torch._dynamo" in sys.modules else _rendered
    return call(params, view, settings, shape)


@functools.cache
def _outside_graphs() -> Callable[..., Tensor]:
    """The renderer as `torch.compile` has to call it: between its graphs, as it is."""
    return torch.compiler.disable(_rendered)  # type: ignore[return-value]


def _rendered(params: Tensor, view: View, settings: RenderSettings, shape: str) -> Tensor:
    channels = params.shape[1] - 5
    limits.check_render(view.height, view.width, channels, len(params), params.element_size())
    if not len(params):  # kernels take no empty arrays; keep the graph
        blank = params.new_zeros(view.height, view.width, channels)
        return blank + 0 * params.sum() if params.requires_grad else blank
    if params.dtype == torch.float64 and runtime.init() not in runtime.DOUBLE:
        raise ValueError(
            f"gaussians are float64, which backend {runtime.init()!r} lacks; "
            "expected float32, or one of the backends " + ", ".join(runtime.DOUBLE)
        )
    where = runtime.device()
    return _Render.apply(params.to(where), view, settings, shape).to(params.device)


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx, params: Tensor, view: View, settings: RenderSettings, shape: str) -> Tensor:
        from taichi2dgs.workspace import Launch

        params = params.detach().contiguous()
        with runtime.launching():
            launch = Launch(params, view, settings, shape)
            out = launch.forward()
        if ctx.needs_input_grad[0]:
            ctx.launch = launch
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):  # type: ignore[override]
        (d_out,) = grad_outputs
        with runtime.launching(ctx.launch.work.owner):
            return ctx.launch.backward(d_out.detach().contiguous()), None, None, None
