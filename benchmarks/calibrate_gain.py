"""Measure what a fit is still to gain, by which searches steer: GAIN of pipelines/aims.py.

    python benchmarks/calibrate_gain.py --data FOLDER

Pictures are fitted from too few Gaussians to many, for few steps and many. A fit gains, after a
share of its steps, so many dB until its end: that is related to `pipelines.aims.signs` by least
squares. FOLDER holds photographs that no table measures; a few of them are taken, evenly spread.
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
from pipelines.aims import GAIN, signs
from taichi2dgs import FitOptions
from taichi2dgs.fitting.respawn import MOMENTS, UNTIL
from taichi2dgs.storage import files

PIXELS_EACH = (100, 40, 16, 8, 4)  # of a Gaussian
PSNRS = (25.0, 55.0)  # dB, between which fits end that count


@measure.script
def main() -> None:
    options = parse()
    every = measure.find_pictures(options.data, None)
    paths = every[:: max(1, len(every) // options.images)][: options.images]
    taichi2dgs.init(options.backend)
    rows = [row for path in tqdm(paths, unit="picture") for row in measured(path, options)]
    print(report(np.array(rows)))


def measured(path: Path, options: argparse.Namespace) -> list[list[float]]:
    """Return share of the steps, what is still to gain and its signs, of all fits of a picture.

    A report is made at every moment of respawning, before anything moves.
    """
    image = measure.centre_crop(files.read_image(path), options.crop)
    rows = []
    for each in PIXELS_EACH:
        start = pipelines.initialize(image, max(1, image[..., 0].numel() // each))
        for steps in options.steps:
            every = FitOptions(report_every=max(1, round(steps * UNTIL / MOMENTS)))
            history = taichi2dgs.fit(image, start, steps=steps, options=every).history
            seen = {round(report.step / steps, 2): report.psnr for report in history}
            last = history[-1].psnr
            for share in GAIN:
                if PSNRS[0] < last < PSNRS[1]:
                    now, before = seen[share], seen[round(share - UNTIL / MOMENTS, 2)]
                    rows.append([share, last - now, *signs(now, now - before, steps, each)])
    return rows


def report(rows: np.ndarray) -> str:
    """Return the constants of each share, and how far off they are. [N, 2 + signs]"""
    lines, found = [["share", "mean gain", "off"]], []
    for share in GAIN:
        _, gained, *terms = rows[rows[:, 0] == share].T
        of_fits = np.stack(terms, 1)
        solved = np.linalg.lstsq(of_fits, gained, rcond=None)[0]
        off = math.sqrt(np.square(gained - of_fits @ solved).mean())
        found.append(f"    {share}: ({', '.join(f'{number:.3f}' for number in solved)}),")
        lines.append([f"{share:g}", f"{gained.mean():.2f}", f"{off:.2f}"])
    return table.pipes(lines) + "\n\nGAIN = {\n" + "\n".join(found) + "\n}"


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
