"""Which entries of a tile reach which of its blocks of pixels, on cores.

A tile is cut into bands of BLOCK_H rows, and each band into blocks of BLOCK_W columns. Entry by
entry, in index order, and for each band that its support reaches: between the first and the last
row of the band the support extends from `left` to `right`, which a line of arithmetic gives
exactly, and every block of the band between them gets the entry. Padded, as all of it only narrows
the search: what a pixel blends is decided by squared distances.

The record of each entry is copied on the way, so that the worker has those of its tile at hand.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import (
    FALL,
    PAD_PIXELS,
    PAD_RELATIVE,
    REACH,
    RECORD,
    SHEAR,
    UX,
    X,
    Y,
    array,
)
from taichi2dgs.kernels.cores_lists import COLOR, HALF_Y, TILT
from taichi2dgs.kernels.cores_topk import GROUP

BLOCK_W, BLOCK_H = 4, 2  # pixels: one AVX2 register of floats, half an AVX-512 one
PAD_SQUARE = 1.0e-5  # relative, on a difference of squares: covers the rounding of both
FAR_OFF = 1.0e18  # pixels: its square is a squared distance that float32 holds
PAD_PLACE = 1.0e-6  # relative, on coordinates: covers the rounding of a sample point


@ti.func
def stride_of(depth):
    """Numbers from one block's list to the next: a count, up to `depth` entries, and a group."""
    return depth + 1 + GROUP


def make(channels: int, real) -> SimpleNamespace:
    """Return `cull` for one number of channels and float type."""

    @ti.func
    def cull(records: array, entries: array, begin, end, own: array, base, depth, lists: array,
             first_list, x, y, view):  # fmt: skip
        """List the entries of a tile for each of its blocks.

        Args:
            own: records of the worker's tile, from row `base`; the last of its `depth` rows
                becomes one that is far from everything.
            lists: of each block, from number `first_list`, how many rows of `own` reach it, and
                which; then the last one, so that whole groups can be read.
            x, y: the tile's first sample point.
        """
        across = (view.tile_w + BLOCK_W - 1) // BLOCK_W
        down = (view.tile_h + BLOCK_H - 1) // BLOCK_H
        stride = stride_of(depth)
        for b in range(across * down):
            lists[first_list + b * stride] = 0
        outlier = base + depth - 1
        for j in ti.static(range(RECORD)):
            own[outlier][j] = real(1.0 if j == UX else 0.0)
        own[outlier][X] = real(FAR_OFF)
        for c in ti.static(range(channels)):
            own[outlier][COLOR + c] = real(0.0)
        step_x, step_y = BLOCK_W * view.pitch_x, BLOCK_H * view.pitch_y
        wide, high = (BLOCK_W - 1) * view.pitch_x, (BLOCK_H - 1) * view.pitch_y
        pad = real(PAD_PIXELS) + real(PAD_PLACE) * (ti.abs(x) + ti.abs(y))
        for n in range(end - begin):
            g = entries[begin + n]
            for j in ti.static(range(COLOR + channels)):
                own[base + n][j] = records[g, j]
            at_x, at_y = records[g, X] - x, records[g, Y] - y
            shear, reach, fall = records[g, SHEAR], records[g, REACH], records[g, FALL]
            tilt = records[g, TILT]
            half = records[g, HALF_Y] * real(1.0 + PAD_RELATIVE) + pad
            limit = ti.cast(down, real)
            first = ti.math.clamp(ti.ceil((at_y - half - high) / step_y), real(0.0), limit)
            last = ti.math.clamp(ti.floor((at_y + half) / step_y), real(-1.0), limit - 1)
            reach *= real(1.0 + PAD_SQUARE)
            for band in range(ti.cast(first, ti.i32), ti.cast(last, ti.i32) + 1):
                top = ti.cast(band, real) * step_y - at_y
                bottom = top + high
                on_right = nearest(-tilt, top, bottom)
                on_left = nearest(tilt, top, bottom)
                right = extent(on_right, shear, reach, fall, pad) - shear * on_right + at_x
                left = at_x - shear * on_left - extent(on_left, shear, reach, fall, pad)
                at = first_list + band * across * stride
                start = real(0.0)
                for _ in range(across):  # without a branch, which would be missed
                    count = lists[at]
                    lists[at + 1 + count] = base + n
                    lists[at] = count + ti.cast((left <= start + wide) & (right >= start), ti.i32)
                    start += step_x
                    at += stride
        for b in range(across * down):
            at = first_list + b * stride
            at += 1 + lists[at]
            for n in ti.static(range(GROUP - 1)):
                lists[at + n] = outlier

    @ti.func
    def nearest(value, low, high):
        value = ti.select(value < low, low, value)
        return ti.select(value < high, value, high)

    @ti.func
    def extent(dy, shear, reach, fall, pad):
        """Half the support's width at a height dy from its centre, padded."""
        square = reach - fall * dy * dy
        half = ti.sqrt(ti.select(square > 0, square, real(0.0)))
        return half + pad + real(PAD_RELATIVE) * (half + ti.abs(dy) + ti.abs(shear * dy))

    return SimpleNamespace(cull=cull)
