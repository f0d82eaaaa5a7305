"""One launch of the fit engine on a GPU: bin, splat, loss, backward and Adam.

Launches pass on, beside the arrays of `binning.py` and `splat.py`:
    params, exp_avg and exp_avg_sq [N, 5 + C]: the parameters, and Adam's averages of their
        gradients and of the squares of these;
    frozen [N]: 1 where a Gaussian stays as it is;
    target [H, W, C]; losses [U]: squared errors;
    progress [2]: steps done, and the first step that met a non-finite number (or 0).
A launch whose tile lists do not fit, and every launch after it, changes nothing but `starts`, from
which the host reads the capacity to grow to before it repeats the steps that are missing.
"""

import functools
from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, splat, update
from taichi2dgs.kernels.binning import GEOMETRY, array
from taichi2dgs.kernels.variant import Variant


@functools.cache
def make(variant: Variant) -> SimpleNamespace:
    """Return the kernels `step` and `score` and the types of their arguments."""
    channels = variant.channels
    f = splat.make(variant)
    u = update.make(variant)
    score_walk, fit_walk = f.make_walk("score"), f.make_walk("fit")
    view_type = binning.view_type(ti.f32)
    ints_1, ints_2 = ti.types.ndarray(ti.i32, 1), ti.types.ndarray(ti.i32, 2)
    reals_1, reals_2 = ti.types.ndarray(ti.f32, 1), ti.types.ndarray(ti.f32, 2)
    reals_3 = ti.types.ndarray(ti.f32, 3)
    lists = f.lists

    @ti.func
    def row_of(values: array, g):
        return ti.Vector([values[g, j] for j in ti.static(range(GEOMETRY + channels))])

    @ti.kernel
    def step(
        params: reals_2,
        exp_avg: reals_2,
        exp_avg_sq: reals_2,
        frozen: ints_1,
        progress: ints_1,
        target: reals_3,
        losses: reals_1,
        records: reals_2,
        rects: ints_2,
        counts: ints_1,
        starts: ints_1,
        partial: ints_1,
        entries: ints_1,
        packed: lists.packed,
        grads: lists.grads,
        view: view_type,
        rates: update.ADAM,
        number: ti.i32,
        units: ti.i32,
        pixels: ti.i32,
        eps: ti.f32,
    ):
        """Make step `number` (from 1), if all steps before it are done and the lists fit."""
        f.project(params, records, rects, counts, view)
        f.scan(counts, starts, partial, view)
        f.fill(params, records, rects, counts, starts, entries, packed, view)
        f.clear(starts, packed, grads, view)
        fit_walk(packed, starts, grads, target, losses, view, units, pixels, eps)
        for g in range(params.shape[0]):
            if f.fits(starts, packed, view) and progress[0] == number - 1 and frozen[g] == 0:
                row = f.gather(params, records, rects, starts, entries, grads, g, view)
                m, v, value, finite = u.adam(
                    row_of(params, g), row_of(exp_avg, g), row_of(exp_avg_sq, g), row, rates
                )
                for j in ti.static(range(GEOMETRY + channels)):
                    exp_avg[g, j], exp_avg_sq[g, j], params[g, j] = m[j], v[j], value[j]
                if not finite and progress[1] == 0:
                    progress[1] = number
        for _ in range(1):
            if f.fits(starts, packed, view) and progress[0] == number - 1:
                progress[0] = number

    @ti.kernel
    def score(
        params: reals_2,
        target: reals_3,
        losses: reals_1,
        records: reals_2,
        rects: ints_2,
        counts: ints_1,
        starts: ints_1,
        partial: ints_1,
        entries: ints_1,
        packed: lists.packed,
        view: view_type,
        units: ti.i32,
        pixels: ti.i32,
        eps: ti.f32,
    ):
        """Write the squared error of the clamped render per unit, if the lists fit."""
        f.project(params, records, rects, counts, view)
        f.scan(counts, starts, partial, view)
        f.fill(params, records, rects, counts, starts, entries, packed, view)
        score_walk(packed, starts, None, target, losses, view, units, pixels, eps)

    return SimpleNamespace(
        step=step,
        score=score,
        view_type=view_type,
        rates_type=update.ADAM,
    )
