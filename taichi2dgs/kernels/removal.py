"""The kernels that move Gaussians of a fit on a GPU, and what says which.

After the lists are made, `removal` has four launches; see `splat.py` for who owns what in the first
two. In the third a thread has a pixel, in the fourth a Gaussian.
"""

import functools
from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import splat
from taichi2dgs.kernels.binning import GEOMETRY
from taichi2dgs.kernels.lists import Grid
from taichi2dgs.kernels.pictures import ROW
from taichi2dgs.kernels.variant import Variant


@functools.cache
def make(variant: Variant, tile: tuple[int, int]) -> SimpleNamespace:
    """Return the kernels `removal` and `put`."""
    channels = variant.channels
    f = splat.make(variant, tile)
    mark, push = f.make_walk("mark"), f.make_push("removal")
    ints_1, ints_2 = ti.types.ndarray(ti.i32, 1), ti.types.ndarray(ti.i32, 2)
    reals_1, reals_2 = ti.types.ndarray(ti.f32, 1), ti.types.ndarray(ti.f32, 2)
    reals_3 = ti.types.ndarray(ti.f32, 3)
    elements = f.elements
    records_1, pixels_1, rows_1 = (
        ti.types.ndarray(dtype, 1) for dtype in (elements.records, elements.pixels, elements.bits)
    )

    @ti.kernel
    def removal(records: records_1, rects: ints_2, starts: ints_1, required: ints_1,
                entries: ints_1, rows: rows_1, breadth: ti.i32, pixels: pixels_1, target: reals_3,
                residual: reals_3, costs: reals_1, pictures: ints_2, pitch_x: ti.f32,
                pitch_y: ti.f32, cutoff: ti.f32, left: ti.i32, top: ti.i32, tiles: ti.i32,
                eps: ti.f32):  # fmt: skip
        """Write what leaving out each Gaussian costs, and the clamped render minus the target."""
        grid = ti.static(Grid(pitch_x, pitch_y, cutoff, left, top))
        threads = tiles * tile[0] * tile[1]
        for s in range(threads):
            mark(records, starts, required, entries, rows, breadth, pixels, None, pictures, s,
                 grid, eps)  # fmt: skip
        for s in range(threads):
            push(records, starts, required, entries, rows, breadth, pixels, target, pictures, s,
                 grid)  # fmt: skip
        for s in range(threads):
            p, ix, iy, there = f.pixel_of(pictures, s)
            if there:
                for c in ti.static(range(channels)):
                    row = pictures[p, ROW] + iy
                    residual[row, ix, c] = ti.math.clamp(pixels[s][c], 0, 1) - target[row, ix, c]
        for g in range(costs.shape[0]):
            cost, tiles_x = ti.f32(0.0), f.tiles_across(pictures, f.middle(g))
            if f.fits(required, entries):
                for c in range(variant.copies):
                    slot = g * variant.copies + c
                    for n in range(rects[slot, 1] * rects[slot, 2]):
                        if f.reaches(rects, slot, n):
                            t = f.tile_of(rects, slot, n, tiles_x)
                            e = f.entry_of(starts, entries, t, slot)
                            cost += ti.bit_cast(rows[e * breadth], ti.f32)
            costs[g] = cost

    @ti.kernel
    def put(params: reals_2, exp_avg: reals_2, exp_avg_sq: reals_2, which: ints_1, values: reals_2):
        """Give some Gaussians other parameters, and averages as of the first step."""
        for n in range(which.shape[0]):
            for j in ti.static(range(GEOMETRY + channels)):
                params[which[n], j] = values[n, j]
                exp_avg[which[n], j] = 0.0
                exp_avg_sq[which[n], j] = 0.0

    return SimpleNamespace(removal=removal, put=put)
