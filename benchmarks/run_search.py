"""Searches for a number of Gaussians: how long they take, and what they end with.

    python benchmarks/run_search.py --data FOLDER --images 12 --crop 256 --steps 200

Every picture is encoded with k="auto", and for each of --psnr and --bytes. A line has the mean
number of budgets that the fits took together, seconds, how far off they ended, how many ended
within what is good enough, and their PSNR less that of one fit with the same number of Gaussians
from its start.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from common import measure, table
from torch import Tensor
from tqdm import tqdm

import taichi2dgs
from pipelines.aims import AUTO_PSNR, FILLED, PSNR_WITHIN
from pipelines.encoding import Encoding
from taichi2dgs.storage import files, t2d


@measure.script
def main() -> None:
    options = parse()
    kinds: list[tuple[str, Any]] = [("k", "auto")]
    kinds += [("target_psnr", psnr) for psnr in options.psnr]
    kinds += [("target_bytes", size) for size in options.bytes]
    searches = {
        f"{name}={value}": Encoding(**{name: value}, steps=options.steps) for name, value in kinds
    }
    paths = measure.spread_pictures(options.data, options.images)
    taichi2dgs.init(options.backend)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in searches}
    for path in tqdm(paths, "searches", unit="picture"):
        image = measure.centre_crop(files.read_image(path), options.crop)
        Encoding(k=50, steps=20).run(image)  # compiles
        for name, encoding in searches.items():
            rows[name].append(measured(image, encoding, options.steps))
        if options.out is not None:
            options.out.write_text(report(rows) + "\n")
    print(report(rows))


def measured(image: Tensor, encoding: Encoding, steps: int) -> dict[str, Any]:
    """Search once, and fit the number that was found from its start."""
    made: list[int] = []  # steps of each fit

    def count(_: int, seen: taichi2dgs.Report) -> None:
        if not made or seen.step < made[-1]:
            made.append(0)
        made[-1] = seen.step

    began = time.perf_counter()
    result = encoding.run(image, count)
    seconds = time.perf_counter() - began
    k = len(result.gaussians)
    if encoding.target_bytes is not None:
        size = len(t2d.encode(result.gaussians, encoding.quality))
        off = size / encoding.target_bytes - 1
        within = FILLED[0] - 1 <= off <= 0
    else:
        off = result.psnr - (encoding.target_psnr or AUTO_PSNR)
        within = abs(off) <= PSNR_WITHIN
    psnr = result.psnr - Encoding(k=k, steps=steps).run(image).psnr
    budgets = sum(made) / steps
    return {"budgets": budgets, "seconds": seconds, "off": abs(off), "within": within,
            "better": psnr, "k": k}  # fmt: skip


def report(rows: dict[str, list[dict[str, Any]]]) -> str:
    """A line for each kind of search."""
    head = ["search", "pictures", "k", "budgets", "most", "seconds", "off", "within"]
    lines = [[*head, "better than from its start, dB", "least"]]
    for name, own in rows.items():
        mean = {key: statistics.fmean(row[key] for row in own) for key in own[0]}
        off = f"{100 * mean['off']:.1f} %" if "bytes" in name else f"{mean['off']:.2f} dB"
        lines.append(
            [
                name,
                str(len(own)),
                f"{mean['k']:,.0f}",
                f"{mean['budgets']:.2f}",
                f"{max(row['budgets'] for row in own):.2f}",
                f"{mean['seconds']:.2f}",
                off,
                f"{sum(row['within'] for row in own)}",
                f"{mean['better']:+.2f}",
                f"{min(row['better'] for row in own):+.2f}",
            ]
        )
    return table.pipes(lines)


def parse() -> argparse.Namespace:
    parser = measure.training_parser(__doc__, images=12, crop=256, steps=200)
    parser.add_argument(
        "--psnr", type=float, nargs="*", default=[34.0, 38.0, 44.0], help="dB (34 38 44)"
    )
    parser.add_argument(
        "--bytes", type=int, nargs="*", default=[10_000, 40_000], help="(10000 40000)"
    )
    parser.add_argument("--out", type=Path, help="file for the table, after every picture, too")
    options = parser.parse_args()
    if options.steps < 1:
        raise ValueError(f"--steps {options.steps}: expected 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
