"""Top-K selection, normalised weighted splat and its backward, on a GPU.

Who owns what, launch by launch. There is a thread for each pixel of each tile, side by side, so
that neighbouring threads read the same list at the same time:

    walk      a thread has a pixel. It chooses what it blends, in its registers, and writes the
              colour. In the masks of the entries that it blends it sets the bit of its pixel.
    push      a thread has the entries of a tile that are so far apart. For each pixel whose bit is
              set, from the first to the last, it adds up what the pixel sends back, in its
              registers, and writes the sum. It clears the bits.
    gather    a thread has a Gaussian, and adds up the sums of its entries, tile by tile.

No thread adds to a number of another: sums come in one order, and a result is the same, bit for
bit, in every run on a device. Atomics set bits only.

Arrays beside those of `lists.py` (S = T x pixels of a tile, W = 32-bit words of a mask):
    pixels [S] of C + 1: a pixel's colour, and 1 / denominator;
    rows [E x R]: from `walk` to `push`, numbers 1 to W are the mask, empty before, in which bit b
    of word w is pixel 32 w + b; then the first 5 + C are the gradient, each the bits of a float.
    Its first five are sums of h u, h v, h u^2, h u v, h v^2 with h = dL/dq, which `update.py` turns
    into gradients of a Gaussian's parameters.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import lists, maths, residual, selection, update
from taichi2dgs.kernels.binning import EMPTY, GEOMETRY, array
from taichi2dgs.kernels.lists import COLOR, MASK_BITS
from taichi2dgs.kernels.pictures import HEIGHT, ROW, TILE, TILES_X, WIDTH, picture_of
from taichi2dgs.kernels.variant import Variant

LEAST_REST = 1.0e-6  # of a sum of weights without the largest, so that nothing is divided by zero


def make(variant: Variant, tile: tuple[int, int]) -> SimpleNamespace:
    """Return the functions that splat, each for one thread, and the elements of their arrays."""
    tile_h, tile_w = tile
    threads = tile_h * tile_w  # of a tile
    real, channels, normalized = variant.real, variant.channels, variant.normalized
    binned, u, m = lists.make(variant, tile), update.make(variant), maths.make(real)
    r = residual.make(variant, real)
    chosen_by, bits_type = selection.make(variant), binned.bits
    grad_row = ti.types.vector(GEOMETRY + channels, real)
    pixel_row = ti.types.vector(channels + 1, real)

    @ti.func
    def corner_of(pictures: array, p, t):
        """Column and row, within picture p, of the first pixel of tile t."""
        inside, tiles_x = t - pictures[p, TILE], pictures[p, TILES_X]
        return (inside % tiles_x) * tile_w, (inside // tiles_x) * tile_h

    @ti.func
    def pixel_of(pictures: array, s):
        """Picture, column and row of the s-th pixel of all tiles, and whether the picture has it.

        Tiles at the right and at the bottom may extend beyond it.
        """
        t, inside = s // threads, s % threads
        p = picture_of(pictures, TILE, t)
        left, top = corner_of(pictures, p, t)
        ix, iy = left + inside % tile_w, top + inside // tile_w
        return p, ix, iy, ix < pictures[p, WIDTH] and iy < pictures[p, HEIGHT]

    @ti.func
    def point_of(ix, iy, grid: ti.template()):
        """The sample point of a pixel."""
        x = (ti.cast(grid.left + ix, real) + real(0.5)) * grid.pitch_x
        y = (ti.cast(grid.top + iy, real) + real(0.5)) * grid.pitch_y
        return x, y

    def make_walk(task: str):
        """Return the function that treats one pixel.

        "render" writes image [rows, W, C]; "mark" writes pixels and the masks.
        """

        @ti.func
        def add(row: ti.template(), q, e, inside, records: array, entries: array, rows: array,
                breadth):  # fmt: skip
            """Add an entry to the sums of colours and weights of a pixel."""
            w = m.exp_half(q)
            record = records[entries[e]]
            for c in ti.static(range(channels)):
                row[c] += w * record[COLOR + c]
            row[channels] += w
            if ti.static(task == "mark"):
                word = e * breadth + 1 + inside // MASK_BITS
                ti.atomic_or(rows[word], ti.cast(1, bits_type) << (inside % MASK_BITS))

        @ti.func
        def blend(begin, end, x, y, inside, records: array, entries: array, rows: array, breadth,
                  cutoff, eps):  # fmt: skip
            """The colour of a pixel, and 1 / denominator."""
            row = pixel_row(0)
            if ti.static(normalized):
                nearest, chosen = chosen_by.distances(EMPTY), chosen_by.slots(0)
                chosen_by.choose(nearest, chosen, begin, end, x, y, records, entries, cutoff)
                if ti.static(chosen_by.unrolled):
                    for k in ti.static(range(variant.top_k)):
                        if nearest[k] < real(EMPTY):
                            add(row, nearest[k], chosen[k], inside, records, entries, rows, breadth)
                else:
                    for k in range(variant.top_k):
                        if nearest[k] < real(EMPTY):
                            add(row, nearest[k], chosen[k], inside, records, entries, rows, breadth)
                row[channels] = 1 / (row[channels] + eps)
                for c in ti.static(range(channels)):
                    row[c] *= row[channels]
            else:
                for e in range(begin, end):
                    u, v = chosen_by.whitened(records[entries[e]], x, y)
                    q = u * u + v * v
                    if q <= cutoff * cutoff:
                        add(row, q, e, inside, records, entries, rows, breadth)
                row[channels] = real(1.0)
            return row

        @ti.func
        def walk(records: array, starts: array, required: array, entries: array, rows: array,
                 breadth, pixels: array, image: array, pictures: array, s, grid: ti.template(),
                 eps):  # fmt: skip
            """Treat the s-th pixel of all tiles, if a picture has it and the lists fit."""
            t, inside = s // threads, s % threads
            p, ix, iy, there = pixel_of(pictures, s)
            if there and binned.fits(required, entries):
                x, y = point_of(ix, iy, grid)
                row = blend(
                    starts[t], starts[t + 1], x, y, inside, records, entries, rows, breadth,
                    grid.cutoff, eps,
                )  # fmt: skip
                if ti.static(task == "render"):
                    for c in ti.static(range(channels)):
                        image[pictures[p, ROW] + iy, ix, c] = row[c]
                else:
                    pixels[s] = row

        return walk

    def make_push(task: str):
        """Return the function that pushes gradients back to some entries of one tile.

        `image` is the target [rows, W, C], C + 1 with weights, of a "fit", whose loss `residual.py`
        knows, and of "removal", which adds up what leaving an entry out costs (`cores_removal.py`
        says what that is) to the first number; or it is dL/d(colour), for "backward".
        """

        weighs = task != "backward" and variant.weighted

        @ti.func
        def cost_of_removal(record, w, pixel, ix, row, image: array):
            """By how much the squared error of a pixel grows without a Gaussian of weight w."""
            cost = real(0.0)
            rest = 1 / pixel[channels] - w  # with eps, of which it may have lost a part by rounding
            for c in ti.static(range(channels)):
                without = pixel[c] - w * record[COLOR + c]
                if ti.static(normalized):
                    change = w * (pixel[c] - record[COLOR + c])
                    without = pixel[c] + change / ti.max(rest, real(LEAST_REST))
                after = ti.math.clamp(without, 0, 1) - image[row, ix, c]
                before = ti.math.clamp(pixel[c], 0, 1) - image[row, ix, c]
                cost += after * after - before * before
            if ti.static(weighs):
                cost *= image[row, ix, channels]
            return cost

        @ti.func
        def pushed(row: ti.template(), record, s, ix, iy, first_row, pixels: array, image: array,
                   grid: ti.template()):  # fmt: skip
            """Add to a row what a pixel sends back to a Gaussian of this record."""
            x, y = point_of(ix, iy, grid)
            u, v = chosen_by.whitened(record, x, y)
            w = m.exp_half(u * u + v * v)
            pixel = pixels[s]
            d_weight, share = real(0.0), real(1.0)
            if ti.static(weighs):
                share = image[first_row + iy, ix, channels]
            if ti.static(task == "removal"):
                row[0] += cost_of_removal(record, w, pixel, ix, first_row + iy, image)
            for c in ti.static(range(channels if task != "removal" else 0)):
                d_out, relative = image[first_row + iy, ix, c], record[COLOR + c]
                if ti.static(task == "fit"):
                    d_out = r.slope(pixel[c] - d_out, share)
                if ti.static(normalized):
                    d_out *= pixel[channels]
                    relative -= pixel[c]
                d_weight += d_out * relative
                row[GEOMETRY + c] += w * d_out
            if ti.static(task != "removal"):
                h = real(-0.5) * w * d_weight
                hu, hv = h * u, h * v
                row[0] += hu
                row[1] += hv
                row[2] += hu * u
                row[3] += hu * v
                row[4] += hv * v

        @ti.func
        def push(records: array, starts: array, required: array, entries: array, rows: array,
                 breadth, pixels: array, image: array, pictures: array, s,
                 grid: ti.template()):  # fmt: skip
            """Write the gradients of the entries of thread s of all tiles' threads."""
            if binned.fits(required, entries):
                t = s // threads
                p = picture_of(pictures, TILE, t)
                first_row = pictures[p, ROW]
                left, top = corner_of(pictures, p, t)
                e, after = starts[t] + s % threads, starts[t + 1]
                while e < after:
                    record, row = records[entries[e]], grad_row(0)
                    for word in range(binned.words):
                        bits = ti.cast(rows[e * breadth + 1 + word], ti.i32)
                        while bits != 0:
                            lowest = bits & -bits
                            bits ^= lowest
                            inside = word * MASK_BITS + ti.math.popcnt(lowest - 1)
                            ix, iy = left + inside % tile_w, top + inside // tile_w
                            pushed(row, record, t * threads + inside, ix, iy, first_row, pixels,
                                   image, grid)  # fmt: skip
                    for j in ti.static(range(GEOMETRY + channels)):
                        rows[e * breadth + j] = ti.bit_cast(row[j], bits_type)
                    e += threads

        return push

    @ti.func
    def gather(params: array, records: array, rects: array, starts: array, entries: array,
               rows: array, breadth, pictures: array, g):  # fmt: skip
        """Gradient of the loss with respect to the parameters of Gaussian g."""
        row, tiles_x = grad_row(0), binned.tiles_across(pictures, binned.middle(g))
        for c in range(variant.copies):
            slot = g * variant.copies + c
            for n in range(rects[slot, 1] * rects[slot, 2]):
                if binned.reaches(rects, slot, n):
                    t = binned.tile_of(rects, slot, n, tiles_x)
                    e = binned.entry_of(starts, entries, t, slot)
                    for j in ti.static(range(GEOMETRY + channels)):
                        row[j] += ti.bit_cast(rows[e * breadth + j], real)
        record = records[binned.middle(g)]
        shaped = [params[g, j] for j in ti.static(range(GEOMETRY))]
        white = [record[j] for j in ti.static(range(COLOR))]
        return u.of_parameters(shaped, white, row)

    elements = SimpleNamespace(records=binned.records, pixels=pixel_row, bits=bits_type)
    return SimpleNamespace(
        **vars(binned), elements=elements, make_walk=make_walk, make_push=make_push,
        gather=gather, pixel_of=pixel_of, residual=r,
    )  # fmt: skip
