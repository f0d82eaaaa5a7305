"""Tile lists on cores.

Gaussians are cut into as many parts as there are workers, each a run of indices. The worker of a
part projects its Gaussians and counts, in a row of `cursors` of its own, how many
entries each tile gets from them. One thread then turns counts into places: of each tile's list,
the entries of part 0 come first, then those of part 1. Each worker writes the entries of its part
to those places, in index order, and so no list is ever sorted and no two workers share a number.
`places` keeps, part by part, where each entry of a Gaussian went: there its gradients come from.

A loop of `CHUNK` iterations is the least that Taichi gives to a thread, so that a worker is one
iteration in CHUNK and the others do nothing.

Arrays beside those of `binning.py` and `pictures.py` (S slots, see `copies.py`, W workers, C
channels):
    records [S, 11 + C]: those of `binning.py`, half the support's height, TILT, and the colour;
    cursors [W, T]; starts [T + 2]: where each list begins, the end, and the longest list;
    bases [W]: where each part begins in places; entries [E], places [E].
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels import binning, copies
from taichi2dgs.kernels.binning import FALL, GEOMETRY, MAX_ENTRIES, RECORD, SHEAR, array
from taichi2dgs.kernels.pictures import GAUSSIAN, HEIGHT, TILE, TILES_X, WIDTH
from taichi2dgs.kernels.variant import Variant

CHUNK = 512
# Height above the centre at which the support reaches farthest to the left, and below it to the
# right.
HALF_Y, TILT = RECORD, RECORD + 1
COLOR = RECORD + 2


def make(variant: Variant) -> SimpleNamespace:
    """Return the functions that make tile lists, for one worker's part or for all."""
    channels = variant.channels
    bins, slots = binning.make(variant), copies.make(variant)

    @ti.func
    def part_of(n, part, parts):
        """First and one-past-last of n that belong to a part."""
        each, more = n // parts, n % parts
        begin = part * each + ti.min(part, more)
        return begin, begin + each + ti.cast(part < more, ti.i32)

    @ti.func
    def within(begin, end, pictures: array, p):
        """First and one-past-last of the Gaussians of picture p that a part has."""
        return ti.max(begin, pictures[p, GAUSSIAN]), ti.min(end, pictures[p + 1, GAUSSIAN])

    @ti.func
    def write(params: array, records: array, g, slot, record, half_x, half_y):
        """Write a record of Gaussian g."""
        for j in ti.static(range(RECORD)):
            records[slot, j] = record[j]
        records[slot, HALF_Y] = half_y
        shear = record[SHEAR]
        records[slot, TILT] = shear * half_x / (record[FALL] + shear * shear)
        for c in ti.static(range(channels)):
            records[slot, COLOR + c] = params[g][GEOMETRY + c]

    @ti.func
    def renew(params: array, records: array, g, view):
        """Write the record of Gaussian g; return it, and half the extents of its support."""
        record, half_x, half_y = bins.record_of(params[g], view)
        write(params, records, g, g, record, half_x, half_y)
        return record, half_x, half_y

    @ti.func
    def count_slot(rects: array, cursors: array, part, slot, record, half_x, half_y, width, height,
                   tile, tiles_x, view):  # fmt: skip
        """Write the tile rectangle of a slot, count it for each tile, and return how many."""
        rect = bins.rect_of(record, half_x, half_y, view, width, height, view.tile_w, view.tile_h)
        for j in ti.static(range(4)):
            rects[slot, j] = rect[j]
        for y in range(rect[1], rect[1] + rect[3]):
            first = tile + y * tiles_x + rect[0]
            for t in range(first, first + rect[2]):
                cursors[part, t] = cursors[part, t] + 1
        return rect[2] * rect[3]

    @ti.func
    def count_copies(params: array, records: array, rects: array, cursors: array, pictures: array,
                     p, part, g, view):  # fmt: skip
        """Write record and rectangle of each copy of a Gaussian, and return how many entries."""
        record, half_x, half_y = bins.record_of(params[g], view)
        total = 0
        for c in range(variant.copies):
            slot, placed = g * variant.copies + c, slots.moved(record, pictures, p, c)
            entries = count_slot(
                rects, cursors, part, slot, placed, half_x, half_y, pictures[p, WIDTH],
                pictures[p, HEIGHT], pictures[p, TILE], pictures[p, TILES_X], view,
            )  # fmt: skip
            if entries > 0 or slot == slots.middle(g):
                write(params, records, g, slot, placed, half_x, half_y)
            total = ti.min(total + entries, MAX_ENTRIES)
        return total

    @ti.func
    def project(params: array, records: array, rects: array, cursors: array, bases: array,
                pictures: array, view, part):  # fmt: skip
        """Write records and tile rectangles of a part, and count its entries of each tile."""
        for t in range(view.tiles):
            cursors[part, t] = 0
        begin, end = part_of(params.shape[0], part, bases.shape[0])
        total = 0
        for p in range(pictures.shape[0] - 1):
            width, height = pictures[p, WIDTH], pictures[p, HEIGHT]
            tile, tiles_x = pictures[p, TILE], pictures[p, TILES_X]
            low, high = within(begin, end, pictures, p)
            for g in range(low, high):
                entries = 0
                if ti.static(variant.tile):
                    entries = count_copies(
                        params, records, rects, cursors, pictures, p, part, g, view
                    )
                else:
                    record, half_x, half_y = renew(params, records, g, view)
                    entries = count_slot(
                        rects, cursors, part, g, record, half_x, half_y, width, height, tile,
                        tiles_x, view,
                    )  # fmt: skip
                total = ti.min(total + entries, MAX_ENTRIES)
        bases[part] = total

    @ti.func
    def scan(cursors: array, starts: array, bases: array, view):
        """Turn counts into places: starts of lists, cursors and bases of parts."""
        total, longest = 0, 0
        for t in range(view.tiles):
            starts[t] = total
            at = total
            for part in range(bases.shape[0]):
                count = cursors[part, t]
                cursors[part, t] = at
                at = ti.min(at + count, MAX_ENTRIES)
            longest = ti.max(longest, at - total)
            total = at
        starts[view.tiles], starts[view.tiles + 1] = total, longest
        before = 0
        for part in range(bases.shape[0]):
            count = bases[part]
            bases[part] = before
            before = ti.min(before + count, MAX_ENTRIES)

    @ti.func
    def fits(starts: array, entries: array, view, depth):
        """Whether all lists fit, and the longest one fits a worker: else nothing is touched."""
        return starts[view.tiles] <= entries.shape[0] and starts[view.tiles + 1] < depth

    @ti.func
    def fill(rects: array, cursors: array, bases: array, entries: array, places: array,
             pictures: array, part):  # fmt: skip
        """Write the entries of a part, and where they went."""
        begin, end = part_of(rects.shape[0] // variant.copies, part, bases.shape[0])
        at = bases[part]
        for p in range(pictures.shape[0] - 1):
            tile, tiles_x = pictures[p, TILE], pictures[p, TILES_X]
            low, high = within(begin, end, pictures, p)
            for slot in range(low * variant.copies, high * variant.copies):
                for y in range(rects[slot, 1], rects[slot, 1] + rects[slot, 3]):
                    first = tile + y * tiles_x + rects[slot, 0]
                    for t in range(first, first + rects[slot, 2]):
                        e = cursors[part, t]
                        cursors[part, t] = e + 1
                        entries[e] = slot
                        places[at] = e
                        at += 1

    @ti.func
    def entries_of(rects: array, g):
        """How many entries Gaussian g has."""
        total = 0
        for c in range(variant.copies):
            slot = g * variant.copies + c
            total += rects[slot, 2] * rects[slot, 3]
        return total

    return SimpleNamespace(
        part_of=part_of, renew=renew, project=project, scan=scan, fits=fits, fill=fill,
        entries_of=entries_of, middle=slots.middle,
    )  # fmt: skip
