"""Measure what a fit is still to gain, by which searches steer: GAIN of pipelines/search.py.

    python benchmarks/calibrate_gain.py --data FOLDER

Pictures are fitted from too few Gaussians to many, for few steps and many. A fit gains, after a
share of its steps, so many dB until its end: that is related to its PSNR then and to the logarithm
of its steps by least squares. FOLDER holds photographs that no table measures; a few of them are
taken, evenly spread.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from common import measure, table
from tqdm import tqdm

import pipelines
import taichi2dgs
from pipelines.search import AUTO_PSNR, GAIN_STEPS
from taichi2dgs import FitOptions
from taichi2dgs.fitting.respawn import MOMENTS, UNTIL
from taichi2dgs.storage import files

PIXELS_EACH = (100, 40, 16, 8, 4)  # of a Gaussian


@measure.script
def main() -> None:
    options = parse()
    every = measure.find_pictures(options.data, None)
    paths = every[:: max(1, len(every) // options.images)][: options.images]
    taichi2dgs.init(options.backend)
    rows = [row for path in tqdm(paths, unit="picture") for row in measured(path, options)]
    print(report(np.array(rows)))


def measured(path: Path, options: argparse.Namespace) -> list[tuple[float, ...]]:
    """Return share of the steps, PSNR then, steps, and PSNR at the end, of all fits of a picture.

    A report is made at every moment of respawning, before anything moves.
    """
    image = measure.centre_crop(files.read_image(path), options.crop)
    rows = []
    for each in PIXELS_EACH:
        start = pipelines.initialize(image, max(1, image[..., 0].numel() // each))
        for steps in options.steps:
            every = FitOptions(report_every=max(1, round(steps * UNTIL / MOMENTS)))
            history = taichi2dgs.fit(image, start, steps=steps, options=every).history
            for n in range(1, MOMENTS + 1):
                share = n * UNTIL / MOMENTS
                seen = min(history, key=lambda one, at=share * steps: abs(one.step - at))
                rows.append((share, seen.psnr, steps, history[-1].psnr))
    return rows


def report(rows: np.ndarray) -> str:
    """Return the constants of each share, and how far off they are. [N, 4]"""
    lines = [
        ["share", "gain at 200 steps and 38 dB", "for a dB more", "for e times the steps", "off"]
    ]
    found = {}
    for share in np.unique(rows[:, 0]):
        _, psnr, steps, last = rows[rows[:, 0] == share].T
        terms = np.stack([np.ones_like(psnr), psnr - AUTO_PSNR, np.log(steps / GAIN_STEPS)], 1)
        solved = np.linalg.lstsq(terms, last - psnr, rcond=None)[0]
        off = math.sqrt(np.square(last - psnr - terms @ solved).mean())
        found[round(float(share), 3)] = tuple(round(float(number), 3) for number in solved)
        lines.append([f"{share:g}", *(f"{number:.3f}" for number in solved), f"{off:.2f}"])
    return f"{table.pipes(lines)}\n\nGAIN = {found}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--images", type=int, default=12, help="how many (12)")
    parser.add_argument("--crop", type=int, default=256, help="side of the centre crop (256)")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[30, 60, 200, 600], help="(30 60 200 600)"
    )
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
