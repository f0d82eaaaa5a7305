"""Several pictures in one launch: whose a Gaussian is, and whose a tile.

A render has one picture, a batch of fits has many. Their Gaussians follow each other, picture by
picture, and so do their tiles. Coordinates count from the picture's own corner, so that its
arithmetic does not depend on the others, and no list of a tile has Gaussians of two pictures.

An example of two pictures of 20x30 and 16x16 pixels, with 40 and 7 Gaussians and tiles of 16x16:

    GAUSSIAN  TILE  ROW  WIDTH  HEIGHT  TILES_X  PERIOD_X  PERIOD_Y
           0     0    0     30      20        2        30        20
          40     4   20     16      16        1        16        16
          47     5   36      0       0        0         0         0

Arrays:
    pictures [P + 1, 8]: of each picture the numbers of its first Gaussian, tile and row of pixels,
        where an array has those of all pictures, one below the other; its width and height in
        pixels; how many tiles are side by side; and after how much it comes again where it tiles,
        see `copies.py`. The last row is where all end.
"""

import taichi as ti

from taichi2dgs.kernels.binning import array

GAUSSIAN, TILE, ROW, WIDTH, HEIGHT, TILES_X, PERIOD_X, PERIOD_Y = range(8)
COLUMNS = 8


@ti.func
def picture_of(pictures: array, column: ti.template(), number):
    """The picture that has a Gaussian, tile or row of this number, by bisection."""
    low, high = 0, pictures.shape[0] - 2
    while low < high:
        middle = (low + high + 1) // 2
        if pictures[middle, column] <= number:
            low = middle
        else:
            high = middle - 1
    return low
