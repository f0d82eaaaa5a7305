"""The selection of one step, kept for the steps after it, on cores.

Selecting takes most of a step: lists, culling, squared distances and networks. What it finds is
which entries of its tile a pixel blends, and while Gaussians move little, that hardly changes. So a
step that selects can `remember` its choice, and each of the next steps only weighs what was chosen
by the Gaussians as they are then, whether or not these still are the K nearest.

    kept [T * S]: for each tile, block by block in the order of the walk, how many words follow, and
        a word for each entry that some pixel of the block blends: the entry's number in the tile's
        list, times 2^L, plus a bit for each of the L pixels that blend it.

A pixel blends at most K entries, so that a block has at most K L words, and S numbers of a tile are
enough whatever is selected. About a quarter of them are in use, from the first one on.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import UX, UY, VX, VY, X, Y, array
from taichi2dgs.kernels.cores_cull import BLOCKS, LANES, cells_of
from taichi2dgs.kernels.cores_lists import COLOR
from taichi2dgs.kernels.variant import Variant

MAX_DEPTH = 1 << (30 - LANES)  # entries of a tile that a word has room for
# A squared distance up to which `exp_half` is right. Beyond 21.2 a weight adds nothing to a sum
# that holds one of the cutoff's.
FARTHEST = 160.0


def words_of(blocks: int, top_k: int) -> int:
    """Return S, the numbers of one tile; the last is written to, and never read."""
    return blocks * (LANES * top_k + 1) + 1


def make(variant: Variant, weights: SimpleNamespace) -> SimpleNamespace:
    """Return the functions that remember a selection and weigh by it."""
    real, channels, top_k = variant.real, variant.channels, variant.top_k
    reals = ti.types.vector(LANES, real)

    @ti.func
    def words(view):
        """S, see `words_of`."""
        across, down = cells_of(view)
        return across * down * BLOCKS * (LANES * top_k + 1) + 1

    @ti.func
    def bits_of(lattice: array):
        """The bit of each lane."""
        return 1 << ti.cast(lattice[0, 2], ti.i32)

    @ti.func
    def remember(kept: array, keeps, place, lists: array, first, found, base, values: array, at,
                 lattice: array):  # fmt: skip
        """Write the words of a block from its weights; return where the next block's begin."""
        bits = bits_of(lattice)
        count = 0
        if keeps:
            for n in range(found):
                blend = ti.select(values[at + n, 0] > 0, bits, 0).sum()
                kept[place + 1 + count] = ((lists[first + n] - base) << LANES) + blend
                count += ti.cast(blend > 0, ti.i32)
            kept[place] = count
        return place + 1 + count

    @ti.func
    def bring(records: array, entries: array, begin, end, own: array, base, lists: array, rows):
        """Copy what a kept selection needs of a tile's records, and list their rows in order."""
        for n in range(end - begin):
            g = entries[begin + n]
            record = [records[g, j] for j in ti.static((X, Y, UX, UY, VX, VY))]
            color = [records[g, COLOR + c] for c in ti.static(range(channels))]
            for j in ti.static(range(6)):
                own[base + n][j] = record[j]
            for c in ti.static(range(channels)):
                own[base + n][COLOR + c] = color[c]
            lists[rows + n] = base + n

    @ti.func
    def weigh(kept: array, place, own: array, base, lists: array, first, x, y, values: array, at,
              lattice: array, out: ti.template()):  # fmt: skip
        """List what a block blends, write its weights, and add up weights and colours."""
        bits = bits_of(lattice)
        for n in range(kept[place]):
            word = kept[place + 1 + n]
            e = base + (word >> LANES)
            lists[first + n] = e
            q = weights.distance(own, e, x, y)
            q = ti.select(q < real(FARTHEST), q, reals(FARTHEST))
            w = ti.select((word & bits) != 0, weights.exp_half(q), reals(0))
            values[at + n, 0] = ti.select(w >= 0, w, values[at + n, 0])
            weights.add_up(own, e, w, out)

    return SimpleNamespace(words=words, remember=remember, bring=bring, weigh=weigh)
