"""Measure the constants by which `k="auto"` chooses a number: those of pipelines/aims.py.

    python benchmarks/calibrate_count.py --data FOLDER

Every picture is fitted at numbers of Gaussians from too few to too many for AUTO_PSNR. The number
per pixel that reaches it is interpolated between two of them, and related to the picture's mean
gradient magnitude. FOLDER holds photographs that no table measures; a few of them are taken, evenly
spread.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from common import measure, table
from tqdm import tqdm

import taichi2dgs
from nets.detail import gradient_magnitude
from pipelines.aims import AUTO_PSNR
from pipelines.encoding import Encoding
from taichi2dgs.storage import files

DENSITIES = 2.0 ** -np.arange(8.0, 0.0, -1.0)  # Gaussians per pixel to try, least first


@measure.script
def main() -> None:
    options = measure.training_parser(__doc__, images=12, crop=512, steps=60).parse_args()
    paths = measure.spread_pictures(options.data, options.images)
    taichi2dgs.init(options.backend)
    found = [measured(path, options) for path in tqdm(paths, "calibrate", unit="picture")]
    print(report([path.stem for path in paths], np.array(found)))


def measured(path: Path, options: argparse.Namespace) -> tuple[float, float, float]:
    """Return a picture's detail, the Gaussians per pixel that reach AUTO_PSNR, and the slope there.

    The slope is in dB for e times as many. Beyond the densities that are tried, the line goes on.
    """
    image = measure.centre_crop(files.read_image(path), options.crop)
    pixels = image.shape[0] * image.shape[1]
    detail = float(gradient_magnitude(image.permute(2, 0, 1)[None].float()).mean())
    psnrs: list[float] = []
    for density in DENSITIES:
        fit = Encoding(k=max(1, round(density * pixels)), steps=options.steps).run(image)
        psnrs.append(fit.history[-1].psnr)
        if psnrs[-1] >= AUTO_PSNR and len(psnrs) > 1:
            break
    slope = (psnrs[-1] - psnrs[-2]) / np.log(2.0)
    tried = DENSITIES[len(psnrs) - 1]
    return detail, tried * np.exp((AUTO_PSNR - psnrs[-1]) / slope), slope


def report(names: list[str], found: np.ndarray) -> str:
    """Return what was measured of every picture, and the constants. [N, 3]"""
    detail, density, slope = found.T
    power, log_density = np.polyfit(np.log(detail), np.log(density), 1)
    off = np.exp(np.abs(log_density + power * np.log(detail) - np.log(density)))
    lines = [["picture", "detail", f"Gaussians per pixel for {AUTO_PSNR:g} dB", "slope", "off by"]]
    for name, *numbers in zip(names, detail, density, slope, off, strict=True):
        lines.append([name, *(f"{number:.4g}" for number in numbers)])
    return (
        f"{table.pipes(lines)}\n\nDENSITY, POWER, SLOPE = {np.exp(log_density):.3g}, {power:.3g}, "
        f"{np.median(slope):.3g}; two of three pictures are within a factor of "
        f"{np.quantile(off, 2 / 3):.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
