"""Which entries of a tile reach which of its blocks of pixels, on cores.

A tile is cut into cells of 16x16 pixels, a cell into 8 bands of 2 rows, and a band into 4 blocks of
4x2 pixels: block 4 b + c of a cell is the c-th of band b. Between the first and the last row of a
band the support of an entry extends from `left` to `right`, which a line of arithmetic gives
exactly, for the 8 bands of a cell at once; and the blocks between them are bits of one number. So
entry by entry, in index order, only those blocks are visited that get the entry.

All extents are padded, because they only narrow the search: squared distances decide what a pixel
blends.

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
from taichi2dgs.kernels.variant import Variant

BLOCK_W, BLOCK_H = 4, 2  # pixels: one AVX2 register of floats, half an AVX-512 one
LANES = BLOCK_W * BLOCK_H
CELL = 16  # pixels: as many bands as LANES
ACROSS, BLOCKS = CELL // BLOCK_W, CELL * CELL // LANES  # blocks of a band, and of a cell

PAD_SQUARE = 1.0e-5  # relative, on a difference of squares: covers the rounding of both
PAD_PLACE = 1.0e-6  # relative, on coordinates: covers the rounding of a sample point
FAR_OFF = 1.0e18  # pixels: its square is a squared distance that float32 holds


@ti.func
def stride_of(depth):
    """Numbers from one block's list to the next: a count, up to `depth` entries, and a group."""
    return depth + 1 + GROUP


@ti.func
def cells_of(view):
    """Columns and rows of cells in a tile."""
    return (view.tile_w + CELL - 1) // CELL, (view.tile_h + CELL - 1) // CELL


def make(variant: Variant) -> SimpleNamespace:
    """Return `cull`."""
    real, channels = variant.real, variant.channels
    reals = ti.types.vector(LANES, real)

    @ti.func
    def cull(
        records: array,
        entries: array,
        begin,
        end,
        own: array,
        base,
        depth,
        lists: array,
        first_list,
        lattice: array,
        x,
        y,
        view,
    ):
        """List the entries of a tile for each of its blocks.

        Args:
            own: records of the worker's tile, from row `base`; the last of its `depth` rows
                becomes one that is far from everything.
            lists: of each block, from number `first_list`, how many rows of `own` reach it, and
                which; then the last one, so that whole groups can be read. After the blocks',
                all rows of the tile, in order.
            x, y: the tile's first sample point.
        """
        stride = stride_of(depth)
        across, down = cells_of(view)
        blocks = across * down * BLOCKS
        for b in range(blocks):
            lists[first_list + b * stride] = 0
        outlier = base + depth - 1
        for j in ti.static(range(RECORD)):
            own[outlier][j] = real(1.0 if j == UX else 0.0)
        own[outlier][X] = real(FAR_OFF)
        for c in ti.static(range(channels)):
            own[outlier][COLOR + c] = real(0.0)
        rows = first_list + blocks * stride
        for n in range(end - begin):
            g = entries[begin + n]
            record = [records[g, j] for j in ti.static(range(COLOR + channels))]
            for j in ti.static(range(COLOR + channels)):
                own[base + n][j] = record[j]
            lists[rows + n] = base + n
            for cell in range(across * down):
                down_here = cell // across
                left = x + ti.cast((cell - down_here * across) * CELL, real) * view.pitch_x
                top = y + ti.cast(down_here * CELL, real) * view.pitch_y
                bits = reached(records, g, lattice, left, top, view)
                while bits != 0:
                    bit = 31 - ti.math.clz(bits)
                    bits ^= 1 << bit
                    at = first_list + (cell * BLOCKS + bit) * stride
                    count = lists[at] + 1
                    lists[at + count] = base + n
                    lists[at] = count
        for b in range(blocks):
            at = first_list + b * stride
            at += 1 + lists[at]
            for n in ti.static(range(GROUP - 1)):
                lists[at + n] = outlier

    @ti.func
    def reached(records: array, g, lattice: array, x, y, view):
        """The blocks of a cell, a bit for each, that the support of Gaussian g reaches.

        x, y is the cell's first sample point.
        """
        step_x, step_y = BLOCK_W * view.pitch_x, BLOCK_H * view.pitch_y
        width, height = (BLOCK_W - 1) * view.pitch_x, (BLOCK_H - 1) * view.pitch_y
        shear, reach, fall = records[g, SHEAR], records[g, REACH], records[g, FALL]
        tilt, middle = records[g, TILT], records[g, X] - x
        reach *= real(1.0 + PAD_SQUARE)
        pad = real(PAD_PIXELS) + real(PAD_PLACE) * (ti.abs(x) + ti.abs(y))
        half = records[g, HALF_Y] * real(1.0 + PAD_RELATIVE) + pad
        top = lattice[0, 2] * step_y - (records[g, Y] - y)
        bottom = top + height
        on_right, on_left = between(reals(-tilt), top, bottom), between(reals(tilt), top, bottom)
        right = middle - shear * on_right + extent(on_right, shear, reach, fall, pad)
        left = middle - shear * on_left - extent(on_left, shear, reach, fall, pad)
        first = between(ti.ceil((left - width) / step_x), reals(0), reals(ACROSS))
        after = between(ti.floor(right / step_x) + 1, reals(0), reals(ACROSS))
        here = (first < after) & (top <= half) & (bottom >= -half)
        spans = (1 << ti.cast(after, ti.i32)) - (1 << ti.cast(first, ti.i32))
        bits = 0
        for band in ti.static(range(LANES)):
            bits |= ti.select(here[band], spans[band], 0) << (ACROSS * band)
        return bits

    @ti.func
    def between(value, low, high):
        """The value, or the end of the range beyond which it lies."""
        value = ti.select(value < low, low, value)
        return ti.select(value < high, value, high)

    @ti.func
    def extent(dy, shear, reach, fall, pad):
        """Half the support's width at heights dy from its centre, padded."""
        square = reach - fall * dy * dy
        half = ti.sqrt(ti.select(square > 0, square, reals(0)))
        return half + pad + real(PAD_RELATIVE) * (half + ti.abs(dy) + ti.abs(shear * dy))

    return SimpleNamespace(cull=cull)
