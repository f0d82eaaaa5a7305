"""Measure the constants by which searches are steered: those of pipelines/aims.py.

    python benchmarks/calibrate_gain.py --data FOLDER

Pictures are fitted from too few Gaussians to many, for few steps and many. What a fit gains after a
share of its steps is related to `pipelines.aims.signs` by least squares; what it gains over a fit
of PROBE of its steps, to `probe_signs`; and what it gains by more Gaussians, to
their density. FOLDER holds photographs that no table measures; a few of them are taken, evenly
spread.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from common import measure, table
from tqdm import tqdm

import pipelines
import taichi2dgs
from pipelines.aims import GAIN, PROBE, STEPS, probe_signs, signs
from taichi2dgs import FitOptions
from taichi2dgs.fitting.respawn import MOMENTS, UNTIL
from taichi2dgs.storage import files

PIXELS_EACH = (100, 40, 16, 8, 4)  # of a Gaussian
PSNRS = (25.0, 55.0)  # dB, between which fits end that count


@measure.script
def main() -> None:
    steps = [30, 60, 200, 600]
    options = measure.training_parser(__doc__, images=12, crop=256, steps=steps).parse_args()
    check_steps(options.steps)
    paths = measure.spread_pictures(options.data, options.images)
    taichi2dgs.init(options.backend)
    rows: dict[str, list[list[float]]] = {}
    for path in tqdm(paths, unit="picture"):
        for count in options.steps:
            measured(path, count, options.crop, rows)
    print(report({name: np.array(own) for name, own in rows.items()}))


def check_steps(counts: list[int]) -> None:
    """Raise ValueError where fits of so many steps lack a report, or do not tell what steps do."""
    for count in counts:
        if count < 1 or count * UNTIL % MOMENTS:
            raise ValueError(
                f"--steps {count}: expected a multiple of {MOMENTS / UNTIL:g}, so that Gaussians "
                "respawn where a report is made"
            )
    if len({probe_signs(count, 1.0)[1] for count in counts}) < 2:
        raise ValueError(
            f"--steps {' '.join(map(str, counts))}: expected two different numbers or more, "
            f"from {STEPS[0]} to {STEPS[1]}"
        )


def measured(path: Path, steps: int, crop: int, rows: dict[str, list[list[float]]]) -> None:
    """Fit a picture from few Gaussians to many, and add what was found to the rows by name.

    Each begins with what was gained, and has then what that is related to; the logarithm of a slope
    in dB is in place of a gain. A report is made at every moment of respawning, before anything
    moves.
    """
    image = measure.centre_crop(files.read_image(path), crop)
    every = FitOptions(report_every=max(1, round(steps * UNTIL / MOMENTS)))
    ends: list[float] = []
    for each in PIXELS_EACH:
        start = pipelines.initialize(image, max(1, image[..., 0].numel() // each))
        history = taichi2dgs.fit(image, start, steps=steps, options=every).history
        seen = {round(report.step / steps, 2): report.psnr for report in history}
        ends.append(history[-1].psnr)
        if len(ends) > 1:
            factor = PIXELS_EACH[len(ends) - 2] / each  # times as many Gaussians
            slope = (ends[-1] - ends[-2]) / math.log(factor)
            rows.setdefault("log slope", []).append(
                [math.log(max(slope, 0.1)), 1.0, math.log(math.sqrt(factor) / each / factor)]
            )
        if PSNRS[0] < ends[-1] < PSNRS[1]:
            for share in GAIN:
                now, before = seen[share], seen[round(share - UNTIL / MOMENTS, 2)]
                terms = signs(now, now - before, steps, each)
                rows.setdefault(f"{share}", []).append([ends[-1] - now, *terms])
            probe = taichi2dgs.fit(image, start, steps=math.ceil(PROBE * steps)).psnr
            rows.setdefault("probe", []).append([ends[-1] - probe, *probe_signs(steps, each)])


def report(rows: dict[str, np.ndarray]) -> str:
    """Return the constants, and how far off they are, or raise ValueError."""
    lines, found = [["", "mean gain", "off"]], {}
    for name in (*map(str, GAIN), "probe", "log slope"):
        own = rows.get(name, np.empty((0, 2)))
        gained, terms = own[:, 0], own[:, 1:]
        found[name], _, rank, _ = np.linalg.lstsq(terms, gained, rcond=None)
        if rank < terms.shape[1]:
            raise ValueError(
                f"{name}: {len(own)} fits ended between {PSNRS[0]:g} and {PSNRS[1]:g} dB, too few "
                "to tell its constants; expected more pictures, or other numbers of --steps"
            )
        off = math.sqrt(np.square(gained - terms @ found[name]).mean())
        lines.append([name, f"{gained.mean():.2f}", f"{off:.2f}"])
    texts = {name: ", ".join(f"{number:.3f}" for number in own) for name, own in found.items()}
    gain = "".join(f"    {share}: ({texts[str(share)]}),\n" for share in GAIN)
    steep, steeper = found["log slope"]
    return (
        f"{table.pipes(lines)}\n\nSTEEP, STEEPER = {math.exp(steep):.1f}, {steeper:.2f}\n"
        f"GAIN = {{\n{gain}}}\nPROBE_GAIN = ({texts['probe']})"
    )


if __name__ == "__main__":
    sys.exit(main())
