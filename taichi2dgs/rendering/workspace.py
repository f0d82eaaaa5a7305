"""The buffers that binning and splatting need, owned by Taichi and sized for one view."""

from __future__ import annotations

import math
import weakref
from typing import Any

from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.kernels import binning
from taichi2dgs.kernels import render as render_kernels
from taichi2dgs.rendering.view import View
from taichi2dgs.settings import RenderSettings

SHAPES = ("scale-rotation", "cholesky")  # what columns 2 to 4 of packed parameters are
TILE = 16  # pixels; a result never depends on it
CPU_LANES = 8  # pixels per span: one AVX2 register of floats, half an AVX-512 one
GPU_THREADS = 1 << 18  # units of work; more pixels than this share threads, and their slots
SPARE = 1.3  # capacity of the tile lists over what they need, where Gaussians will move

# At most one: fresh memory would cost a loop of renders as much time as the kernels do.
_idle: list[tuple[tuple, Workspace]] = []


def lanes() -> int:
    """Return how many pixels one span holds on the current backend."""
    return 1 if runtime.is_gpu() else CPU_LANES


class Workspace:
    """Tile lists and slots for N Gaussians seen through one view.

    Args:
        kernels: a kernel set; it brings the types of spans and views.
        n: number of Gaussians, at least 1.
        channels: colour channels C.
        view: the pixels to render.
        settings: how to blend.
        double: whether numbers are float64.
        tile: (height, width) of a tile in pixels; the width is a multiple of the lanes.

    Raises:
        ValueError: the view needs more memory than the limit, or than Taichi can index.
    """

    def __init__(
        self,
        kernels: Any,
        n: int,
        channels: int,
        view: View,
        settings: RenderSettings,
        double: bool = False,
        tile: tuple[int, int] = (TILE, TILE),
    ) -> None:
        self.kernels, self.channels = kernels, channels
        self.owner = runtime.owner()
        self._sums: Any = None
        self._grads: Any = None
        self.real = "f64" if double else "f32"
        tiles_y, tiles_x = -(-view.height // tile[0]), -(-view.width // tile[1])
        self.tiles = tiles_x * tiles_y
        self.view = kernels.view_type(
            cutoff=settings.cutoff, tile_h=tile[0], tile_w=tile[1], tiles_x=tiles_x,
            tiles_y=tiles_y, **vars(view),
        )  # fmt: skip
        self.spans = tile[0] * tile[1] // kernels.lanes  # of one unit: on CPU, a tile
        self.units = self.tiles
        if kernels.lanes == 1:
            pixels = self.tiles * self.spans
            self.spans = -(-pixels // GPU_THREADS)
            self.units = -(-pixels // self.spans)
        self.wide = kernels.lanes > 1
        own = self.units if self.wide else 1  # threads of a GPU keep theirs in registers
        values = (self.tiles * tile[0] * tile[1], own * kernels.rows * kernels.lanes)
        what = f"size={view.height}x{view.width} with top_k={settings.top_k}"
        limits.check_values(what, max(values))
        image = view.height * view.width * channels
        limits.check(what, (8 if double else 4) * (values[1] + image) + 8 * self.tiles)
        self.records = runtime.array(self.real, (n, binning.RECORD))
        self.rects = runtime.array("i32", (n, limits.RECT))
        self.counts = runtime.array("i32", (self.tiles,))
        self.starts = runtime.array("i32", (self.tiles + 1,))
        self.partial = runtime.array("i32", (math.isqrt(self.tiles - 1) + 1,))
        self.state = runtime.array(kernels.elements.span, (own, kernels.rows))
        self.reserve(1)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` entries of the tile lists; what they held is lost.

        Raises:
            MemoryError: they would need more memory than the limit, or than Taichi can index.
        """
        self._check_lists(capacity, self.differentiated)
        self.entries = self.packed = self.hits = self.weights = None  # freed before their heirs
        self._sums = self._grads = None
        self.capacity = max(capacity, 1)
        own = self.capacity if self.wide else 1
        self.entries = runtime.array("i32", (self.capacity,))
        self.packed = runtime.array(self.kernels.elements.packed, (self.capacity,))
        self.hits = runtime.array("i32", (own,))
        self.weights = runtime.array(self.kernels.elements.span, (own, 1))

    def _check_lists(self, capacity: int, differentiated: bool) -> None:
        needed, most = self.list_bytes(capacity, differentiated), limits.memory_limit()
        if capacity > self.most_entries(differentiated) or needed > most:
            raise MemoryError(
                f"the tile lists would need {capacity} entries or more, "
                f"{limits.readable(needed)}; the Gaussians are too large (log_scale) for their "
                f"number and a limit of {self.most_entries(differentiated)} entries and "
                f"{limits.readable(most)} (taichi2dgs.set_memory_limit)"
            )

    def list_bytes(self, capacity: int, differentiated: bool) -> int:
        """Return the bytes of tile lists of so many entries, with their gradients if wanted."""
        columns, lanes = binning.GEOMETRY + self.channels, self.kernels.lanes
        numbers = binning.RECORD + self.channels + (lanes if self.wide else 0)
        if differentiated:
            numbers += columns * (1 + lanes if self.wide else 1)
        return capacity * (numbers * (8 if self.real == "f64" else 4) + (8 if self.wide else 4))

    def most_entries(self, differentiated: bool) -> int:
        """Return how many entries Taichi can index in the widest of the lists."""
        row = max(binning.RECORD + self.channels, self.kernels.lanes)
        if differentiated:
            row = max(row, (binning.GEOMETRY + self.channels) * self.kernels.lanes)
        return min(binning.MAX_ENTRIES - 1, limits.MAX_VALUES // row)

    def gradients(self) -> tuple:
        """The lists `sums` and `grads`, allocated when a backward pass first asks for them."""
        if self._grads is None:
            self._check_lists(self.capacity, differentiated=True)
            elements, own = self.kernels.elements, self.capacity if self.wide else 1
            self._sums = runtime.array(elements.span, (own, binning.GEOMETRY + self.channels))
            self._grads = runtime.array(elements.grads, (self.capacity,))
        return self._sums, self._grads

    @property
    def differentiated(self) -> bool:
        """Whether it has served a backward pass, so that a loop may ask for it again."""
        return self._grads is not None

    def make_room(self) -> bool:
        """Make room for what the last measured lists need; return whether there was some.

        Where Gaussians move from one launch to the next, there is then more than they need.
        """
        required = self.required()
        had_room = required <= self.capacity
        if not had_room and self.differentiated:
            most = min(
                self.most_entries(True), limits.memory_limit() // self.list_bytes(1, True)
            )  # of which the spare part is not worth an error
            self.reserve(max(required, min(int(required * SPARE), most)))
        elif not had_room:
            self.reserve(required)
        return had_room

    def required(self) -> int:
        """Entries that the last measured lists need. Waits for the device."""
        return int(self.starts.to_numpy()[-1])

    def lists(self) -> tuple:
        """The arrays of `binning.fill` after params, in its order."""
        return (
            self.records, self.rects, self.counts, self.starts, self.entries, self.packed,
        )  # fmt: skip


class Launch:
    """One render: lists are made once and serve the forward and the backward pass.

    Its workspace, once it has served a backward pass, is left to the next launch like it.
    """

    def __init__(
        self, params: Tensor, view: View, settings: RenderSettings, shape: str = SHAPES[0],
        tile: tuple[int, int] = (TILE, TILE),
    ) -> None:  # fmt: skip
        channels, double = params.shape[1] - 5, params.element_size() == 8
        self.kernels = render_kernels.make(
            channels, settings.top_k, settings.blend, lanes(), double, shape
        )
        self.params, self.settings = params, settings
        self.shape = (view.height, view.width, channels)
        self.work = w = self._workspace(
            self.kernels, len(params), channels, view, settings, double, tile
        )
        self.kernels.measure(params, w.records, w.rects, w.counts, w.starts, w.partial, w.view)
        w.make_room()
        self.kernels.fill(params, *w.lists(), w.view)

    def _workspace(self, *arguments) -> Workspace:
        """Return the idle workspace, if it is like this, or else a new one."""
        key = (runtime.owner(), *arguments)
        idle = _idle.pop() if _idle else None
        work = idle[1] if idle and idle[0] == key else Workspace(*arguments)
        weakref.finalize(self, _leave, key, work).atexit = False
        return work

    def forward(self) -> Tensor:
        """Return the render. [H, W, C]"""
        w, out = self.work, self.params.new_empty(self.shape)
        self.kernels.forward(
            w.packed, w.starts, w.state, w.hits, w.weights, out, w.view, w.units, w.spans,
            self.settings.eps,
        )  # fmt: skip
        return out

    def backward(self, d_out: Tensor) -> Tensor:
        """Return the gradient of the packed parameters. [N, 5 + C]"""
        w, d_params = self.work, self.params.new_empty(self.params.shape)
        self.kernels.backward(
            self.params, w.records, w.rects, w.starts, w.entries, w.packed, w.state, w.hits,
            w.weights, *w.gradients(), d_out, d_params, w.view, w.units, w.spans,
            self.settings.eps,
        )  # fmt: skip
        return d_params


def _leave(key: tuple, work: Workspace) -> None:
    """Keep a workspace for the next launch, in place of the one that was kept."""
    if work.differentiated:
        _idle[:] = [(key, work)]
