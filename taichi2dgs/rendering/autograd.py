"""Rendering as an operation of torch's autograd."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from taichi2dgs import limits, runtime
from taichi2dgs.rendering.passes import RenderPass
from taichi2dgs.rendering.view import View
from taichi2dgs.rendering.workspace import SHAPES
from taichi2dgs.settings import RenderSettings


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
        params = params.detach().contiguous()
        with runtime.launching():
            made = RenderPass(params, view, settings, shape)
            out = made.forward()
        if ctx.needs_input_grad[0]:
            ctx.made = made
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, *grad_outputs: Tensor):  # type: ignore[override]
        (d_out,) = grad_outputs
        with runtime.launching(ctx.made.work.owner):
            return ctx.made.backward(d_out.detach().contiguous()), None, None, None
