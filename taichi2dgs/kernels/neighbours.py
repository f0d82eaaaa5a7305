"""Distances to the nearest neighbours of every point, by a search over rings of grid cells."""

import functools

import taichi as ti


@functools.cache
def make(count: int):
    """Return the kernel that finds `count` neighbours."""

    @ti.kernel
    def search(
        xy: ti.types.ndarray(ti.f32, 2),
        cells: ti.types.ndarray(ti.i32, 1),
        starts: ti.types.ndarray(ti.i32, 1),
        distances: ti.types.ndarray(ti.f32, 2),
        columns: ti.i32,
        rows: ti.i32,
        side: ti.f32,
    ):
        """Write distances [N, count], ascending, infinite where there are fewer other points.

        xy [N, 2] is sorted by cell, cells [N] has each point's cell, and starts [cells + 1] where
        each cell's points begin. A ring that ends farther away than the last neighbour found is
        the last one searched.
        """
        for i in range(xy.shape[0]):
            best = ti.Vector([ti.math.inf] * count)
            cx, cy = cells[i] % columns, cells[i] // columns
            ring = 0
            while ring < ti.max(columns, rows):
                reached = ti.max(ring - 1, 0) * side
                if best[count - 1] <= reached * reached:
                    break
                for y in range(ti.max(cy - ring, 0), ti.min(cy + ring + 1, rows)):
                    inner = ti.abs(y - cy) < ring  # only the two ends of this row are new
                    x = cx - ring
                    while x <= cx + ring:
                        if x >= 0 and x < columns:
                            cell = y * columns + x
                            for j in range(starts[cell], starts[cell + 1]):
                                if j != i:
                                    dx, dy = xy[j, 0] - xy[i, 0], xy[j, 1] - xy[i, 1]
                                    d = dx * dx + dy * dy
                                    for k in ti.static(range(count)):
                                        kept = best[k]
                                        best[k] = ti.min(d, kept)
                                        d = ti.max(d, kept)
                        x += ti.max(2 * ring, 1) if inner else 1
                ring += 1
            for k in ti.static(range(count)):
                distances[i, k] = ti.sqrt(best[k])

    return search
