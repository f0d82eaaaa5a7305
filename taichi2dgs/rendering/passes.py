"""Renders with their backward passes, and the workspaces that they leave to the next."""

from __future__ import annotations

import weakref

from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.rendering.cores import CoresWorkspace
from taichi2dgs.rendering.gpus import GpuWorkspace
from taichi2dgs.rendering.view import View
from taichi2dgs.rendering.workspace import SHAPES
from taichi2dgs.settings import RenderSettings

AnyWorkspace = CoresWorkspace | GpuWorkspace
IDLE_BYTES = 256 << 20  # larger workspaces are not kept after a render

# Fresh memory would cost a loop of renders as much time as the kernels do. At most two are kept,
# by whether they have served a backward pass: a loop that optimises may render in between.
_idle: dict[bool, tuple[tuple, AnyWorkspace]] = {}


def free() -> None:
    """Give back the memory that renders keep for the next render like them.

    That is at most what the last render needed, and the last one with gradients.

    >>> free()
    """
    with runtime.lock:
        _idle.clear()


def kind() -> type[CoresWorkspace] | type[GpuWorkspace]:
    """Return the class of workspaces for the current backend."""
    return GpuWorkspace if runtime.is_gpu() else CoresWorkspace


class RenderPass:
    """One render: lists are made once and serve the forward and the backward pass.

    It leaves its workspace to the next render of the same kind.
    """

    def __init__(
        self,
        params: Tensor,
        view: View,
        settings: RenderSettings,
        shape: str = SHAPES[0],
        tile: tuple[int, int] | None = None,
    ) -> None:
        channels, double = params.shape[1] - 5, params.element_size() == 8
        self.params = params
        self.shape = (view.height, view.width, channels)
        parts = ((len(params), view),)
        self.work = self._workspace(parts, channels, settings, double, shape, tile)
        self.work.measure(params)
        self.work.make_room()
        self.work.fill(params)

    def _workspace(self, *arguments) -> AnyWorkspace:
        """Return an idle workspace, if it is like this, or else a new one."""
        key = (runtime.owner(), *arguments)
        found = next((kept for kept, (its_key, _) in _idle.items() if its_key == key), False)
        idle = _idle.pop(found, None)  # if it does not fit, it is freed before its heir is made
        work = idle[1] if idle and idle[0] == key else kind()(*arguments)
        weakref.finalize(self, _leave, key, work).atexit = False
        return work

    def forward(self) -> Tensor:
        """Return the render. [H, W, C]"""
        out = self.params.new_empty(self.shape)
        self.work.forward(out)
        return out

    def backward(self, d_out: Tensor) -> Tensor:
        """Return the gradient of the packed parameters. [N, 5 + C]"""
        d_params = self.params.new_empty(self.params.shape)
        self.work.backward(self.params, d_out, d_params)
        return d_params


def _leave(key: tuple, work: AnyWorkspace) -> None:
    """Keep a workspace for the next launch, in place of the one that was kept."""
    if work.differentiated or work.bytes() <= IDLE_BYTES:
        _idle[work.differentiated] = (key, work)
