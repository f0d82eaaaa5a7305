"""The buffers that binning and splatting need, owned by Taichi and sized for one view.

Cores and GPUs have kernels of their own, and so buffers of their own: `cores.CoresWorkspace` and
`GpuWorkspace` launch the one kind and the other with the same methods.
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.kernels import binning
from taichi2dgs.kernels import render as render_kernels
from taichi2dgs.kernels import step as step_kernels
from taichi2dgs.render import SHAPES, RenderSettings, View

TILE = 16  # pixels; a result never depends on it
GPU_THREADS = 1 << 18  # units of work; more pixels than this share threads, and their slots
SPARE = 1.3  # capacity of the tile lists over what they need, where Gaussians will move
IDLE_BYTES = 256 << 20  # what has only rendered is kept up to this size

# Fresh memory would cost a loop of renders as much time as the kernels do. At most two are kept,
# by whether they have served a backward pass: a loop that optimises may render in between.
_idle: dict[bool, tuple[tuple, Workspace]] = {}


def free() -> None:
    """Give back what the last render, and the last one with gradients, keep for the next one."""
    with runtime.lock:
        _idle.clear()


def kind() -> Any:
    """Return the class of workspaces for the current backend."""
    from taichi2dgs.cores import CoresWorkspace

    return GpuWorkspace if runtime.is_gpu() else CoresWorkspace


class Workspace:
    """Tile lists for N Gaussians seen through one view; the launches that use them.

    Args:
        n: number of Gaussians, at least 1.
        channels: colour channels C.
        view: the pixels to render.
        settings: how to blend.
        double: whether numbers are float64.
        shape: what columns 2 to 4 of the parameters are.
        tile: (height, width) of a tile in pixels.

    Raises:
        ValueError: the view needs more memory than the limit, or than Taichi can index.
    """

    starts: Any  # where each tile's list begins, and the end

    def __init__(
        self,
        n: int,
        channels: int,
        view: View,
        settings: RenderSettings,
        double: bool = False,
        shape: str = SHAPES[0],
        tile: tuple[int, int] = (TILE, TILE),
    ) -> None:
        self.channels, self.settings, self.tile = channels, settings, tile
        self.owner = runtime.owner()
        self._grads: Any = None
        self.real = "f64" if double else "f32"
        tiles_y, tiles_x = -(-view.height // tile[0]), -(-view.width // tile[1])
        self.tiles = tiles_x * tiles_y
        self.kernels = self._kernels(double, shape)
        self.view = self.kernels.view_type(
            cutoff=settings.cutoff, tile_h=tile[0], tile_w=tile[1], tiles_x=tiles_x,
            tiles_y=tiles_y, **vars(view),
        )  # fmt: skip
        what = f"size={view.height}x{view.width}"
        limits.check_values(what, self.tiles * tile[0] * tile[1])
        image = view.height * view.width * channels
        limits.check(what, (8 if double else 4) * image + 8 * self.tiles)
        self.rects = runtime.array("i32", (n, limits.RECT))
        self._make(n)
        self.reserve(1)

    def _kernels(self, double: bool, shape: str) -> Any:
        """Return the kernels of this kind of device."""
        raise NotImplementedError

    def _make(self, n: int) -> None:
        """Make what does not grow; `starts` is among it. Then `_make_lists` makes what does."""
        raise NotImplementedError

    def _make_lists(self) -> None:
        raise NotImplementedError

    def gradients(self) -> tuple:
        """The lists of gradients, made when a backward pass first asks for them."""
        raise NotImplementedError

    def list_bytes(self, capacity: int, differentiated: bool) -> int:
        """Return the bytes of tile lists of so many entries, with their gradients if wanted."""
        raise NotImplementedError

    def most_entries(self, differentiated: bool) -> int:
        """Return how many entries Taichi can index in the widest of the lists."""
        row = binning.RECORD + self.channels
        if differentiated:
            row = max(row, binning.GEOMETRY + self.channels)
        return min(binning.MAX_ENTRIES - 1, limits.MAX_VALUES // row)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` entries of the tile lists; what they held is lost.

        Raises:
            MemoryError: they would need more memory than the limit, or than Taichi can index.
        """
        self._check(capacity, self.differentiated)
        self._grads = None
        self.capacity = max(capacity, 1)
        self._make_lists()

    def _check(self, capacity: int, differentiated: bool) -> None:
        if not self.allowed(capacity, differentiated):
            raise MemoryError(
                f"the tile lists would need {capacity} entries or more, "
                f"{limits.readable(self.list_bytes(capacity, differentiated))}; the Gaussians are "
                f"too large (log_scale) for their number and a limit of "
                f"{self.most_entries(differentiated)} entries and "
                f"{limits.readable(limits.memory_limit())} (taichi2dgs.set_memory_limit)"
            )

    def allowed(self, capacity: int, differentiated: bool) -> bool:
        """Whether lists of so many entries are within the limits."""
        within = self.list_bytes(capacity, differentiated) <= limits.memory_limit()
        return within and capacity <= self.most_entries(differentiated)

    def bytes(self) -> int:
        """Bytes of all that it holds on the device."""
        arrays = [held.arr for held in vars(self).values() if isinstance(held, runtime.ti.Ndarray)]
        return sum(array.nelement() * array.element_size() for array in arrays)

    @property
    def differentiated(self) -> bool:
        """Whether it has served a backward pass."""
        return self._grads is not None

    def make_room(self) -> bool:
        """Make room for what the last measured lists need; return whether there was some.

        Where Gaussians move from one launch to the next, there is then more than they need.
        """
        required = self.required()
        had_room = required <= self.capacity
        if not had_room:
            wanted = int(required * SPARE) if self.differentiated else required
            self.reserve(wanted if self.allowed(wanted, self.differentiated) else required)
        return had_room

    def required(self) -> int:
        """Entries that the last measured lists need. Waits for the device."""
        return int(self.starts.to_numpy()[self.tiles])


