"""Tile lists on a GPU: which Gaussians can touch which tile of pixels.

Who owns what, launch by launch:

    project   a thread has a Gaussian. It writes its record and its tiles, and adds one to the
              count of each of them.
    sum_run   a thread has a run of about sqrt(T) tiles, and writes how many entries they have.
    begin     a thread has a tile, and writes where its list begins: after all runs before its own,
              and all tiles before it in its run.
    fill      a thread has a slot. In the list of each of its tiles it takes a free place, in
              whatever order threads come; the counts fall back to zero.
    sort      a tile has as many threads as pixels, and a thread the entries that are so far apart.
              The place of an entry is the number of entries of its tile with a lower index. The
              mask at its place becomes empty.

So each list is in index order, whoever came first: the ties of the top-K and the order of every
sum follow from that, on every backend. Atomics add integers only.

An example with two tiles that Gaussians 0, 1 and 2 all reach, and one that only 1 reaches: counts
are 3, 3, 1 and starts 0, 3, 6, 7. `fill` may leave 2 0 1 in the first list; for 2, two are lower,
so it goes to place 2; for 0, none; for 1, one: `sort` leaves 0 1 2.

Arrays beside those of `pictures.py` (N Gaussians, S slots, T tiles, E entries, C channels):
    params [N, 5 + C], see `binning.py`; records [S] of 6 + C: centre, whitening and colour, of each
    slot, see `copies.py`, of which a Gaussian has one unless pictures wrap around;
    rects [S, 4]: first tile, columns, rows, and a bit for each tile that is reached, row by row;
    counts [T], zero before `project`; starts [T + 1]; runs [~sqrt T]; required [1]: entries needed;
    entries [E]: the slot of each entry; rows [E x R], R numbers of each entry, which mean one
    thing after the other: the first is the slot that arrived there, from `fill` to `sort`; the
    next are the mask and then all the gradient of `splat.py`, where R has room for them.
"""

from types import SimpleNamespace
from typing import Any, NamedTuple

import taichi as ti

from taichi2dgs.kernels import binning, copies
from taichi2dgs.kernels.binning import (
    FALL,
    GEOMETRY,
    MAX_ENTRIES,
    REACH,
    SHEAR,
    VY,
    X,
    Y,
    array,
)
from taichi2dgs.kernels.pictures import GAUSSIAN, HEIGHT, TILE, TILES_X, WIDTH, picture_of
from taichi2dgs.kernels.variant import Variant

COLOR = VY + 1  # first column of the colour in a record
MASKED = 32  # tiles of a rectangle that are told apart; of a larger one, all count as reached
MASK_BITS = 32  # pixels that one number of a mask tells apart
PAD_SQUARE = 1.0e-5  # relative, on a difference of squares: far above the rounding of both
PAD_PLACE = 1.0e-6  # relative, on coordinates: above the rounding of a sample point
LARGEST = 1.0e6  # pixels: supports beyond it are not narrowed down, as numbers would overflow


class Grid(NamedTuple):
    """How pictures are sampled: some of a kernel's arguments, together.

    Only a step sees Gaussians away from where they are, see `binning.view_type`.
    """

    pitch_x: Any
    pitch_y: Any
    cutoff: Any
    left: Any
    top: Any
    shift_x: Any = 0.0
    shift_y: Any = 0.0


