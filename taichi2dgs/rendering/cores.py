"""The buffers of the kernels for cores: see `kernels/cores_walk.py` for who owns what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from taichi2dgs import limits, runtime
from taichi2dgs.kernels import binning, cores_kept, cores_walk
from taichi2dgs.kernels import cores as kernels
from taichi2dgs.kernels import noise as noise_kernels
from taichi2dgs.kernels.cores_cull import BLOCK_H, BLOCK_W, BLOCKS, CELL, LANES
from taichi2dgs.kernels.cores_lists import COLOR
from taichi2dgs.kernels.cores_walk import power_of_two
from taichi2dgs.kernels.launch import Relaunch
from taichi2dgs.kernels.pictures import HEIGHT, TILE, TILES_X, WIDTH
from taichi2dgs.rendering import workspace
from taichi2dgs.rendering.workspace import Workspace


class CoresWorkspace(Workspace):
    """Workers take tiles in turn; each has room for the longest list, `depth` entries."""

    TILE = 16

    def _kernels(self) -> Any:
        return kernels.make(self.variant)

    def _make(self, n: int) -> None:
        self.view = self._shifted(0.0, 0.0)
        elements = self.kernels.elements
        self.blocks = -(-self.tile[0] // CELL) * -(-self.tile[1] // CELL) * BLOCKS
        self.parts = min(runtime.threads(), n)
        slots = n * self.variant.copies
        self.records = runtime.array(self.real, (slots, COLOR + self.channels))
        self.cursors = runtime.array("i32", (self.parts, self.tiles))
        self.bases = runtime.array("i32", (self.parts,))
        self.starts = runtime.array("i32", (self.tiles + 2,))
        self.lattice = runtime.array(elements.lanes, (1, 3))
        lanes = np.arange(LANES)
        places = np.stack([lanes % BLOCK_W, lanes // BLOCK_W, lanes])[None]
        self.lattice.from_numpy(places.astype(np.float64 if self.real == "f64" else np.float32))
        self.longest = 1
        self._kept: Any = None

    def _shifted(self, x: float, y: float) -> Any:
        """Return the view in which all Gaussians are (x, y) pixels away from where they are."""
        return self.kernels.view_type(**self.grid, shift_x=x, shift_y=y)

    def _make_lists(self) -> None:
        elements = self.kernels.elements
        self.depth = self._depth()
        self.workers = self._workers()
        rows = self.workers * self.depth
        self._launches: dict[tuple, Relaunch] = {}
        # Freed before their heirs.
        self.entries = self.places = self.own = self.lists = self.values = self._sums = None
        self.entries = runtime.array("i32", (self.capacity,))
        self.places = runtime.array("i32", (self.capacity,))
        self.own = runtime.array(elements.own, (rows,))
        numbers = self.blocks * (self.depth + 9) + self.depth
        self.lists = runtime.array("i32", (self.workers * numbers,))
        self.values = runtime.array(elements.lanes, (rows + 8 * self.workers, 1))
        self.slots = runtime.array(elements.lanes, (self.workers * self.kernels.slots, 1))
        self.shares = runtime.zeros("i32", (1 + self.workers,))

    def _depth(self) -> int:
        """Rows for the longest list: not a power of two, whose lines would share a cache's sets."""
        return -(-max(self.longest, 1) // 16) * 16 + 8

    def _workers(self) -> int:
        """Return the number of workers, which tiles and the largest array bound."""
        columns = binning.GEOMETRY + self.channels
        numbers = self._depth() * max(LANES * columns, self.blocks + 1) + 9 * self.blocks
        return min(runtime.threads(), self.tiles, limits.MAX_VALUES // numbers)

    def list_bytes(self, capacity: int, differentiated: bool) -> int:
        real, columns = 8 if self.real == "f64" else 4, binning.GEOMETRY + self.channels
        row = real * (LANES + power_of_two(COLOR + self.channels)) + 4 * (self.blocks + 1)
        if differentiated:
            row += real * LANES * columns
        each = 8 + real * columns if differentiated else 8
        return capacity * each + max(1, self._workers()) * self._depth() * row

    def allowed(self, capacity: int, differentiated: bool) -> bool:
        return self._workers() > 0 and super().allowed(capacity, differentiated)

    def gradients(self) -> dict[str, Any]:
        if self._grads is None:
            elements = self.kernels.elements
            self._check(self.capacity, differentiated=True)
            columns = binning.GEOMETRY + self.channels
            self._sums = runtime.array(elements.lanes, (self.workers * self.depth, columns))
            self._sums.fill(0)
            self._grads = runtime.array(elements.grads, (self.capacity,))
        return {"sums": self._sums, "grads": self._grads}

    def required(self) -> int:
        return int(self.starts.to_numpy()[self.tiles])

    def make_room(self) -> bool:
        total, longest = (int(number) for number in self.starts.to_numpy()[self.tiles :])
        had_room = total <= self.capacity and longest < self.depth
        if not had_room:
            before, spare = self.longest, workspace.SPARE if self.differentiated else 1
            for more in (spare, 1):  # the spare part is not worth an error
                self.longest = max(int(longest * more), before)
                wanted = max(int(total * more), self.capacity)
                if self.allowed(wanted, self.differentiated):
                    break
            self.reserve(wanted)
        return had_room

    def measure(self, params) -> None:
        """Project, and count entries."""
        self.kernels.measure(
            params=params,
            records=self.records,
            rects=self.rects,
            cursors=self.cursors,
            bases=self.bases,
            starts=self.starts,
            shares=self.shares,
            pictures=self.pictures,
            view=self.view,
        )

    def fill(self, params) -> None:
        """Write the lists, if they fit."""
        self.kernels.fill(
            rects=self.rects,
            cursors=self.cursors,
            bases=self.bases,
            starts=self.starts,
            entries=self.entries,
            places=self.places,
            pictures=self.pictures,
            view=self.view,
            depth=self.depth,
        )

    def _walk(self) -> dict[str, Any]:
        """Arguments of every walk over the tiles, by their names."""
        return {
            "records": self.records,
            "starts": self.starts,
            "entries": self.entries,
            "own": self.own,
            "lists": self.lists,
            "values": self.values,
            "slots": self.slots,
            "lattice": self.lattice,
            "shares": self.shares,
            "pictures": self.pictures,
            "view": self.view,
            "depth": self.depth,
            "eps": self.settings.eps,
        }

    def _gather(self) -> dict[str, Any]:
        """Arguments with which gradients go back to Gaussians, by their names."""
        lists = {"rects": self.rects, "bases": self.bases, "places": self.places}
        return lists | self.gradients()

    def forward(self, out: Tensor) -> None:
        """Write out [H, W, C]."""
        self.kernels.forward(out=out, **self._walk())

    def backward(self, params: Tensor, d_out: Tensor, d_params: Tensor) -> None:
        """Write d_params [N, 5 + C]."""
        self.kernels.backward(
            params=params, d_out=d_out, d_params=d_params, **self._gather(), **self._walk()
        )

    def rows(self, values: np.ndarray):
        """Return an array of one row for each Gaussian, as `step` takes it."""
        result = runtime.array(self.kernels.elements.grads, (len(values),))
        result.from_numpy(values)
        return result

    def target(self, images: Sequence[Tensor]):
        """Return the target of `step`, block by block: [T * B, C] of L lanes, C + 1 with weights.

        Args:
            images: of each picture, weights behind its channels. [H, W, C] or [H, W, C + 1]
        """
        shape = (self.tiles * self.blocks, self.variant.columns)
        blocks = torch.empty((*shape, LANES), dtype=torch.float32, device="cpu")
        for image, part in zip(images, self._of_pictures(blocks), strict=True):
            part[:] = self._blocks(image.float().cpu())
        result = runtime.array(self.kernels.elements.lanes, shape)
        result.from_numpy(blocks.numpy())
        return result

    def _of_pictures(self, blocks: Tensor) -> tuple[Tensor, ...]:
        """Return what each picture has of the blocks of all of them."""
        return blocks.split((np.diff(self.table[:, TILE]) * self.blocks).tolist())

    def _blocks(self, image: Tensor) -> Tensor:
        """Return a picture block by block. [H, W, C] -> [tiles * B, C, L]"""
        height, width, channels = image.shape
        rows, columns = self.tile
        padding = (0, 0, 0, -width % columns, 0, -height % rows)
        padded = F.pad(image, padding, value=cores_walk.OUTSIDE)
        blocks = padded.reshape(
            -1, rows // BLOCK_H, BLOCK_H, padded.shape[1] // columns, columns // BLOCK_W, BLOCK_W,
            channels,
        ).permute(0, 3, 1, 4, 6, 2, 5)  # fmt: skip
        return blocks.reshape(-1, channels, LANES)

    def step(
        self,
        rates: dict[str, float],
        number: int,
        selects: bool = True,
        keeps: bool = False,
        shift: tuple[float, float] = (0.0, 0.0),
        **fit: Any,
    ) -> None:
        """Make one step of a fit, whose arrays come by the names in `kernels/cores.py`.

        Args:
            rates: what Adam takes, by the names in `kernels/update.py`.
            number: of the step.
            selects: whether to select anew; if not, and the last step that selected was told to
                keep it, its selection is used.
            keeps: whether to keep the selection; without effect where there is nothing to keep.
            shift: (x, y) in pixels, by which the step sees all Gaussians away from where they are.
            fit: the other arrays and numbers.
        """
        keeps = keeps and self._can_keep()
        name = "step" if selects or not keeps else "step_kept"
        launch = self._launches.get((name, shift))
        if launch is None or not launch.has(fit):
            arguments = {"rates": self.kernels.rates_type(**rates), "number": number, **fit}
            arguments |= {"kept": self._selection(keeps), "keeps": keeps, "cursors": self.cursors}
            arguments |= self._gather() | self._walk() | {"view": self._shifted(*shift)}
            launch = self._launches[name, shift] = Relaunch(getattr(self.kernels, name), arguments)
        launch(rates=tuple(rates.values()), number=number)

    def _can_keep(self) -> bool:
        """Whether a pixel blends K entries at most, and a word has room for all of a tile.

        In pictures that wrap around, the copies of a Gaussian may change places.
        """
        bounded = self.settings.blend == "normalized" and self.depth <= cores_kept.MAX_DEPTH
        return bounded and not self.settings.tile

    def _selection(self, keeps: bool) -> Any:
        """Return the array of kept selections, or what stands for none."""
        if keeps and self._kept is None:
            words = self.tiles * cores_kept.words_of(self.blocks, self.settings.top_k)
            what = f"a kept selection (reselect) of {self.what}"
            limits.check_values(what, words)
            limits.check(what, self.bytes() + 4 * words)
            self._kept = runtime.array("i32", (words,))
        return self._kept if keeps else self.shares

    def removal(self, params, target) -> tuple[Tensor, list[Tensor]]:
        """Return what leaving out each Gaussian costs, [N], and the residuals, each [H, W, C].

        See `kernels/cores_removal.py`. Nothing is measured if the lists do not fit.
        """
        self.measure(params)
        self.fill(params)
        costs = torch.zeros(params.shape[0], dtype=torch.float32, device="cpu")
        residual = torch.zeros(
            (self.tiles * self.blocks, self.channels, LANES), dtype=torch.float32, device="cpu"
        )
        self.kernels.removal(
            target=target, residual=residual, costs=costs, **self._gather(), **self._walk()
        )
        parts = zip(self._of_pictures(residual), self.table[:-1], strict=True)
        return costs, [self._picture(blocks, row) for blocks, row in parts]

    def _picture(self, blocks: Tensor, row: np.ndarray) -> Tensor:
        """Return [H, W, C] of what lies block by block, see `_blocks`; row is of the table."""
        (rows, columns), tiles_x = self.tile, row[TILES_X]
        shape = (-1, tiles_x, rows // BLOCK_H, columns // BLOCK_W, self.channels, BLOCK_H, BLOCK_W)
        plane = blocks.reshape(shape).permute(0, 2, 5, 1, 3, 6, 4)
        plane = plane.reshape(-1, tiles_x * columns, self.channels)
        return plane[: row[HEIGHT], : row[WIDTH]]

    def put(self, **rows: Any) -> None:
        """Give Gaussians other parameters, see `kernels/cores.py`."""
        self.kernels.put(**rows)

    def add_noise(self, **noise: Any) -> None:
        """Change the noise that parameters have, see `kernels/noise.py`."""
        columns, row = binning.GEOMETRY + self.channels, self.kernels.elements.grads
        noise_kernels.make(columns, row).add_noise(**noise)

    def measured(self, target, losses) -> np.ndarray:
        return losses.to_numpy()