class GpuWorkspace(Workspace):
    """One thread treats one pixel, see `kernels/splat.py`."""

    def _kernels(self, double: bool, shape: str) -> Any:
        s = self.settings
        self.step_kernels = step_kernels.make(self.channels, s.top_k, s.blend)
        return render_kernels.make(self.channels, s.top_k, s.blend, double, shape)

    def _make(self, n: int) -> None:
        pixels = self.tiles * self.tile[0] * self.tile[1]
        self.pixels = -(-pixels // GPU_THREADS)  # of one unit
        self.units = -(-pixels // self.pixels)
        self.records = runtime.array(self.real, (n, binning.RECORD))
        self.counts = runtime.array("i32", (self.tiles,))
        self.starts = runtime.array("i32", (self.tiles + 1,))
        self.partial = runtime.array("i32", (math.isqrt(self.tiles - 1) + 1,))

    def _make_lists(self) -> None:
        self.entries = self.packed = None  # freed before their heirs
        self.entries = runtime.array("i32", (self.capacity,))
        self.packed = runtime.array(self.kernels.elements.packed, (self.capacity,))

    def gradients(self) -> tuple:
        if self._grads is None:
            self._check(self.capacity, differentiated=True)
            self._grads = runtime.array(self.kernels.elements.grads, (self.capacity,))
        return (self._grads,)

    def list_bytes(self, capacity: int, differentiated: bool) -> int:
        numbers = binning.RECORD + self.channels
        numbers += binning.GEOMETRY + self.channels if differentiated else 0
        return capacity * (numbers * (8 if self.real == "f64" else 4) + 4)

    def measure(self, params) -> None:
        """Project, and count entries."""
        self.kernels.measure(
            params, self.records, self.rects, self.counts, self.starts, self.partial, self.view
        )

    def fill(self, params) -> None:
        """Write the lists."""
        self.kernels.fill(
            params, self.records, self.rects, self.counts, self.starts, self.entries, self.packed,
            self.view,
        )  # fmt: skip

    def forward(self, out: Tensor) -> None:
        """Write out [H, W, C]."""
        self.kernels.forward(
            self.packed, self.starts, out, self.view, self.units, self.pixels, self.settings.eps
        )  # fmt: skip

    def backward(self, params: Tensor, d_out: Tensor, d_params: Tensor) -> None:
        """Write d_params [N, 5 + C]."""
        self.kernels.backward(
            params, self.records, self.rects, self.starts, self.entries, self.packed,
            *self.gradients(), d_out, d_params, self.view, self.units, self.pixels,
            self.settings.eps,
        )  # fmt: skip

    def rows(self, values: np.ndarray):
        """Return an array of one row for each Gaussian, as `step` takes it."""
        result = runtime.array("f32", values.shape)
        result.from_numpy(values)
        return result

    def target(self, image: Tensor):
        """Return the target of `step` and `score` as the kernels read it."""
        return self.rows(image.float().cpu().contiguous().numpy())

    def step(self, params, first, second, frozen, progress, target, losses, rates, number) -> None:
        """Make one step of a fit; see `kernels/step.py`."""
        self.step_kernels.step(
            params, first, second, frozen, progress, target, losses, self.records, self.rects,
            self.counts, self.starts, self.partial, self.entries, self.packed, *self.gradients(),
            self.view, rates, number, self.units, self.pixels, self.settings.eps,
        )  # fmt: skip

    def score(self, params, target, losses) -> None:
        """Write the squared error of each unit."""
        self.step_kernels.score(
            params, target, losses, self.records, self.rects, self.counts, self.starts,
            self.partial, self.entries, self.packed, self.view, self.units, self.pixels,
            self.settings.eps,
        )  # fmt: skip


class Launch:
    """One render: lists are made once and serve the forward and the backward pass.

    Its workspace is left to the next launch like it.
    """

    def __init__(
        self, params: Tensor, view: View, settings: RenderSettings, shape: str = SHAPES[0],
        tile: tuple[int, int] = (TILE, TILE),
    ) -> None:  # fmt: skip
        channels, double = params.shape[1] - 5, params.element_size() == 8
        self.params = params
        self.shape = (view.height, view.width, channels)
        self.work = self._workspace(len(params), channels, view, settings, double, shape, tile)
        self.work.measure(params)
        self.work.make_room()
        self.work.fill(params)

    def _workspace(self, *arguments) -> Any:
        """Return an idle workspace, if it is like this, or else a new one."""
        key = (runtime.owner(), *arguments)
        found = next((kept for kept, (held, _) in _idle.items() if held == key), False)
        held = _idle.pop(found, None)  # if it does not fit, it is freed before its heir is made
        work = held[1] if held and held[0] == key else kind()(*arguments)
        weakref.finalize(self, _leave, key, work).atexit = False
        return work

    def forward(self) -> Tensor:
        """Return the render. [H, W, C]"""
        self.work.forward(out := self.params.new_empty(self.shape))
        return out

    def backward(self, d_out: Tensor) -> Tensor:
        """Return the gradient of the packed parameters. [N, 5 + C]"""
        self.work.backward(self.params, d_out, d_params := torch.empty_like(self.params))
        return d_params


def _leave(key: tuple, work: Workspace) -> None:
    """Keep a workspace for the next launch, in place of the one that was kept."""
    if work.differentiated or work.bytes() <= IDLE_BYTES:
        _idle[work.differentiated] = (key, work)
