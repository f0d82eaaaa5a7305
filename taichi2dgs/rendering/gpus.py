"""The buffers of the kernels for GPUs: see `kernels/splat.py` for who owns what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import Tensor

from taichi2dgs import runtime
from taichi2dgs.kernels import binning
from taichi2dgs.kernels import render as render_kernels
from taichi2dgs.kernels import step as step_kernels
from taichi2dgs.kernels.variant import Variant
from taichi2dgs.rendering.workspace import Workspace

GPU_THREADS = 1 << 18  # units of work; more pixels than this share threads, and their slots


class GpuWorkspace(Workspace):
    """One thread treats one pixel, see `kernels/splat.py`."""

    def _kernels(self, double: bool, shape: str) -> Any:
        s = self.settings
        self.step_kernels = step_kernels.make(Variant(self.channels, s.top_k, s.blend))
        return render_kernels.make(Variant(self.channels, s.top_k, s.blend, double, shape))

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

    def gradients(self) -> dict[str, Any]:
        if self._grads is None:
            self._check(self.capacity, differentiated=True)
            self._grads = runtime.array(self.kernels.elements.grads, (self.capacity,))
        return {"grads": self._grads}

    def list_bytes(self, capacity: int, differentiated: bool) -> int:
        numbers = binning.RECORD + self.channels
        numbers += binning.GEOMETRY + self.channels if differentiated else 0
        return capacity * (numbers * (8 if self.real == "f64" else 4) + 4)

    def _binning(self) -> dict[str, Any]:
        """What counting takes, by the names of the kernels' arguments."""
        return {
            "records": self.records,
            "rects": self.rects,
            "counts": self.counts,
            "starts": self.starts,
            "view": self.view,
        }

    def _walk(self) -> dict[str, Any]:
        """What every walk over the pixels takes besides its lists."""
        return {"units": self.units, "pixels": self.pixels, "eps": self.settings.eps}

    def measure(self, params) -> None:
        """Project, and count entries."""
        self.kernels.measure(params=params, partial=self.partial, **self._binning())

    def fill(self, params) -> None:
        """Write the lists."""
        self.kernels.fill(
            params=params, entries=self.entries, packed=self.packed, **self._binning()
        )

    def forward(self, out: Tensor) -> None:
        """Write out [H, W, C]."""
        self.kernels.forward(
            out=out, packed=self.packed, starts=self.starts, view=self.view, **self._walk()
        )

    def backward(self, params: Tensor, d_out: Tensor, d_params: Tensor) -> None:
        """Write d_params [N, 5 + C]."""
        self.kernels.backward(
            params=params,
            d_out=d_out,
            d_params=d_params,
            records=self.records,
            rects=self.rects,
            starts=self.starts,
            entries=self.entries,
            packed=self.packed,
            view=self.view,
            **self.gradients(),
            **self._walk(),
        )

    def rows(self, values: np.ndarray):
        """Return an array of one row for each Gaussian, as `step` takes it."""
        result = runtime.array("f32", values.shape)
        result.from_numpy(values)
        return result

    def target(self, image: Tensor):
        """Return the target of `step` and `score` as the kernels read it."""
        return self.rows(image.float().cpu().contiguous().numpy())

    def step(
        self, rates: dict[str, float], selects: bool = True, keeps: bool = False, **fit: Any
    ) -> None:
        """Make one step of a fit, whose arrays come by the names in `kernels/step.py`.

        It selects in every step, which is always right: kernels for GPUs keep no selection.
        """
        self.step_kernels.step(
            rates=self.step_kernels.rates_type(**rates),
            **fit,
            partial=self.partial,
            entries=self.entries,
            packed=self.packed,
            **self._binning(),
            **self.gradients(),
            **self._walk(),
        )

    def score(self, params, target, losses) -> None:
        """Write the squared error of each unit."""
        self.step_kernels.score(
            params=params,
            target=target,
            losses=losses,
            partial=self.partial,
            entries=self.entries,
            packed=self.packed,
            **self._binning(),
            **self._walk(),
        )
