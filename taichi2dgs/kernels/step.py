"""The kernels that the fit launches on a GPU: a step, and what measures one.

A step is eight launches in one kernel, and one before them that computes how many threads they
have; see `lists.py` and `splat.py` for who owns what in them. Beside their arrays there are:
    params, exp_avg and exp_avg_sq [N, 5 + C]: the parameters, and Adam's averages of their
        gradients and of the squares of these;
    frozen [N]: 1 where a Gaussian stays as it is;
    target [rows, W, C]: of all pictures, one below the other, see `pictures.py`; behind the
        channels is the weight of a pixel, if pixels have weights;
    progress [2]: steps done, and the first step that met a non-finite number (or 0);
    due [1]: whether the launch is the step whose turn it is, and its lists fit.
A launch whose tile lists do not fit, and every launch after it, changes nothing but what the host
reads the capacity from, before it repeats the steps that are missing.
"""

import functools
from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import splat, update
from taichi2dgs.kernels.binning import GEOMETRY, array
from taichi2dgs.kernels.lists import Grid
from taichi2dgs.kernels.pictures import ROW
from taichi2dgs.kernels.update import Rates
from taichi2dgs.kernels.variant import Variant


@functools.cache
def make(variant: Variant, tile: tuple[int, int]) -> SimpleNamespace:
    """Return the kernels `step` and `error`."""
    channels = variant.channels
    f, u = splat.make(variant, tile), update.make(variant)
    mark, push = f.make_walk("mark"), f.make_push("fit")
    ints_1, ints_2 = ti.types.ndarray(ti.i32, 1), ti.types.ndarray(ti.i32, 2)
    reals_1, reals_2 = ti.types.ndarray(ti.f32, 1), ti.types.ndarray(ti.f32, 2)
    reals_3 = ti.types.ndarray(ti.f32, 3)
    elements = f.elements
    records_1, pixels_1, rows_1 = (
        ti.types.ndarray(dtype, 1) for dtype in (elements.records, elements.pixels, elements.bits)
    )

    @ti.func
    def move(params: array, exp_avg: array, exp_avg_sq: array, progress: array, g, row,
             rates: ti.template(), number):  # fmt: skip
        """Make one step of Adam for Gaussian g, a column at a time: fewer registers."""
        for j in ti.static(range(GEOMETRY + channels)):
            m, v, value = u.moved(
                params[g, j], exp_avg[g, j], exp_avg_sq[g, j], row[j], u.rate_of(rates, j), rates
            )
            exp_avg[g, j], exp_avg_sq[g, j], params[g, j] = m, v, value
            if not u.is_finite(value) and progress[1] == 0:
                progress[1] = number

    @ti.kernel
    def step(params: reals_2, exp_avg: reals_2, exp_avg_sq: reals_2, frozen: ints_1,
             progress: ints_1, due: ints_1, target: reals_3, records: records_1, rects: ints_2,
             counts: ints_1, starts: ints_1, runs: ints_1, required: ints_1, entries: ints_1,
             rows: rows_1, breadth: ti.i32, pixels: pixels_1, pictures: ints_2, pitch_x: ti.f32,
             pitch_y: ti.f32, cutoff: ti.f32, left: ti.i32, top: ti.i32, tiles: ti.i32,
             shift_x: ti.f32, shift_y: ti.f32,
             eps: ti.f32, xy: ti.f32, log_scale: ti.f32, theta: ti.f32, color: ti.f32,
             beta1: ti.f32, beta2: ti.f32, epsilon: ti.f32, correction2: ti.f32,
             number: ti.i32):  # fmt: skip
        """Make step `number` (from 1), if all steps before it are done and the lists fit."""
        grid = ti.static(Grid(pitch_x, pitch_y, cutoff, left, top, shift_x, shift_y))
        rates = ti.static(Rates(xy, log_scale, theta, color, beta1, beta2, epsilon, correction2))
        n, slots, parts = params.shape[0], rects.shape[0], runs.shape[0]
        threads = tiles * tile[0] * tile[1]
        for g in range(n):
            f.project(params, records, rects, counts, pictures, g, grid)
        for b in range(parts):
            f.sum_run(counts, runs, b, tiles)
        for t in range(tiles):
            f.begin(counts, starts, runs, required, t, tiles)
        for g in range(slots):
            f.fill(rects, counts, starts, required, entries, rows, breadth, pictures, g)
        for s in range(threads):
            if s == 0:
                turn = f.fits(required, entries) and progress[0] == number - 1
                due[0] = ti.cast(turn, ti.i32)
                if turn:
                    progress[0] = number
            f.sort(starts, required, entries, rows, breadth, s)
        for s in range(threads):
            mark(records, starts, required, entries, rows, breadth, pixels, None, pictures, s,
                 grid, eps)  # fmt: skip
        for s in range(threads):
            push(records, starts, required, entries, rows, breadth, pixels, target, pictures, s,
                 grid)  # fmt: skip
        for g in range(n):
            if due[0] == 1 and frozen[g] == 0:
                row = f.gather(params, records, rects, starts, entries, rows, breadth, pictures, g)
                move(params, exp_avg, exp_avg_sq, progress, g, row, rates, number)

    @ti.kernel
    def error(pixels: pixels_1, target: reals_3, losses: reals_1, pictures: ints_2):
        """Write the squared error of the clamped pixels of each tile."""
        for t in range(losses.shape[0]):
            threads, loss = tile[0] * tile[1], ti.f32(0.0)
            for s in range(t * threads, (t + 1) * threads):
                p, ix, iy, there = f.pixel_of(pictures, s)
                if there:
                    row, weight = pictures[p, ROW] + iy, ti.f32(1.0)
                    if ti.static(variant.weighted):
                        weight = target[row, ix, channels]
                    for c in ti.static(range(channels)):
                        missed = ti.math.clamp(pixels[s][c], 0, 1) - target[row, ix, c]
                        loss += f.residual.squared(missed, weight)
            losses[t] = loss

    return SimpleNamespace(step=step, error=error)
