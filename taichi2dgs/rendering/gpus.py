"""The buffers of the kernels for GPUs: see `kernels/lists.py` and `splat.py` for who owns what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.kernels import binning, graphs
from taichi2dgs.kernels import noise as noise_kernels
from taichi2dgs.kernels import removal as removal_kernels
from taichi2dgs.kernels import render as render_kernels
from taichi2dgs.kernels import step as step_kernels
from taichi2dgs.kernels.pictures import HEIGHT, ROW, WIDTH
from taichi2dgs.rendering import workspace
from taichi2dgs.rendering.workspace import Workspace


class GpuWorkspace(Workspace):
    """Threads own pixels, entries or Gaussians in turn."""

    TILE = 8  # pixels: half the candidates of a pixel in a tile of 16x16

    def _kernels(self) -> Any:
        of_fit = replace(self.variant, double=False, shape=workspace.SHAPES[0])
        self.step_kernels = step_kernels.make(of_fit, self.tile)
        self.removal_kernels = removal_kernels.make(of_fit, self.tile)
        del self.grid["tile_w"], self.grid["tile_h"]  # compiled in: kernels divide by them
        return render_kernels.make(self.variant, self.tile)

    def _make(self, n: int) -> None:
        runs = math.isqrt(self.tiles - 1) + 1
        slots = n * self.variant.copies
        self.records = runtime.array(self.kernels.elements.records, (slots,))
        self.counts = runtime.zeros("i32", (self.tiles,))
        self.starts = runtime.array("i32", (self.tiles + 1,))
        self.runs = runtime.array("i32", (runs,))
        self.due = runtime.zeros("i32", (1,))
        self.needed = runtime.zeros("i32", (1,))
        self._pixels: Any = None

    def _make_lists(self) -> None:
        self._own: Any = None  # how a step is launched, and the arguments that stay
        self.entries = self.rows_of_entries = None  # freed before their heirs
        self.entries = runtime.array("i32", (self.capacity,))
        self._make_rows(1)

    def _make_rows(self, breadth: int) -> None:
        """Make what each entry has of its own, so many numbers."""
        self.breadth, self.rows_of_entries = breadth, None
        self.rows_of_entries = runtime.array(self.bits, (self.capacity * breadth,))

    @property
    def bits(self) -> str:
        """The type of integers that are as wide as a number."""
        return "i64" if self.real == "f64" else "i32"

    def _widest(self) -> int:
        """Numbers of a row that has room for a mask beside another number, and for a gradient."""
        return max(1 + self.kernels.words, binning.GEOMETRY + self.channels)

    def pixels(self) -> Any:
        """What is kept of each pixel, allocated when something first asks for it."""
        if self._pixels is None:
            count, row = self.tiles * self.tile[0] * self.tile[1], self.channels + 1
            limits.check(self.what, count * row * (8 if self.real == "f64" else 4))
            limits.check_values(self.what, count * row)
            self._pixels = runtime.array(self.kernels.elements.pixels, (count,))
        return self._pixels

    def gradients(self) -> dict[str, Any]:
        if self._grads is None:
            self._check(self.capacity, differentiated=True)
            self._make_rows(self._widest())
            self._grads = True
        return {**self._rows(), "pixels": self.pixels()}

    def list_bytes(self, capacity: int, differentiated: bool) -> int:
        row = self._widest() if differentiated else 1
        return capacity * (4 + row * (8 if self.real == "f64" else 4))

    def most_entries(self, differentiated: bool) -> int:
        row = self._widest() if differentiated else 1
        return min(binning.MAX_ENTRIES - 1, limits.MAX_VALUES // row)

    def _rows(self) -> dict[str, Any]:
        return {"rows": self.rows_of_entries, "breadth": self.breadth}

    def _lists(self) -> dict[str, Any]:
        """What all walks take, by the names of the kernels' arguments."""
        return {
            "records": self.records,
            "starts": self.starts,
            "required": self.needed,
            "entries": self.entries,
            "pictures": self.pictures,
            **self.grid,
        }

    def _binning(self) -> dict[str, Any]:
        """What launches take that make lists."""
        return {
            "rects": self.rects,
            "counts": self.counts,
            "runs": self.runs,
            **self._rows(),
            **self._lists(),
        }

    def measure(self, params) -> None:
        """Project, and count entries."""
        named = self._binning()
        del named["rows"], named["breadth"], named["entries"]
        self.kernels.measure(params=params, **named)

    def fill(self, params) -> None:
        """Write the lists."""
        named = self._binning()
        for name in ("runs", "records", "pitch_x", "pitch_y", "cutoff", "left", "top"):
            del named[name]
        self.kernels.fill(**named)

    def forward(self, out: Tensor) -> None:
        """Write out [H, W, C]."""
        self.kernels.forward(out=out, eps=self.settings.eps, **self._lists())

    def backward(self, params: Tensor, d_out: Tensor, d_params: Tensor) -> None:
        """Write d_params [N, 5 + C]."""
        self.kernels.backward(
            params=params,
            d_out=d_out,
            d_params=d_params,
            rects=self.rects,
            eps=self.settings.eps,
            **self.gradients(),
            **self._lists(),
        )

    def required(self) -> int:
        return int(self.needed.to_numpy()[0])

    def rows(self, values: np.ndarray):
        """Return an array of one row for each Gaussian, as `step` takes it."""
        result = runtime.array("f32", values.shape)
        result.from_numpy(values)
        return result

    def target(self, images: Sequence[Tensor]):
        """Return the target of `step`: pictures one below the other. [rows, W, C]

        Args:
            images: of each picture, weights behind its channels. [H, W, C] or [H, W, C + 1]
        """
        rows, width = int(self.table[-1, ROW]), int(self.table[:, WIDTH].max())
        shape = (rows, width, self.variant.columns)
        limits.check_values(self.what, math.prod(shape))
        sheet = np.zeros(shape, np.float32)
        for row, image in zip(self.table, images, strict=False):
            self._part(sheet, row)[:] = image.float().cpu().numpy()
        return self.rows(sheet)

    def _part(self, sheet, row: np.ndarray):
        """Return a picture's part of what `target` makes; row is of the table."""
        return sheet[row[ROW] : row[ROW] + row[HEIGHT], : row[WIDTH]]

    def step(
        self,
        rates: dict[str, float],
        losses,
        selects: bool = True,
        keeps: bool = False,
        shift: tuple[float, float] = (0.0, 0.0),
        **fit: Any,
    ) -> None:
        """Make one step of a fit, whose arrays come by the names in `kernels/step.py`.

        Args:
            rates: what Adam goes by, by the names in `kernels/update.py`.
            losses: see `measured`.
            selects, keeps: without effect: every step selects.
            shift: (x, y) in pixels, by which the step sees all Gaussians away from where they are.
            fit: the other arrays and numbers.
        """
        if self._own is None:
            own = {**self.gradients(), **self._binning(), "due": self.due, "eps": self.settings.eps}
            self._own = graphs.launcher(self.step_kernels.step, self.owner), own
        launch, own = self._own
        launch({**own, **fit, **rates, "shift_x": shift[0], "shift_y": shift[1]})

    def removal(self, params, target) -> tuple[Tensor, list[Tensor]]:
        """Return what leaving out each Gaussian costs, [N], and the residuals, each [H, W, C].

        See `kernels/removal.py`. Nothing is measured if the lists do not fit.
        """
        of_entries = self.gradients()  # which may make the lists anew
        self.measure(params)
        self.fill(params)
        device = runtime.device()
        costs = torch.zeros(params.shape[0], dtype=torch.float32, device=device)
        shape = (*target.shape[:2], self.channels)
        residual = torch.zeros(shape, dtype=torch.float32, device=device)
        self.removal_kernels.removal(
            rects=self.rects,
            target=target,
            residual=residual,
            costs=costs,
            eps=self.settings.eps,
            **of_entries,
            **self._lists(),
        )
        return costs, [self._part(residual, row) for row in self.table[:-1]]

    def put(self, **rows: Any) -> None:
        """Give Gaussians other parameters, see `kernels/removal.py`."""
        self.removal_kernels.put(**rows)

    def add_noise(self, **noise: Any) -> None:
        """Change the noise that parameters have, see `kernels/noise.py`."""
        noise_kernels.make(binning.GEOMETRY + self.channels).add_noise(**noise)

    def measured(self, target, losses) -> np.ndarray:
        self.step_kernels.error(
            pixels=self.pixels(), target=target, losses=losses, pictures=self.pictures
        )
        return losses.to_numpy()
