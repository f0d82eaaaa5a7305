"""Options of a fit beside the default: respawning, Adam's growing memory, kept selections.

    python benchmarks/run_options.py --k 10000 --steps 200 600 --options plain default

Every picture is fitted once for each of --k, --steps or --seconds, and --options, each fit to its
own end. A JSON file, a page and a plot appear in --out; each row is measured once for the same
code, so that runs of more pictures, or those that were killed, go on from what is there. Fits in
steps end the same on however many cores, and whatever else runs beside them.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from common import kodak, measure, table
from common.rows import Rows, code_and_device, named
from matplotlib.axes import Axes
from torch import Tensor
from tqdm import tqdm

import pipelines
import taichi2dgs
from taichi2dgs import FitOptions, runtime
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.storage import files

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"respawn": 0},  # Gaussians stay where gradients carry them
    "textbook": {"respawn": 0, "growing_memory": False},  # and Adam's betas are constant
    "kept": {"reselect": 3},  # what a pixel blends is selected in every third step
}
KEYS = ("image", "crop", "k", "start", "budget", "options", "made_by")  # what tells rows apart


@measure.script
def main() -> None:
    options = parse()
    folder = options.data or kodak.fetch(len(kodak.DIGESTS))
    pictures = measure.find_pictures(folder, None)[options.first - 1 :: options.every]
    taichi2dgs.init(options.backend)
    size = f"{options.crop}x{options.crop} centre crops" if options.crop else "full frames"
    run = measure.describe(f"{folder.resolve().name}, {size}", [folder])
    rows = Rows(options.out.with_suffix(".json"), run, KEYS)
    code = code_and_device()
    budgets = [{"steps": steps} for steps in options.steps]
    budgets += [{"seconds": seconds} for seconds in options.seconds]
    fits = [(path, k, budget) for path in pictures for k in options.k for budget in budgets]

    @functools.cache
    def warm_up(channels: int) -> None:
        list(fitted(measure.ramp(channels), 60, {"steps": 20}, options))

    for path, k, budget in tqdm(fits, "fits", unit="fit"):
        common = (path.stem, options.crop, k, options.start, named(budget))
        keys = [(*common, name, code) for name in options.options]

        def made(path=path, k=k, budget=budget, keys=keys) -> Iterator[dict]:
            image = read(path, options.crop)
            warm_up(image.shape[2])
            for key, row in zip(keys, fitted(image, k, budget, options), strict=True):
                yield {**dict(zip(KEYS, key, strict=True)), **row}

        rows.want(keys, made)
    found = rows.finish()
    page = as_markdown(rows.run, found, options.options)
    options.out.with_suffix(".md").write_text(page)
    plot(found, options.options, options.out.with_suffix(".webp"))
    print(page)


def fitted(
    image: Tensor, k: int, budget: dict[str, Any], options: argparse.Namespace
) -> Iterator[dict]:
    """Fit a picture from one start with each of the options."""
    start = pipelines.initialize(image, k, options.start, steps=Budget(**budget).foreseen)
    for name in options.options:
        made = taichi2dgs.fit(image, start, **budget, options=FitOptions(**OPTIONS[name]))
        yield {"psnr": made.psnr, "steps": made.steps, "seconds": made.seconds}


def as_markdown(run: dict[str, Any], rows: list[dict], names: list[str]) -> str:
    """Return a page with a line for each number of Gaussians and budget."""
    head = ["pictures", "k", "start", "budget", *names]
    for name in names[1:]:
        head += [f"{name} less {names[0]}", "least", "pictures below"]
    lines = [head]
    for group in table.grouped(rows, ("k", "start", "budget")):
        psnrs = {name: [row["psnr"] for row in group if row["options"] == name] for name in names}
        first = psnrs[names[0]]
        lines.append(
            [
                str(len(first)),
                f"{group[0]['k']:,}",
                group[0]["start"],
                group[0]["budget"],
                *(f"{statistics.fmean(psnrs[name]):.2f}" for name in names),
            ]
        )
        for name in names[1:]:
            gains = [own - other for own, other in zip(psnrs[name], first, strict=True)]
            below = sum(gain < 0 for gain in gains)
            lines[-1] += [f"{statistics.fmean(gains):+.2f}", f"{min(gains):+.2f}", str(below)]
    about = "; ".join(f"{name}: {described(OPTIONS[name])}" for name in names)
    return (
        f"{run['pictures']}: mean PSNR in dB at the end of fits, and the differences of the same\n"
        f"picture's. {about}.\n\n{table.about_run(run)}\n\n{table.pipes(lines)}\n"
    )


def described(options: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "as shipped"


def plot(rows: list[dict], names: list[str], path: Path) -> None:
    """Draw the gain over the first of the options against the budget, a line for each k.

    Steps and seconds have a panel each.
    """
    units: dict[str, list[dict]] = {}
    for row in rows:
        units.setdefault(row["budget"].split()[1], []).append(row)
    figure, panels = plt.subplots(
        1, len(units), figsize=(6 * len(units), 3.6), layout="constrained", squeeze=False
    )
    for axes, (unit, own) in zip(panels[0], units.items(), strict=True):
        draw(axes, own, names)
        axes.set_xlabel(f"budget, {unit}")
    panels[0, 0].set_ylabel(f"mean PSNR less that of {names[0]}, dB")
    panels[0, -1].legend(frameon=False)
    figure.savefig(path, dpi=150)


def draw(axes: Axes, rows: list[dict], names: list[str]) -> None:
    """Draw the gains of rows whose budgets have one unit."""
    for k in dict.fromkeys(row["k"] for row in rows):
        for name in names[1:]:
            points = []
            for group in table.grouped([row for row in rows if row["k"] == k], ("budget",)):
                means = [
                    statistics.fmean(row["psnr"] for row in group if row["options"] == one)
                    for one in (names[0], name)
                ]
                points.append((float(group[0]["budget"].split()[0]), means[1] - means[0]))
            budgets, gains = zip(*sorted(points), strict=True)
            axes.plot(budgets, gains, marker="o", label=f"{name}, {k:,} Gaussians")
    axes.axhline(0, color="0.5", linewidth=1)
    axes.set_xscale("log")
    every = sorted({float(row["budget"].split()[0]) for row in rows})
    axes.set_xticks(every, [f"{budget:g}" for budget in every])
    axes.minorticks_off()


def read(path: Path, crop: int | None) -> Tensor:
    """Read a picture, or its centre, for the device. [H, W, 3]"""
    return measure.centre_crop(files.read_image(path), crop or None).to(runtime.device())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--first", type=int, default=1, help="number of the first picture (1)")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th picture (1)")
    parser.add_argument("--crop", type=int, help="side of the centre crop (full frames)")
    parser.add_argument("--k", type=int, nargs="+", default=[50_000], help="Gaussians (50000)")
    parser.add_argument("--steps", type=int, nargs="*", default=[], help="budgets in iterations")
    parser.add_argument("--seconds", type=float, nargs="*", default=[], help="budgets in seconds")
    parser.add_argument("--start", default="prior", choices=pipelines.STARTS, help="(prior)")
    parser.add_argument(
        "--options",
        nargs="+",
        default=["plain", "default"],
        choices=list(OPTIONS),
        help="the first is what others are compared with (plain default)",
    )
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument(
        "--out", type=Path, default=measure.RESULTS / "options", help="(results/options)"
    )
    options = parser.parse_args()
    if not options.steps and not options.seconds:
        options.steps = [200]
    if options.first < 1 or options.every < 1:
        raise ValueError(f"--first {options.first} --every {options.every}: expected 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
