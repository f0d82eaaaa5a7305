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

from taichi2dgs.kernels import cores_cull, cores_lists, cores_topk, maths
from taichi2dgs.kernels.binning import EMPTY, GEOMETRY, UX, UY, VX, VY, X, Y, array
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
from taichi2dgs.kernels.cores_topk import GROUP
from taichi2dgs.kernels.variant import Variant

OUTSIDE = 1.0e30  # the target where a block has a pixel that the view lacks


def power_of_two(least: int) -> int:
    """Return the least power of two that is not below a number."""
    return 1 << (least - 1).bit_length()


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that walk over tiles, and the types of their arrays."""
    real, channels, top_k = variant.real, variant.channels, variant.top_k
    normalized = variant.normalized
    tiles = cores_lists.make(variant)
    cull = cores_cull.make(variant).cull
    m = maths.make(real)
    reals = ti.types.vector(LANES, real)
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    columns = GEOMETRY + channels
    # A power of two, so that LLVM knows each number at a fixed distance from the first.
    own_row = ti.types.vector(power_of_two(COLOR + channels), real)
    nearest = cores_topk.make(top_k, LANES, real)
    rows = max(nearest.rows, channels)  # rows of slots that each worker has

    @ti.func
    def whitened(own: array, e, x, y):
        """The offset of each lane in standard deviations of entry e, along its axes."""
        dx, dy = x - own[e][X], y - own[e][Y]
        return dx * own[e][UX] + dy * own[e][UY], dx * own[e][VX] + dy * own[e][VY]

    @ti.func
    def distance(own: array, e, x, y):
        """The squared Mahalanobis distance of each lane from entry e."""
        u, v = whitened(own, e, x, y)
        return u * u + v * v

    @ti.func
    def thresholds(own: array, lists: array, first, found, x, y, values: array, at,
                   slots: array, worker):  # fmt: skip
        """Write squared distances to values; return what the K nearest of each lane are within."""
        kth = reals(EMPTY)
        groups = (found + GROUP - 1) // GROUP
        for n in range(GROUP * groups):
            q = distance(own, lists[first + n], x, y)
            values[at + n, 0] = ti.select(q >= 0, q, values[at + n, 0])
        if ti.static(normalized and nearest.network):
            distances = [reals(EMPTY) for _ in ti.static(range(top_k))]
            for group in range(groups):
                new = [values[at + GROUP * group + j, 0] for j in ti.static(range(GROUP))]
                nearest.take(distances, new)
                lists[first - 1] = found  # the loop loads whole vectors only if it stores something
            kth = distances[top_k - 1]
        elif ti.static(normalized):
            kth = nearest.by_insertion(slots, worker * rows, values, at, found)
        return kth

    @ti.func
    def weigh(own: array, lists: array, first, found, values: array, at, kth, out: ti.template()):
        """Replace distances by weights; add up weights and colours, return how many count."""
        count = reals(0)
        for n in range(found):
            q = values[at + n, 0]
            counts = q <= kth
            w = ti.select(counts, m.exp_half(q), reals(0))
            values[at + n, 0] = w
            add_up(own, lists[first + n], w, out)
            if ti.static(normalized):
                count += ti.select(counts, reals(1), reals(0))
        return count

    @ti.func
    def add_up(own: array, e, w, out: ti.template()):
        """Add an entry's part to the colours in `out`, and w to the sum of weights after them."""
        for c in ti.static(range(channels)):
            out[c] = out[c] + w * own[e][COLOR + c]
        out[channels] = out[channels] + w

    @ti.func
    def settle_ties(own: array, lists: array, first, found, x, y, values: array, at, kth,
                    out: ti.template()):  # fmt: skip
        """Weigh a block anew of which some pixel has more than K entries within its threshold."""
        left = reals(top_k)
        for n in range(found):
            q = distance(own, lists[first + n], x, y)
            left -= ti.select(q < kth, reals(1), reals(0))
        for c in ti.static(range(channels + 1)):
            out[c] = reals(0)
        for n in range(found):
            q = distance(own, lists[first + n], x, y)
            tie = q == kth
            counts = (q < kth) | (tie & (left > 0))
            left -= ti.select(tie, reals(1), reals(0))
            w = ti.select(counts, m.exp_half(q), reals(0))
            values[at + n, 0] = ti.select(w >= 0, w, values[at + n, 0])
            add_up(own, lists[first + n], w, out)

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
            w = values[at + n, 0]
            u, v = whitened(own, e, x, y)
            # All is read before any is written.
            totals = [sums[e, j] for j in ti.static(range(columns))]
            h = -(w * d_mean)
            for c in ti.static(range(channels)):
                d_color = w * d_out[c]
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

        "render" writes image [H, W, C]. "backward" reads it as dL/d(out). "score" and "fit" take
        image [T * B, C] of L lanes as the target, OUTSIDE where there is no pixel, and write the
        squared error of the clamped render, per tile; "backward" and "fit" fill grads, "fit" with
        the gradient of half the squared error.
        """
        pushes, measures = task in ("backward", "fit"), task in ("score", "fit")

        @ti.func
        def exchange(image: array, row, ix, iy, stop_x, stop_y, slots: array, slot,
                     out: ti.template(), d_out: ti.template()):  # fmt: skip
            """Bring colours to the image, or it to the block; single numbers go by way of slots."""
            loss = reals(0)
            for c in ti.static(range(channels)):
                if ti.static(measures):
                    target = image[row, c]
                    there = target < real(OUTSIDE / 2)
                    d_out[c] = ti.select(there, out[c] - target, reals(0))
                    clamped = ti.select(out[c] < 0, reals(0), out[c])
                    clamped = ti.select(clamped < 1, clamped, reals(1))
                    error = ti.select(there, clamped - target, reals(0))
                    loss += error * error
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
        def treat(own: array, lists: array, first, found, x, y, values: array, at, sums: array,
                  slots: array, worker, image: array, row, ix, iy, stop_x, stop_y, view,
                  eps):  # fmt: skip
            """Treat one block, and return its squared error, lane by lane."""
            kth = thresholds(own, lists, first, found, x, y, values, at, slots, worker)
            support = reals(view.cutoff * view.cutoff)
            kth = ti.select(kth < support, kth, support)
            out = [reals(0) for _ in ti.static(range(channels + 1))]
            d_out = [reals(0) for _ in ti.static(range(channels))]
            count = weigh(own, lists, first, found, values, at, kth, out)
            scale = reals(1)
            if ti.static(normalized):
                if count.max() > top_k:
                    settle_ties(own, lists, first, found, x, y, values, at, kth, out)
                scale = 1 / (out[channels] + eps)
                for c in ti.static(range(channels)):
                    out[c] = out[c] * scale
            loss = exchange(image, row, ix, iy, stop_x, stop_y, slots, worker * rows, out, d_out)
            if ti.static(pushes):
                for c in ti.static(range(channels)):
                    d_out[c] = d_out[c] * scale
                push(own, lists, first, found, x, y, values, at, sums, out, d_out)
            return loss

        @ti.func
        def walk(records: array, starts: array, entries: array, own: array, lists: array,
                 values: array, sums: array, slots: array, lattice: array,
                 grads: array, image: array, losses: array, t, worker, depth, view,
                 eps):  # fmt: skip
            """Treat tile t with the memory of one worker."""
            begin, end, base = starts[t], starts[t + 1], worker * depth
            left, top = t % view.tiles_x * view.tile_w, t // view.tiles_x * view.tile_h
            stop_x = ti.min(left + view.tile_w, view.width)
            stop_y = ti.min(top + view.tile_h, view.height)
            across, down = cells_of(view)
            blocks = across * down * BLOCKS
            first_x = (ti.cast(view.left + left, real) + real(0.5)) * view.pitch_x
            first_y = (ti.cast(view.top + top, real) + real(0.5)) * view.pitch_y
            own_lists = worker * (blocks * stride_of(depth) + depth)
            order = cull(records, entries, begin, end, own, base, depth, lists, own_lists, lattice,
                        first_x, first_y, view)  # fmt: skip
            loss = reals(0)
            for b in range(blocks):
                cell = b // BLOCKS
                ix = left + cell % across * CELL + b % ACROSS * BLOCK_W
                iy = top + cell // across * CELL + b % BLOCKS // ACROSS * BLOCK_H
                if ix < stop_x and iy < stop_y:
                    column = ti.cast(view.left + ix, real) + real(0.5)
                    row = ti.cast(view.top + iy, real) + real(0.5)
                    x = (lattice[0, 0] + column) * view.pitch_x
                    y = (lattice[0, 1] + row) * view.pitch_y
                    first = own_lists + b * stride_of(depth)
                    loss += treat(
                        own, lists, first + 1, lists[first], x, y, values,
                        worker * (depth + GROUP), sums, slots, worker, image, t * blocks + b, ix,
                        iy, stop_x, stop_y, view, eps,
                    )  # fmt: skip
            if ti.static(pushes):
                finish(begin, end, lists, order, sums, grads)
            if ti.static(measures):
                losses[t] = loss.sum()

        return walk

    elements = SimpleNamespace(own=own_row, lanes=reals, grads=grad_row)
    return SimpleNamespace(tiles=tiles, elements=elements, slots=rows, make_walk=make_walk)
