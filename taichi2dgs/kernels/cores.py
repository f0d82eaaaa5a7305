"""The kernels that cores launch: the steps of a fit, and renders.

Every parallel loop is a loop over workers, see `cores_lists.py`. Launches of a fit pass on:
    params, exp_avg and exp_avg_sq [N, 5 + C]: the parameters, and Adam's averages of their
        gradients and of the squares of these;
    frozen [N]: 1 where a Gaussian stays as it is;
    target: see `cores_walk.py`; losses [T]: squared errors;
    progress [2]: steps done, and the first step that met a non-finite number (or 0);
    kept: see `cores_kept.py`; keeps: whether a step that selects writes it.
`pictures.py` says which Gaussians and tiles are of which picture.
A launch whose tile lists do not fit, and every launch after it, changes nothing but `starts`, from
which the host reads what to grow to before it repeats the steps that are missing.
"""

import functools
from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, cores_walk, update
from taichi2dgs.kernels.binning import RECORD, array
from taichi2dgs.kernels.cores_lists import CHUNK
from taichi2dgs.kernels.variant import Variant


@functools.cache
def make(variant: Variant) -> SimpleNamespace:
    """Return the kernels, the type of their view, and the elements of their arrays."""
    real = variant.real
    f = cores_walk.make(variant)
    tiles = f.tiles
    u = update.make(variant)
    fit_walk, kept_walk = f.make_walk("fit"), f.make_walk("kept")
    render_walk, push_walk = f.make_walk("render"), f.make_walk("backward")
    removal_walk = f.make_walk("removal")
    view_type = binning.view_type(real)
    ints_1, ints_2 = ti.types.ndarray(ti.i32, 1), ti.types.ndarray(ti.i32, 2)
    reals_1, reals_2 = ti.types.ndarray(real, 1), ti.types.ndarray(real, 2)
    reals_3 = ti.types.ndarray(real, 3)
    lanes_2 = ti.types.ndarray(f.elements.lanes, 2)
    own_1, grads_1 = ti.types.ndarray(f.elements.own, 1), ti.types.ndarray(f.elements.grads, 1)

    @ti.func
    def next_tile(shares: array, worker):
        """Take a tile, and count it as this worker's."""
        shares[1 + worker] = shares[1 + worker] + 1
        return ti.atomic_add(shares[0], 1)

    @ti.func
    def clear(shares: array):
        for w in range(shares.shape[0]):
            shares[w] = 0 if w == 0 else -1  # to ask and to get no tile does not count

    @ti.func
    def gather(params: array, records: array, rects: array, places: array, grads: array, g, at):
        """Return the gradient of Gaussian g, whose places begin at `at`, and where they end."""
        row, slot = f.elements.grads(0), tiles.middle(g)
        after = at + tiles.entries_of(rects, g)
        for n in range(at, after):
            row += grads[places[n]]
        record = [records[slot, j] for j in ti.static(range(RECORD))]
        return u.of_parameters(params[g], record, row), after

    @ti.kernel
    def measure(params: grads_1, records: reals_2, rects: ints_2, cursors: ints_2, bases: ints_1,
                starts: ints_1, shares: ints_1, pictures: ints_2, view: view_type):  # fmt: skip
        """Project, and count entries: the end of starts is what `fill` needs."""
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0:
                tiles.project(params, records, rects, cursors, bases, pictures, view, w // CHUNK)
        for _ in range(1):
            tiles.scan(cursors, starts, bases, view)
            clear(shares)

    @ti.kernel
    def fill(rects: ints_2, cursors: ints_2, bases: ints_1, starts: ints_1, entries: ints_1,
             places: ints_1, pictures: ints_2, view: view_type, depth: ti.i32):  # fmt: skip
        """Write the lists, if they fit."""
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                tiles.fill(rects, cursors, bases, entries, places, pictures, w // CHUNK)

    @ti.kernel
    def forward(records: reals_2, starts: ints_1, entries: ints_1, own: own_1, lists: ints_1,
                values: lanes_2, slots: lanes_2, lattice: lanes_2, shares: ints_1, out: reals_3,
                pictures: ints_2, view: view_type, depth: ti.i32, eps: real):  # fmt: skip
        """Write out [H, W, C]."""
        for _ in range(1):
            clear(shares)
        for w in range((shares.shape[0] - 1) * CHUNK):
            if w % CHUNK == 0:
                t = next_tile(shares, w // CHUNK)
                while t < view.tiles:
                    render_walk(records, starts, entries, own, lists, values, None, slots,
                                lattice, None, 0, None, out, None, pictures, t, w // CHUNK, depth,
                                view, eps)  # fmt: skip
                    t = next_tile(shares, w // CHUNK)

    @ti.kernel
    def backward(params: grads_1, records: reals_2, rects: ints_2, bases: ints_1, starts: ints_1,
                 entries: ints_1, places: ints_1, own: own_1, lists: ints_1, values: lanes_2,
                 sums: lanes_2, slots: lanes_2, lattice: lanes_2, shares: ints_1, grads: grads_1,
                 d_out: reals_3, d_params: grads_1, pictures: ints_2, view: view_type,
                 depth: ti.i32, eps: real):  # fmt: skip
        """Write d_params [N, 5 + C] from d_out [H, W, C], after the same selection as `forward`."""
        for _ in range(1):
            clear(shares)
        for w in range((shares.shape[0] - 1) * CHUNK):
            if w % CHUNK == 0:
                t = next_tile(shares, w // CHUNK)
                while t < view.tiles:
                    push_walk(records, starts, entries, own, lists, values, sums, slots,
                              lattice, None, 0, grads, d_out, None, pictures, t, w // CHUNK, depth,
                              view, eps)  # fmt: skip
                    t = next_tile(shares, w // CHUNK)
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0:
                begin, end = tiles.part_of(params.shape[0], w // CHUNK, bases.shape[0])
                at = bases[w // CHUNK]
                for g in range(begin, end):
                    row, at = gather(params, records, rects, places, grads, g, at)
                    d_params[g] = row

    @ti.func
    def advance(params: array, exp_avg: array, exp_avg_sq: array, frozen: array, progress: array,
                records: array, rects: array, bases: array, places: array, grads: array, rates,
                number, part):  # fmt: skip
        """Make a step of Adam for the Gaussians of a part."""
        begin, end = tiles.part_of(params.shape[0], part, bases.shape[0])
        at = bases[part]
        for g in range(begin, end):
            row, at = gather(params, records, rects, places, grads, g, at)
            if frozen[g] == 0:
                m, v, value, finite = u.adam(params[g], exp_avg[g], exp_avg_sq[g], row, rates)
                exp_avg[g], exp_avg_sq[g], params[g] = m, v, value
                if not finite and progress[1] == 0:
                    progress[1] = number

    @ti.kernel
    def step(params: grads_1, exp_avg: grads_1, exp_avg_sq: grads_1, frozen: ints_1,
             progress: ints_1, target: lanes_2, losses: reals_1, records: reals_2, rects: ints_2,
             cursors: ints_2, bases: ints_1, starts: ints_1, entries: ints_1, places: ints_1,
             own: own_1, lists: ints_1, values: lanes_2, sums: lanes_2, slots: lanes_2,
             lattice: lanes_2, shares: ints_1, kept: ints_1, grads: grads_1, pictures: ints_2,
             view: view_type, rates: update.ADAM, number: ti.i32, keeps: ti.i32, depth: ti.i32,
             eps: real):  # fmt: skip
        """Make step `number` (from 1), if all steps before it are done and the lists fit."""
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0:
                tiles.project(params, records, rects, cursors, bases, pictures, view, w // CHUNK)
        for _ in range(1):
            tiles.scan(cursors, starts, bases, view)
            clear(shares)
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                tiles.fill(rects, cursors, bases, entries, places, pictures, w // CHUNK)
        for w in range((shares.shape[0] - 1) * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                t = next_tile(shares, w // CHUNK)
                while t < view.tiles:
                    fit_walk(records, starts, entries, own, lists, values, sums, slots,
                             lattice, kept, keeps, grads, target, losses, pictures, t, w // CHUNK,
                             depth, view, eps)  # fmt: skip
                    t = next_tile(shares, w // CHUNK)
        for w in range(bases.shape[0] * CHUNK):
            fits = tiles.fits(starts, entries, view, depth) and progress[0] == number - 1
            if w % CHUNK == 0 and fits:
                advance(params, exp_avg, exp_avg_sq, frozen, progress, records, rects, bases,
                        places, grads, rates, number, w // CHUNK)  # fmt: skip
        for _ in range(1):
            if tiles.fits(starts, entries, view, depth) and progress[0] == number - 1:
                progress[0] = number

    @ti.kernel
    def step_kept(params: grads_1, exp_avg: grads_1, exp_avg_sq: grads_1, frozen: ints_1,
                  progress: ints_1, target: lanes_2, losses: reals_1, records: reals_2,
                  rects: ints_2, bases: ints_1, starts: ints_1, entries: ints_1, places: ints_1,
                  own: own_1, lists: ints_1, values: lanes_2, sums: lanes_2, slots: lanes_2,
                  lattice: lanes_2, shares: ints_1, kept: ints_1, grads: grads_1, pictures: ints_2,
                  view: view_type, rates: update.ADAM, number: ti.i32, depth: ti.i32,
                  eps: real):  # fmt: skip
        """Make a step as `step` does, by the lists and the selection of the last one."""
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                begin, end = tiles.part_of(params.shape[0], w // CHUNK, bases.shape[0])
                for g in range(begin, end):
                    tiles.renew(params, records, g, view)
        for _ in range(1):
            clear(shares)
        for w in range((shares.shape[0] - 1) * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                t = next_tile(shares, w // CHUNK)
                while t < view.tiles:
                    kept_walk(records, starts, entries, own, lists, values, sums, slots, lattice,
                              kept, 0, grads, target, losses, pictures, t, w // CHUNK, depth, view,
                              eps)  # fmt: skip
                    t = next_tile(shares, w // CHUNK)
        for w in range(bases.shape[0] * CHUNK):
            fits = tiles.fits(starts, entries, view, depth) and progress[0] == number - 1
            if w % CHUNK == 0 and fits:
                advance(params, exp_avg, exp_avg_sq, frozen, progress, records, rects, bases,
                        places, grads, rates, number, w // CHUNK)  # fmt: skip
        for _ in range(1):
            if tiles.fits(starts, entries, view, depth) and progress[0] == number - 1:
                progress[0] = number

    @ti.kernel
    def removal(records: reals_2, rects: ints_2, bases: ints_1, starts: ints_1, entries: ints_1,
                places: ints_1, own: own_1, lists: ints_1, values: lanes_2, sums: lanes_2,
                slots: lanes_2, lattice: lanes_2, shares: ints_1, grads: grads_1, target: lanes_2,
                residual: lanes_2, costs: reals_1, pictures: ints_2, view: view_type, depth: ti.i32,
                eps: real):  # fmt: skip
        """Write what leaving out each Gaussian costs, and the clamped render minus the target."""
        for w in range((shares.shape[0] - 1) * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                t = next_tile(shares, w // CHUNK)
                while t < view.tiles:
                    removal_walk(records, starts, entries, own, lists, values, sums, slots,
                                 lattice, None, 0, grads, target, residual, pictures, t,
                                 w // CHUNK, depth, view, eps)  # fmt: skip
                    t = next_tile(shares, w // CHUNK)
        for w in range(bases.shape[0] * CHUNK):
            if w % CHUNK == 0 and tiles.fits(starts, entries, view, depth):
                begin, end = tiles.part_of(costs.shape[0], w // CHUNK, bases.shape[0])
                at = bases[w // CHUNK]
                for g in range(begin, end):
                    after, cost = at + tiles.entries_of(rects, g), real(0.0)
                    for n in range(at, after):
                        cost += grads[places[n]][0]
                    costs[g], at = cost, after

    @ti.kernel
    def put(params: grads_1, exp_avg: grads_1, exp_avg_sq: grads_1, which: ints_1, values: grads_1):
        """Give some Gaussians other parameters, and averages as of the first step."""
        for n in range(which.shape[0]):
            params[which[n]] = values[n]
            exp_avg[which[n]] = f.elements.grads(0)
            exp_avg_sq[which[n]] = f.elements.grads(0)

    return SimpleNamespace(
        measure=measure, fill=fill, forward=forward, backward=backward, step=step,
        step_kept=step_kept, removal=removal, put=put, view_type=view_type,
        rates_type=update.ADAM, elements=f.elements, slots=f.slots,
    )  # fmt: skip
