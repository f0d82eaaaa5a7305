"""Top-K selection, normalised weighted splat and its backward, on cores.

Each worker is a thread with memory of its own. It takes a tile from a counter until none is left,
so that any number of cores is busy to the end, and it writes only to what is its own or its tile's.
A tile is 16x16 pixels, cut into blocks of 4x2, and a block is one vector of LANES numbers. `cull`
first lists, for each block, the entries that reach it. Then a worker computes, block by block:

    distances   of all pixels to each entry of the block's list, in index order
    threshold   the K-th smallest of each pixel, `cores_topk.py`
    weights     of the entries that are not farther than that, and with them the colours
    loss        against the target, whose blocks lie as they are taken
    gradients   added, pixel by pixel, to the sums of each entry

and after the last block the sums of each entry, over its pixels, go to `grads`. Results depend
neither on who takes a tile nor on how pixels are tiled: each pixel sees the same entries in the
same order. Where several entries tie at the threshold, the lower indices count: a block that has a
pixel with more than K weights is weighed again, by `settle_ties`.

Arrays beside those of `cores_lists.py` (D rows of each worker, at least the longest list; B blocks
of a tile; L lanes), all of workers but the last two:
    own [W * D] of 11 + C and some: records of the tile, of which the last is far away;
    lists [W * (B * (D + 9) + D)]: see `cores_cull.py`;
    values [W * (D + 8), 1] of L lanes: of each entry of a block squared distances, then weights;
    sums [W * D, 5 + C] of L lanes: zero wherever no tile is in the making;
    slots [W * rows, 1] of L lanes: see `cores_topk.py` and `exchange`;
    shares [1 + W]: the next tile, and how many tiles each worker took;
    lattice [1, 3] of L lanes: columns and rows within a block, and bands; grads [E] of 5 + C.
Arrays of lanes have two axes, and each place is read before it is written: LLVM makes vector stores
only then. Offsets of lanes come from an array: LLVM would take lanes of known offsets apart.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import (
    cores_cull,
    cores_kept,
    cores_lists,
    cores_removal,
    cores_weigh,
    residual,
)
from taichi2dgs.kernels.binning import GEOMETRY, array
from taichi2dgs.kernels.cores_cull import (
    ACROSS,
    BLOCK_H,
    BLOCK_W,
    BLOCKS,
    CELL,
    LANES,
    cells_of,
    stride_of,
)
from taichi2dgs.kernels.cores_lists import COLOR
from taichi2dgs.kernels.cores_removal import OUTSIDE
from taichi2dgs.kernels.cores_topk import GROUP
from taichi2dgs.kernels.pictures import HEIGHT, TILE, TILES_X, WIDTH, picture_of
from taichi2dgs.kernels.variant import Variant


def power_of_two(least: int) -> int:
    """Return the least power of two that is not below a number."""
    return 1 << (least - 1).bit_length()


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that walk over tiles, and the types of their arrays."""
    real, channels, top_k = variant.real, variant.channels, variant.top_k
    normalized = variant.normalized
    tiles = cores_lists.make(variant)
    cull = cores_cull.make(variant).cull
    w = cores_weigh.make(variant)
    selection = cores_kept.make(variant, w)
    removal = cores_removal.make(variant)
    reals = ti.types.vector(LANES, real)
    r = residual.make(variant, reals)
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    columns = GEOMETRY + channels
    # A power of two, so that LLVM knows each number at a fixed distance from the first.
    own_row = ti.types.vector(power_of_two(COLOR + channels), real)

    @ti.func
    def push(own: array, lists: array, first, found, x, y, values: array, at, sums: array,
             out: ti.template(), d_out: ti.template()):  # fmt: skip
        """Add to the sums of each entry: d_out is already divided by the denominator."""
        d_mean = reals(0)
        if ti.static(normalized):
            for c in ti.static(range(channels)):
                d_mean += d_out[c] * out[c]
        for n in range(found):
            e = lists[first + n]
            weight = values[at + n, 0]
            u, v = w.whitened(own, e, x, y)
            # All is read before any is written.
            totals = [sums[e, j] for j in ti.static(range(columns))]
            h = -(weight * d_mean)
            for c in ti.static(range(channels)):
                d_color = weight * d_out[c]
                h += d_color * own[e][COLOR + c]
                totals[GEOMETRY + c] += d_color
            hu, hv = h * u, h * v
            totals[0] += hu
            totals[1] += hv
            totals[2] += hu * u
            totals[3] += hu * v
            totals[4] += hv * v
            for j in ti.static(range(columns)):
                sums[e, j] = totals[j]

    @ti.func
    def finish(begin, end, lists: array, order, sums: array, grads: array):
        """Add up the lanes of sums to gradients of entries (dL/dq is -h / 2), and clear them."""
        for n in range(end - begin):
            total, e = grad_row(0), lists[order + n]  # not base + n: LLVM would take it apart
            for j in ti.static(range(columns)):
                v = sums[e, j]
                total[j] = ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
                if ti.static(j < GEOMETRY):
                    total[j] *= real(-0.5)
            for j in ti.static(range(columns)):
                sums[e, j] = reals(0)
            for j in ti.static(range(columns)):
                grads[begin + n][j] = total[j]

    def make_walk(task: str):
        """Return the function that treats one tile for one task.

        "render" writes image [H, W, C]. "backward" reads it as dL/d(out). The others take image
        [T * B, C] of L lanes, C + 1 with weights, as the target, OUTSIDE where there is no pixel:
        "fit" and "kept" write the squared error of the clamped render per tile, "removal" the
        clamped render minus the target per pixel, losses [T * B, C] of L lanes. All but "render"
        fill grads, "fit" and "kept" with the gradient of the loss, see `residual.py`, "removal" the
        first column with what `cores_removal.py` adds up. "kept" blends what the last "fit" that
        had `keeps` selected, see `cores_kept.py`; the others select.
        """
        removes = task == "removal"
        pushes, measures = task in ("fit", "kept", "backward"), task in ("fit", "kept", "removal")

        @ti.func
        def exchange(image: array, losses: array, row, ix, iy, stop_x, stop_y, slots: array, slot,
                     out: ti.template(), d_out: ti.template()):  # fmt: skip
            """Bring colours to the image, or it to the block; single numbers go by way of slots."""
            loss, weight = reals(0), reals(1)
            if ti.static(measures and variant.weighted):
                weight = image[row, channels]
                if ti.static(removes):
                    d_out[channels] = weight
            for c in ti.static(range(channels)):
                if ti.static(measures):
                    target = image[row, c]
                    there = target < real(OUTSIDE / 2)
                    d_out[c] = ti.select(there, r.slope(out[c] - target, weight), reals(0))
                    clamped = ti.select(out[c] < 0, reals(0), out[c])
                    clamped = ti.select(clamped < 1, clamped, reals(1))
                    error = ti.select(there, clamped - target, reals(0))
                    loss += r.squared(error, weight)
                    if ti.static(removes):
                        losses[row, c], d_out[c] = error, target
                elif ti.static(task == "render"):
                    q = slots[slot + c, 0]
                    slots[slot + c, 0] = ti.select(q == q, out[c], out[c])
                else:
                    slots[slot + c, 0] = reals(0)
            if ti.static(not measures):
                for lane in range(LANES):
                    px, py = ix + lane % BLOCK_W, iy + lane // BLOCK_W
                    if px < stop_x and py < stop_y:
                        for c in ti.static(range(channels)):
                            if ti.static(task == "render"):
                                image[py, px, c] = slots[slot + c, 0][lane]
                            else:
                                slots[slot + c, 0][lane] = image[py, px, c]
            if ti.static(task == "backward"):
                for c in ti.static(range(channels)):
                    d_out[c] = slots[slot + c, 0]
            return loss

        @ti.func
        def select(own: array, lists: array, first, found, x, y, values: array, at, slots: array,
                   worker, view, out: ti.template()):  # fmt: skip
            """Weigh what each pixel of a block selects, and add up colours."""
            kth = w.thresholds(own, lists, first, found, x, y, values, at, slots, worker)
            support = reals(view.cutoff * view.cutoff)
            kth = ti.select(kth < support, kth, support)
            count = w.weigh(own, lists, first, found, values, at, kth, out)
            if ti.static(normalized):
                too_many = count.max() > top_k
                if too_many:
                    w.settle_ties(own, lists, first, found, x, y, values, at, kth, out)

        @ti.func
        def treat(own: array, lists: array, first, found, x, y, values: array, at, sums: array,
                  slots: array, worker, image: array, losses: array, row, ix, iy, stop_x, stop_y,
                  eps, out: ti.template()):  # fmt: skip
            """Treat one block that is weighed, and return its squared error, lane by lane."""
            d_out = [reals(0) for _ in ti.static(range(variant.columns))]
            scale = reals(1)
            if ti.static(normalized):
                scale = 1 / (out[channels] + eps)
                for c in ti.static(range(channels)):
                    out[c] = out[c] * scale
            loss = exchange(
                image, losses, row, ix, iy, stop_x, stop_y, slots, worker * w.rows, out, d_out
            )
            if ti.static(pushes):
                for c in ti.static(range(channels)):
                    d_out[c] = d_out[c] * scale
                push(own, lists, first, found, x, y, values, at, sums, out, d_out)
            elif ti.static(removes):
                removal.push(own, lists, first, found, values, at, sums, out, d_out, eps)
            return loss

        @ti.func
        def walk(records: array, starts: array, entries: array, own: array, lists: array,
                 values: array, sums: array, slots: array, lattice: array, kept: array, keeps,
                 grads: array, image: array, losses: array, pictures: array, t, worker, depth,
                 view, eps):  # fmt: skip
            """Treat tile t with the memory of one worker."""
            begin, end, base = starts[t], starts[t + 1], worker * depth
            p = picture_of(pictures, TILE, t)
            inside, tiles_x = t - pictures[p, TILE], pictures[p, TILES_X]
            left, top = inside % tiles_x * view.tile_w, inside // tiles_x * view.tile_h
            stop_x = ti.min(left + view.tile_w, pictures[p, WIDTH])
            stop_y = ti.min(top + view.tile_h, pictures[p, HEIGHT])
            across, down = cells_of(view)
            blocks = across * down * BLOCKS
            first_x = (ti.cast(view.left + left, real) + real(0.5)) * view.pitch_x
            first_y = (ti.cast(view.top + top, real) + real(0.5)) * view.pitch_y
            own_lists, at = worker * (blocks * stride_of(depth) + depth), worker * (depth + GROUP)
            order = own_lists + blocks * stride_of(depth)
            if ti.static(task == "kept"):
                selection.bring(records, entries, begin, end, own, base, lists, order)
            else:
                cull(records, entries, begin, end, own, base, depth, lists, own_lists, lattice,
                     first_x, first_y, view)  # fmt: skip
            loss, place = reals(0), t * selection.words(view)
            for b in range(blocks):
                cell = b // BLOCKS
                ix = left + cell % across * CELL + b % ACROSS * BLOCK_W
                iy = top + cell // across * CELL + b % BLOCKS // ACROSS * BLOCK_H
                if ix < stop_x and iy < stop_y:
                    column = ti.cast(view.left + ix, real) + real(0.5)
                    row = ti.cast(view.top + iy, real) + real(0.5)
                    x = (lattice[0, 0] + column) * view.pitch_x
                    y = (lattice[0, 1] + row) * view.pitch_y
                    first = own_lists + 1  # a kept selection is done with before the next block's
                    if ti.static(task != "kept"):
                        first += b * stride_of(depth)
                    found = lists[first - 1]
                    out = [reals(0) for _ in ti.static(range(channels + 1))]
                    if ti.static(task == "kept"):
                        found = kept[place]
                        selection.weigh(kept, place, own, base, lists, first, x, y, values, at,
                                        lattice, out)  # fmt: skip
                        place += 1 + found
                    else:
                        select(own, lists, first, found, x, y, values, at, slots, worker, view,
                               out)  # fmt: skip
                    loss += treat(
                        own, lists, first, found, x, y, values, at, sums, slots, worker, image,
                        losses, t * blocks + b, ix, iy, stop_x, stop_y, eps, out,
                    )  # fmt: skip
                    if ti.static(task == "fit"):
                        place = selection.remember(
                            kept, keeps, place, lists, first, found, base, values, at, lattice
                        )
            if ti.static(pushes):
                finish(begin, end, lists, order, sums, grads)
            elif ti.static(removes):
                removal.finish(begin, end, lists, order, sums, grads)
            if ti.static(task in ("fit", "kept")):
                losses[t] = loss.sum()

        return walk

    elements = SimpleNamespace(own=own_row, lanes=reals, grads=grad_row)
    return SimpleNamespace(tiles=tiles, elements=elements, slots=w.rows, make_walk=make_walk)
