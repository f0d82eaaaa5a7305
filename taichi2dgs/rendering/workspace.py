"""The buffers that binning and splatting need, owned by Taichi and sized for some views.

Cores and GPUs have kernels of their own, and so buffers of their own: `cores.CoresWorkspace` and
`gpus.GpuWorkspace` launch the one kind and the other with the same methods.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from taichi2dgs import limits, runtime
from taichi2dgs.kernels import binning
from taichi2dgs.kernels.cores_lists import COLOR
from taichi2dgs.kernels.pictures import (
    COLUMNS,
    GAUSSIAN,
    HEIGHT,
    PERIOD_X,
    PERIOD_Y,
    ROW,
    TILE,
    TILES_X,
    WIDTH,
)
from taichi2dgs.kernels.variant import Variant
from taichi2dgs.rendering.view import View
from taichi2dgs.settings import LOSSES, RenderSettings

SHAPES = ("scale-rotation", "cholesky")  # meanings of columns 2 to 4 of packed parameters
SPARE = 1.3  # capacity of the tile lists over what they need, where Gaussians will move


class Workspace:
    """Tile lists for N Gaussians, each seen through the view of its picture; their launches.

    Args:
        parts: for each picture the number of its Gaussians, at least 1, and the pixels to render.
            Views differ in nothing but their width and height.
        channels: colour channels C.
        settings: how to blend.
        double: whether numbers are float64.
        shape: what columns 2 to 4 of the parameters are.
        tile: (height, width) of a tile in pixels, on which no result depends; None for what suits
            the device.
        loss, weighted: of a fit, see `Variant`.

    Raises:
        ValueError: the view needs more memory than the limit, or than Taichi can index.
    """

    TILE: int  # pixels a side, where nothing else is asked for

    def __init__(
        self,
        parts: tuple[tuple[int, View], ...],
        channels: int,
        settings: RenderSettings,
        double: bool = False,
        shape: str = SHAPES[0],
        tile: tuple[int, int] | None = None,
        loss: str = LOSSES[0],
        weighted: bool = False,
    ) -> None:
        self.channels, self.settings = channels, settings
        self.variant = Variant(
            channels, settings.top_k, settings.blend, double, shape, settings.tile, loss, weighted
        )
        self.tile = tile = tile or (self.TILE, self.TILE)
        self.owner = runtime.owner()
        self._grads: Any = None
        self.real = "f64" if double else "f32"
        view = parts[0][1]
        many = f"a batch of {len(parts)} images"
        self.what = f"size={view.height}x{view.width}" if len(parts) == 1 else many
        self.table = table_of(parts, tile)
        n, self.tiles = (int(self.table[-1, column]) for column in (GAUSSIAN, TILE))
        self.grid = {
            "cutoff": settings.cutoff,
            "tile_h": tile[0],
            "tile_w": tile[1],
            "tiles": self.tiles,
            "left": view.left,
            "top": view.top,
            "pitch_x": view.pitch_x,
            "pitch_y": view.pitch_y,
        }
        self.kernels = self._kernels()
        limits.check_values(self.what, self.tiles * tile[0] * tile[1])
        image = sum(view.height * view.width for _, view in parts) * channels
        limits.check(self.what, (8 if double else 4) * image + 8 * self.tiles)
        self.pictures = runtime.array("i32", self.table.shape)
        self.pictures.from_numpy(self.table.astype(np.int32))
        slots = n * self.variant.copies
        limits.check(self.what, slots * (8 if double else 4) * (limits.RECT + COLOR + channels))
        self.rects = runtime.array("i32", (slots, limits.RECT))
        self._make(n)
        self.reserve(1)

    def _kernels(self) -> Any:
        """Return the kernels of this kind of device."""
        raise NotImplementedError

    def _make(self, n: int) -> None:
        """Make what does not grow."""
        raise NotImplementedError

    def _make_lists(self) -> None:
        """Make what has `capacity` entries, without gradients."""
        raise NotImplementedError

    def gradients(self) -> dict[str, Any]:
        """The lists of gradients, by name, allocated when a backward pass first asks for them."""
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
        """Make room for `capacity` entries of the tile lists, and lose those that are there.

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
        arrays = [one.arr for one in vars(self).values() if isinstance(one, runtime.ti.Ndarray)]
        return sum(array.nelement() * array.element_size() for array in arrays)

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
        if not had_room:
            wanted = int(required * SPARE) if self.differentiated else required
            self.reserve(wanted if self.allowed(wanted, self.differentiated) else required)
        return had_room

    def required(self) -> int:
        """Entries that the last measured lists need. Waits for the device."""
        raise NotImplementedError

    def measured(self, target, losses) -> np.ndarray:
        """Return the squared errors of the tiles of what the last step rendered. [T]"""
        raise NotImplementedError

    def errors(self, target, losses) -> list[float]:
        """Return the squared error of each picture in what the last step rendered.

        Args:
            target, losses: that the step was given.
        """
        tiles = np.split(self.measured(target, losses), self.table[1:-1, TILE])
        return [float(part.sum(dtype=np.float64)) for part in tiles]


def table_of(parts: tuple[tuple[int, View], ...], tile: tuple[int, int]) -> np.ndarray:
    """Return what kernels know of each picture, see `kernels/pictures.py`. [P + 1, 8]"""
    table = np.zeros((len(parts) + 1, COLUMNS), np.int64)
    for row, (n, view) in enumerate(parts):
        tiles_y, tiles_x = -(-view.height // tile[0]), -(-view.width // tile[1])
        table[row, [WIDTH, HEIGHT, TILES_X]] = view.width, view.height, tiles_x
        table[row, [PERIOD_X, PERIOD_Y]] = view.period_x, view.period_y
        for column, count in ((GAUSSIAN, n), (TILE, tiles_x * tiles_y), (ROW, view.height)):
            table[row + 1, column] = table[row, column] + count
    return table