def make(variant: Variant, tile: tuple[int, int]) -> SimpleNamespace:
    """Return the functions that make lists for tiles of (height, width), each for one thread."""
    tile_h, tile_w = tile
    pixels = tile_h * tile_w
    words = (pixels + MASK_BITS - 1) // MASK_BITS  # numbers of a mask
    real, channels = variant.real, variant.channels
    bits = ti.i64 if variant.double else ti.i32  # as wide as a number
    bins, slots = binning.make(variant), copies.make(variant)
    record_row = ti.types.vector(COLOR + channels, real)

    @ti.func
    def border(record, dy, side):
        """Where, from the centre, the support ends on its right (1) or left (-1) at height dy."""
        square = record[REACH] * real(1.0 + PAD_SQUARE) - record[FALL] * dy * dy
        return side * ti.sqrt(ti.max(square, real(0.0))) - record[SHEAR] * dy

    @ti.func
    def reached_of(record, half_x, half_y, rect, width, height, grid: ti.template()):
        """The bits of the tiles of a rectangle that the support may touch, -1 for all.

        Between the first and the last row of pixels of a row of tiles it extends from the least of
        its left border to the most of its right one. These are at the heights -tilt and tilt or,
        where the row does not have them, at its end that is nearer.
        """
        reached = -1
        shear = record[SHEAR]
        roundness = record[FALL] + shear * shear
        small = half_x < LARGEST and half_y < LARGEST and record[FALL] < LARGEST * LARGEST
        if small and roundness > 1 / (LARGEST * LARGEST) and rect[2] * rect[3] <= MASKED:
            reached = 0
            tilt = -shear * half_x / roundness
            pad = real(PAD_PLACE) * (ti.abs(record[X]) + ti.abs(record[Y]))
            for j in range(rect[3]):
                row = (rect[1] + j) * tile_h
                last_row = ti.min(row + tile_h, height) - 1
                high = (ti.cast(grid.top + row, real) + real(0.5)) * grid.pitch_y - record[Y]
                low = (ti.cast(grid.top + last_row, real) + real(0.5)) * grid.pitch_y - record[Y]
                right = border(record, ti.math.clamp(tilt, high, low), real(1.0)) + pad
                left = border(record, ti.math.clamp(-tilt, high, low), real(-1.0)) - pad
                x0, x1 = bins.pixel_range(
                    record[X] + (left + right) / 2, (right - left) / 2,
                    grid.pitch_x, grid.left, width,
                )  # fmt: skip
                first = ti.max(x0 // tile_w - rect[0], 0)
                after = ti.min((x1 - 1) // tile_w + 1 - rect[0], rect[2])
                if x0 < x1:
                    for n in range(j * rect[2] + first, j * rect[2] + after):
                        reached |= 1 << n
        return reached

    @ti.func
    def reaches(rects: array, g, n):
        """Whether slot g has an entry in the n-th tile of its rectangle."""
        return rects[g, 1] * rects[g, 2] > MASKED or ((rects[g, 3] >> n) & 1) == 1

    @ti.func
    def tiles_across(pictures: array, g):
        """How many tiles are side by side in the picture of slot g."""
        return pictures[picture_of(pictures, GAUSSIAN, g // variant.copies), TILES_X]

    @ti.func
    def tile_of(rects: array, g, n, tiles_x):
        """The n-th tile, row by row, of the rectangle of slot g."""
        down = n // rects[g, 1]
        return rects[g, 0] + down * tiles_x + n - down * rects[g, 1]

    @ti.func
    def project_slot(params: array, records: array, rects: array, counts: array, pictures: array, p,
                     g, slot, record, half_x, half_y, grid: ti.template()):  # fmt: skip
        """Write record and tiles of a slot of Gaussian g, and count its entries."""
        kept = record_row(0)
        for j in ti.static(range(COLOR)):
            kept[j] = record[j]
        for c in ti.static(range(channels)):
            kept[COLOR + c] = params[g, GEOMETRY + c]
        records[slot] = kept
        width, height, tiles_x = pictures[p, WIDTH], pictures[p, HEIGHT], pictures[p, TILES_X]
        rect = bins.rect_of(record, half_x, half_y, grid, width, height, tile_w, tile_h)
        rects[slot, 0] = pictures[p, TILE] + rect[1] * tiles_x + rect[0]
        rects[slot, 1], rects[slot, 2] = rect[2], rect[3]
        rects[slot, 3] = reached_of(record, half_x, half_y, rect, width, height, grid)
        for n in range(rect[2] * rect[3]):
            if reaches(rects, slot, n):
                ti.atomic_add(counts[tile_of(rects, slot, n, tiles_x)], 1)

    @ti.func
    def project(params: array, records: array, rects: array, counts: array, pictures: array, g,
                grid: ti.template()):  # fmt: skip
        """Write record and tiles of a Gaussian, of each of its slots, and count its entries."""
        shaped = [params[g, j] for j in ti.static(range(GEOMETRY))]
        record, half_x, half_y = bins.record_of(shaped, grid)
        p = picture_of(pictures, GAUSSIAN, g)
        if ti.static(variant.tile):
            for c in range(variant.copies):
                slot, placed = g * variant.copies + c, slots.moved(record, pictures, p, c)
                project_slot(params, records, rects, counts, pictures, p, g, slot, placed, half_x,
                             half_y, grid)  # fmt: skip
        else:
            project_slot(params, records, rects, counts, pictures, p, g, g, record, half_x, half_y,
                         grid)  # fmt: skip

    @ti.func
    def run_of(tiles, runs: array):
        """How many tiles a run has."""
        return (tiles + runs.shape[0] - 1) // runs.shape[0]

    @ti.func
    def plus(numbers: array, total, first, after):
        """A sum and some numbers after it, or as many entries as there may be.

        Eight numbers are on their way at once: one after the other, each would be waited for.
        """
        at = first
        while at < after and total < MAX_ENTRIES:
            for i in ti.static(range(8)):
                number = ti.min(numbers[ti.min(at + i, after - 1)], MAX_ENTRIES)
                total += ti.select(at + i < after, number, 0)
            at += 8
        return ti.min(total, MAX_ENTRIES)

    @ti.func
    def sum_run(counts: array, runs: array, b, tiles):
        """Write how many entries run b has, or as many as there may be."""
        length = run_of(tiles, runs)
        runs[b] = plus(counts, 0, b * length, ti.min((b + 1) * length, tiles))

    @ti.func
    def begin(counts: array, starts: array, runs: array, required: array, t, tiles):
        """Write where the list of tile t begins and, for the last tile, where all end."""
        length = run_of(tiles, runs)
        b = t // length
        total = plus(counts, plus(runs, 0, 0, b), b * length, t)
        starts[t] = total
        if t == tiles - 1:
            total = plus(counts, total, t, tiles)
            starts[tiles] = total
            required[0] = total

    @ti.func
    def fits(required: array, entries: array):
        """Whether the capacity of the lists suffices; where not, nothing may touch them."""
        return required[0] <= entries.shape[0]

    @ti.func
    def fill(rects: array, counts: array, starts: array, required: array, entries: array,
             rows: array, breadth, pictures: array, g):  # fmt: skip
        """Take a place for each entry of slot g; give back what was counted."""
        room, tiles_x = fits(required, entries), tiles_across(pictures, g)
        for n in range(rects[g, 1] * rects[g, 2]):
            if reaches(rects, g, n):
                t = tile_of(rects, g, n, tiles_x)
                place = starts[t] + ti.atomic_sub(counts[t], 1) - 1
                if room:
                    rows[place * breadth] = ti.cast(g, bits)

    @ti.func
    def unmark(rows: array, breadth, e):
        """Empty the mask of an entry, if it has one."""
        if breadth > words:
            for word in ti.static(range(words)):
                rows[e * breadth + 1 + word] = ti.cast(0, bits)

    @ti.func
    def sort(starts: array, required: array, entries: array, rows: array, breadth, s):
        """Put the entries of thread s of all tiles' threads where they belong."""
        if fits(required, entries):
            t = s // pixels
            first, after = starts[t], starts[t + 1]
            e = first + s % pixels
            while e < after:
                g, place = rows[e * breadth], first
                for other in range(first, after):
                    place += ti.cast(rows[other * breadth] < g, ti.i32)
                entries[place] = ti.cast(g, ti.i32)
                unmark(rows, breadth, e)
                e += pixels

    @ti.func
    def clear(starts: array, rows: array, breadth, s):
        """Empty the masks of the entries of thread s of all tiles' threads."""
        t = s // pixels
        e = starts[t] + s % pixels
        while e < starts[t + 1]:
            unmark(rows, breadth, e)
            e += pixels

    @ti.func
    def entry_of(starts: array, entries: array, t, g):
        """The entry of slot g in the list of tile t, by bisection."""
        low, high = starts[t], starts[t + 1] - 1
        while low < high:
            middle = (low + high) // 2
            if entries[middle] < g:
                low = middle + 1
            else:
                high = middle
        return low

    return SimpleNamespace(
        project=project, sum_run=sum_run, begin=begin, fits=fits, fill=fill, sort=sort,
        reaches=reaches, tiles_across=tiles_across, tile_of=tile_of, entry_of=entry_of,
        clear=clear, words=words, records=record_row, bits=bits, middle=slots.middle,
    )  # fmt: skip
