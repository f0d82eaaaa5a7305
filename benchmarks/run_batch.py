"""Pictures a second of fits made together, against a loop over `fit`.

    python benchmarks/run_batch.py --data FOLDER

Parts of pictures are fitted one by one and all at once, in turn, from the same starts. Starts are
made before, and nothing is compiled on the clock. That both end in the same Gaussians, bit for bit,
is asked of every part.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from common import kodak, measure, table
from torch import Tensor
from tqdm import tqdm

import pipelines
import taichi2dgs
from taichi2dgs import FitResult
from taichi2dgs.storage import files


class Case(NamedTuple):
    """Pictures that are fitted: how many, their side in pixels, and how many Gaussians each."""

    number: int
    side: int
    k: int


CASES = (Case(256, 32, 128), Case(64, 64, 500), Case(16, 256, 5000), Case(4, 512, 20_000))
START = "gradient"


class Measured(NamedTuple):
    """Of each repeat seconds, and those of all cores; and whether both ended alike.

    Those of the loop's steps stand alone, too.
    """

    loop: list[float]
    stepping: list[float]
    batch: list[float]
    loop_cpu: list[float]
    batch_cpu: list[float]
    same: bool


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    folder = options.data or kodak.fetch(24)
    paths = measure.find_pictures(folder, None)
    rows = {
        case: measured(parts(paths, case), case, options)
        for case in tqdm(options.cases, unit="case")
    }
    page = as_markdown(measure.describe("parts of pictures", [folder]), rows, options.steps)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)
    print(page)


def parts(paths: list[Path], case: Case) -> list[Tensor]:
    """Return squares of pictures, one of each after the other, from the top left. [S, S, C] each"""
    found: list[Tensor] = []
    images = [files.read_image(path) for path in paths[: case.number]]
    for turn in range(case.number):
        for image in images:
            across = image.shape[1] // case.side
            top, left = turn // max(across, 1) * case.side, turn % max(across, 1) * case.side
            part = image[top : top + case.side, left : left + case.side]
            if part.shape[:2] == (case.side, case.side) and len(found) < case.number:
                found.append(part.contiguous())
    if len(found) < case.number:
        raise ValueError(f"--data: {len(found)} parts of {case.side} pixels; expected {case}")
    return found


def measured(images: list[Tensor], case: Case, options: argparse.Namespace) -> Measured:
    """Fit pictures one by one and together, in turn."""
    starts = [pipelines.initialize(image, case.k, START) for image in images]
    taichi2dgs.fit(images[0], starts[0], steps=options.steps)  # compiles
    row = Measured([], [], [], [], [], True)
    for _ in range(options.repeats):
        began, used = time.perf_counter(), time.process_time()
        alone = [
            taichi2dgs.fit(image, start, steps=options.steps)
            for image, start in zip(images, starts, strict=True)
        ]
        row.loop.append(time.perf_counter() - began)
        row.loop_cpu.append(time.process_time() - used)
        row.stepping.append(sum(result.seconds for result in alone))
        began, used = time.perf_counter(), time.process_time()
        together = taichi2dgs.fit_batch(images, starts, steps=options.steps)
        row.batch.append(time.perf_counter() - began)
        row.batch_cpu.append(time.process_time() - used)
        same = row.same and all(alike(*pair) for pair in zip(alone, together, strict=True))
        row = row._replace(same=same)
    return row


def alike(one: FitResult, other: FitResult) -> bool:
    """Whether two fits have the same Gaussians, bit for bit, and the same PSNR."""
    return torch.equal(one.gaussians.packed(), other.gaussians.packed()) and one.psnr == other.psnr


def as_markdown(run: dict, rows: dict[Case, Measured], steps: int) -> str:
    """Return a page: how it was measured, and a line for each case."""
    lines = [
        [
            "pictures", "size", "Gaussians each", "loop, pictures/s", "batch, pictures/s",
            "factor", "loop, ms a step", "of that in steps", "CPU", "batch, ms a step and picture",
            "CPU", "the same, bit for bit",
        ]
    ]  # fmt: skip
    for case, row in rows.items():
        loop, stepping, batch, loop_cpu, batch_cpu = map(statistics.median, row[:-1])
        each = 1000 / case.number / steps
        lines.append(
            [
                str(case.number),
                f"{case.side}x{case.side}",
                f"{case.k:,}",
                f"{case.number / loop:.1f}",
                f"{case.number / batch:.1f}",
                f"{loop / batch:.2f}",
                f"{loop * each:.3f}",
                f"{stepping * each:.3f}",
                f"{loop_cpu * each:.3f}",
                f"{batch * each:.3f}",
                f"{batch_cpu * each:.3f}",
                "yes" if row.same else "NO",
            ]
        )
    about = (
        f"Fits of {steps} steps from the {START}'s start, one by one and in one batch, in turn:\n"
        "medians of repeats. Starts and compiling are not counted. What the loop's steps do not\n"
        "take is making a fit, measuring and reporting. CPU is the time of all cores."
    )
    return f"{about}\n\n{table.about_run(run)}\n\n{table.pipes(lines)}\n"


def case_of(text: str) -> Case:
    """Read a case from three numbers."""
    try:
        return Case(*map(int, text.split(",")))
    except (TypeError, ValueError):
        raise argparse.ArgumentTypeError(f"{text}: expected NUMBER,SIDE,K") from None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, fetched)")
    parser.add_argument(
        "--cases",
        type=case_of,
        nargs="+",
        default=CASES,
        metavar="NUMBER,SIDE,K",
        help="pictures, their side in pixels, and Gaussians of each ("
        + " ".join(",".join(map(str, case)) for case in CASES)
        + ")",
    )
    parser.add_argument("--steps", type=int, default=200, help="of a fit (200)")
    parser.add_argument("--repeats", type=int, default=3, help="of every measurement (3)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    out = measure.RESULTS / "batch.md"
    parser.add_argument("--out", type=Path, default=out, help="(results/batch.md)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
