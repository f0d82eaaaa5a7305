"""Move an object in a picture: the astronaut's badge to her other side, smaller and turned.

    python examples/move_object.py [FOLDER]

Editing is a matter of choosing Gaussians. The badge leaves a hole, which cloth from elsewhere
fills. At its new place the cloth is removed, since Gaussians that share a place would blend.
"""

import math
import sys
from pathlib import Path

import torch

import taichi2dgs as t2

BADGE, CLOTH, GOAL = (171, 384), (92, 440), (318, 300)  # centres: x, y in pixels
RADIUS = 42
SCALE, TURN = 0.55, math.radians(-20)


def disc(size: tuple[int, int], centre: tuple[int, int], radius: float) -> torch.Tensor:
    """A mask of the pixels around a centre. [H, W]"""
    y, x = torch.meshgrid(*(torch.arange(extent) + 0.5 for extent in size), indexing="ij")
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2


def placed(source: tuple[int, int], target: tuple[int, int], scale: float, turn: float) -> list:
    """The affine map that scales and turns about one point and takes it to another. [2, 3]"""
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    x, y = source
    return [[a, -b, target[0] - a * x + b * y], [b, a, target[1] - b * x - a * y]]


def main(folder: Path, k: int = 30_000, steps: int = 100) -> None:
    g = t2.encode("sample:astronaut", k=k, steps=steps)
    hole, goal = disc(g.size, BADGE, RADIUS), disc(g.size, GOAL, SCALE * RADIUS)
    badge = g.select(hole).transform(placed(BADGE, GOAL, SCALE, TURN))
    cloth = g.select(disc(g.size, CLOTH, RADIUS)).transform(placed(CLOTH, BADGE, 1, 0))
    moved = g.select(~(hole | goal)).concat(cloth, badge)
    moved.save(folder / "moved.t2d")
    t2.write_image(folder / "before.png", g.render())
    t2.write_image(folder / "moved.png", moved.render())
    print(f"{folder / 'moved.png'}: {len(badge)} of {len(moved)} Gaussians are the badge")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."), *map(int, sys.argv[2:]))
