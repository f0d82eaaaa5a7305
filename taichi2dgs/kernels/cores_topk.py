"""The K-th smallest squared distance of each lane, on cores: sorting networks, unrolled.

Distances come in groups of 8, which a network sorts, lane by lane. The 8 largest of the K smallest
so far are in rising order, and are compared, one by one, with the group in falling order: the
smaller of each pair stays. These 8 rise and then fall, so that a short network sorts them.

An example with K = 8: of 1 3 5 7 9 11 13 15, and the group 2 4 6 8 10 12 14 16 in falling order,
1 3 5 7 8 6 4 2 stay, which are the 8 smallest. With K = 10 all this is 19 exchanges for the group,
8 minima, 12 exchanges for the 8, and 12 to merge them with the first 2.

Networks serve K from 8 to 16. Few callers ask for another K, and its network would compile for
long: `by_insertion` takes memory and a loop instead.
"""

from types import SimpleNamespace

import taichi as ti

from taichi2dgs.kernels.binning import EMPTY, array

GROUP = 8  # distances that enter at once

SORT = [
    (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7), (0, 1), (2, 3), (4, 5), (6, 7),
    (2, 4), (3, 5), (1, 4), (3, 6), (1, 2), (3, 4), (5, 6),
]  # fmt: skip
BITONIC = [(i, i + half) for half in (4, 2, 1) for i in range(GROUP) if not i & half]


def merging(first: list[int], second: list[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Return Batcher's network that merges two runs, each in order, and the order of its results.

    Args:
        first, second: the places of each run, from its smallest.
    """
    if not first or not second:
        return [], first + second
    if len(first) == len(second) == 1:
        return [(first[0], second[0])], first + second
    pairs, even = merging(first[::2], second[::2])
    more, odd = merging(first[1::2], second[1::2])
    between = [(b, a) for a, b in zip(even[1:], odd, strict=False)]
    order = even[:1]
    for at in range(max(len(even) - 1, len(odd))):
        order += odd[at : at + 1] + even[at + 1 : at + 2]
    return pairs + more + between, order


def make(top_k: int, lanes: int, real) -> SimpleNamespace:
    """Return `take`, for where `network` is true, `by_insertion`, and its rows of a worker."""
    reals = ti.types.vector(lanes, real)
    network = GROUP <= top_k <= 2 * GROUP
    before = max(top_k - GROUP, 0)
    merge, order = merging(list(range(before)), list(range(before, before + GROUP)))

    @ti.func
    def exchange(nearest: ti.template(), pairs: ti.template(), offset: ti.template()):
        for a, b in ti.static(pairs):
            low, high = nearest[offset + a], nearest[offset + b]
            nearer = low < high
            nearest[offset + a] = ti.select(nearer, low, high)
            nearest[offset + b] = ti.select(nearer, high, low)

    @ti.func
    def take(nearest: ti.template(), new: ti.template()):
        """Take a group of new distances into the K nearest, from the smallest."""
        exchange(new, SORT, 0)
        for j in ti.static(range(GROUP)):
            old, far = nearest[before + j], new[GROUP - 1 - j]
            nearest[before + j] = ti.select(old < far, old, far)
        exchange(nearest, BITONIC, before)
        exchange(nearest, merge, 0)
        ordered = [nearest[j] for j in ti.static(order)]
        for j in ti.static(range(top_k)):
            nearest[j] = ordered[j]

    @ti.func
    def by_insertion(slots: array, base, values: array, at, found):
        """Return the K-th smallest of `found` distances, which stand in values from row `at`."""
        for k in range(base, base + top_k):
            slots[k, 0] = reals(EMPTY)
        for n in range(at, at + found):
            q = values[n, 0]
            for k in range(base, base + top_k):
                nearest = slots[k, 0]
                nearer = q < nearest
                slots[k, 0] = ti.select(nearer, q, nearest)
                q = ti.select(nearer, nearest, q)
        return slots[base + top_k - 1, 0]

    return SimpleNamespace(
        take=take, by_insertion=by_insertion, network=network, rows=1 if network else top_k
    )
