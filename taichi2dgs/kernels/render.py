"""The kernels that the renderer launches on a GPU."""

import functools
from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import splat
from taichi2dgs.kernels.binning import GEOMETRY
from taichi2dgs.kernels.lists import Grid
from taichi2dgs.kernels.variant import Variant


@functools.cache
def make(variant: Variant, tile: tuple[int, int]) -> SimpleNamespace:
    """Return the kernels `measure`, `fill`, `forward` and `backward`."""
    real, channels = variant.real, variant.channels
    f = splat.make(variant, tile)
    render, mark, push = f.make_walk("render"), f.make_walk("mark"), f.make_push("backward")
    ints_1, ints_2 = ti.types.ndarray(ti.i32, 1), ti.types.ndarray(ti.i32, 2)
    reals_2, reals_3 = ti.types.ndarray(real, 2), ti.types.ndarray(real, 3)
    elements = f.elements
    records_1, pixels_1, rows_1 = (
        ti.types.ndarray(dtype, 1) for dtype in (elements.records, elements.pixels, elements.bits)
    )

    @ti.kernel
    def measure(params: reals_2, records: records_1, rects: ints_2, counts: ints_1,
                starts: ints_1, runs: ints_1, required: ints_1, pictures: ints_2, pitch_x: real,
                pitch_y: real, cutoff: real, left: ti.i32, top: ti.i32,
                tiles: ti.i32):  # fmt: skip
        """Project, and count entries: `required` is the capacity that `fill` needs."""
        grid = ti.static(Grid(pitch_x, pitch_y, cutoff, left, top))
        n, parts = params.shape[0], runs.shape[0]
        for t in range(tiles):
            counts[t] = 0  # an error may have come before the last `fill`
        for g in range(n):
            f.project(params, records, rects, counts, pictures, g, grid)
        for b in range(parts):
            f.sum_run(counts, runs, b, tiles)
        for t in range(tiles):
            f.begin(counts, starts, runs, required, t, tiles)

    @ti.kernel
    def fill(rects: ints_2, counts: ints_1, starts: ints_1, required: ints_1, entries: ints_1,
             rows: rows_1, breadth: ti.i32, pictures: ints_2, tiles: ti.i32):  # fmt: skip
        """Write the lists, if they fit."""
        n, threads = rects.shape[0], tiles * tile[0] * tile[1]
        for g in range(n):
            f.fill(rects, counts, starts, required, entries, rows, breadth, pictures, g)
        for s in range(threads):
            f.sort(starts, required, entries, rows, breadth, s)

    @ti.kernel
    def forward(records: records_1, starts: ints_1, required: ints_1, entries: ints_1,
                out: reals_3, pictures: ints_2, pitch_x: real, pitch_y: real, cutoff: real,
                left: ti.i32, top: ti.i32, tiles: ti.i32, eps: real):  # fmt: skip
        """Write out [H, W, C]."""
        grid = ti.static(Grid(pitch_x, pitch_y, cutoff, left, top))
        for s in range(tiles * tile[0] * tile[1]):
            render(records, starts, required, entries, None, 0, None, out, pictures, s, grid, eps)

    @ti.kernel
    def backward(params: reals_2, records: records_1, rects: ints_2, starts: ints_1,
                 required: ints_1, entries: ints_1, rows: rows_1, breadth: ti.i32,
                 pixels: pixels_1, d_out: reals_3, d_params: reals_2, pictures: ints_2,
                 pitch_x: real, pitch_y: real, cutoff: real, left: ti.i32, top: ti.i32,
                 tiles: ti.i32, eps: real):  # fmt: skip
        """Write d_params [N, 5 + C] from d_out [H, W, C], after the same selection as `forward`."""
        grid = ti.static(Grid(pitch_x, pitch_y, cutoff, left, top))
        n, threads = params.shape[0], tiles * tile[0] * tile[1]
        for s in range(threads):
            f.clear(starts, rows, breadth, s)
        for s in range(threads):
            mark(records, starts, required, entries, rows, breadth, pixels, None, pictures, s,
                 grid, eps)  # fmt: skip
        for s in range(threads):
            push(records, starts, required, entries, rows, breadth, pixels, d_out, pictures, s,
                 grid)  # fmt: skip
        for g in range(n):
            row = f.gather(params, records, rects, starts, entries, rows, breadth, pictures, g)
            for j in ti.static(range(GEOMETRY + channels)):
                d_params[g, j] = row[j]

    return SimpleNamespace(
        measure=measure, fill=fill, forward=forward, backward=backward, elements=f.elements,
        words=f.words,
    )  # fmt: skip
