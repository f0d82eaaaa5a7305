"""Fit the pictures of several folders by every method, one line of a table for each folder.

    python benchmarks/run_datasets.py --data kodak DIV2K_valid_HR clic --methods ours ours-gradient

As the paper's Table 2 does, pictures are scaled so that the shorter side has 512 pixels, and cut to
the centre square; --native takes them as they are. Everything else is as in run_kodak.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch.nn.functional as F  # noqa: N812
from common import fits, measure, published, table
from torch import Tensor

import taichi2dgs
from taichi2dgs.storage import files


@measure.script
def main() -> None:
    options = parse()
    folders = options.data
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"--data {' '.join(map(str, folders))}: expected different names")
    pictures = {
        name: measure.find_pictures(folder, options.images)
        for name, folder in zip(names, folders, strict=True)
    }
    taichi2dgs.init(options.backend)
    side = options.side
    about = f"scaled to a shorter side of {side}, {side}x{side} centre crops"
    run = measure.describe("Native size" if options.native else about.capitalize(), folders)

    def prepare(path: Path) -> Tensor:
        image = files.read_image(path)
        return image if options.native else measure.centre_crop(scaled(image, side), side)

    run, rows = fits.measure_all(pictures, prepare, run, options)
    page = table.as_markdown(run, rows)
    if options.native and (beside := published.beside(rows, options.steps == 0)):
        page += f"\n{beside}"
    options.out.with_suffix(".md").write_text(page)
    print(page)


def scaled(image: Tensor, side: int) -> Tensor:
    """Scale an image so that its shorter side has so many pixels. [H, W, C] -> [H', W', C]"""
    height, width = image.shape[:2]
    factor = side / min(height, width)
    size = [max(side, round(height * factor)), max(side, round(width * factor))]
    batch = image.permute(2, 0, 1)[None]
    fine = F.interpolate(batch, size, mode="bicubic", antialias=True, align_corners=False)
    return fine[0].permute(1, 2, 0).clamp(0, 1)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of pictures")
    parser.add_argument("--side", type=int, default=512, help="of the square, in pixels (512)")
    parser.add_argument("--native", action="store_true", help="fit whole pictures, unscaled")
    measure.add_options(parser, "datasets")
    return measure.parsed(parser)


if __name__ == "__main__":
    sys.exit(main())
