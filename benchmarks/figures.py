"""Draw the paper's figures, as small WebP files in --out.

    python benchmarks/figures.py --image PICTURE --table benchmarks/results/starts.json
    python benchmarks/figures.py --figures hero --out docs/images

prior       Figure 3: the picture, where fitted Gaussians ended, the predicted heatmap, the samples,
            what the attribute network sees in the picture and adds to round Gaussians, the start
            and the fit.
density     Figure 5: heatmaps and starts at three numbers of Gaussians.
errors      Figure 4: a region and its error in a fit by each of --methods.
regions     Figure 6: the same at 2,500, 10,000 and 50,000 Gaussians.
hero        The picture at the top of the README: a quarter of the picture, its Gaussians as
            ellipses, and their render. It is drawn only where --figures names it.
iterations  Mean PSNR against iterations, from the JSON files that run_kodak.py or run_datasets.py
            wrote, and which --table names. This figure and the next three have at most
            six lines a panel, of --methods.
seconds     Mean PSNR against the seconds of a fit, from the same files, all of one machine.
ten-seconds Mean PSNR after 10 s of a fit against the number of Gaussians, from the same files.
count       Mean PSNR at the end of a fit against the number of Gaussians, from the same files.
best        Mean PSNR against seconds of the best variant of each peer, in the README.
rate        PSNR against bits a pixel, from the JSON file of run_rate.py, which is --table.
learning    Validation by epoch, from the log.csv of trainings of one stage, which are --table.
            These two are drawn only where --figures names them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import curves, hero, learning, lines, prior_figures, rate_plot, regions
from common.measure import RESULTS, script
from common.panels import save
from matplotlib.figure import Figure
from torch import Tensor

import taichi2dgs
from nets.unet import count_of
from pipelines import baselines
from taichi2dgs.storage import files

OF_PICTURES = ("prior", "density", "errors", "regions")
HERO = "hero"
LEARNING, RATE = "learning", "rate"
HERO_PART = (slice(0, 256), slice(96, 352))  # head and shoulders in the sample
HERO_K = 3_000
OF_TABLES = {
    "iterations": curves.draw_iterations,
    "seconds": curves.draw_seconds,
    "ten-seconds": curves.draw_ten_seconds,
    "count": curves.draw_count,
    "best": curves.draw_best,
}
METHODS = ["gaussianimage-rs-tuned", "image-gs-gradient-tuned", "fast-2dgs-published-tuned", "ours"]
COUNTS = (2_500, 10_000, 50_000)  # per 512x512 pixels, of Figure 6


@script
def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    draw_all(options)


def draw_all(options: argparse.Namespace) -> None:
    if LEARNING in options.figures:
        save(learning.draw_learning(options.table), options.out / f"{LEARNING}.webp")
    if RATE in options.figures:
        if len(options.table) > 1:
            raise ValueError(f"--figures {RATE}: {len(options.table)} tables; expected one")
        lines.save(rate_plot.draw(*rate_plot.read(options.table[0])), options.out / f"{RATE}.webp")
    if wanted := [name for name in OF_TABLES if name in options.figures]:
        draw_tables(wanted, options)
    if wanted := [name for name in (*OF_PICTURES, HERO) if name in options.figures]:
        taichi2dgs.init(options.backend)
        image = files.read_image(options.image)
        for name in wanted:
            save(of_picture(name, image, options), options.out / f"{name}.webp")


def draw_tables(wanted: list[str], options: argparse.Namespace) -> None:
    """Draw figures of tables; those that nobody asked for by name only where tables have them."""
    rows = curves.read_all(options.table)
    for name in wanted:
        try:
            figure = OF_TABLES[name](rows, options.methods)
        except curves.NothingToDrawError as error:
            if options.named:
                raise
            print(f"no {name}: {error}", file=sys.stderr)
        else:
            lines.save(figure, options.out / f"{name}.webp")


def of_picture(name: str, image: Tensor, options: argparse.Namespace) -> Figure:
    """Draw one of the figures that show a picture."""
    if name == HERO:
        return hero.draw_hero(image[HERO_PART].contiguous(), HERO_K, options.steps)
    if name == "prior":
        return prior_figures.draw_prior(image, options.k, options.steps)
    if name == "density":
        return prior_figures.draw_density(image)
    pixels = image.shape[0] * image.shape[1]
    k = [count_of(per_512, pixels) for per_512 in (options.k, *COUNTS)]
    fits = (
        [(Path(method).stem, k[0], method) for method in options.methods or METHODS]
        if name == "errors"
        else [(f"k = {count:,}", count, "ours") for count in k[1:]]
    )
    region = regions.checked(options.region, image) if options.region else regions.busiest(image)
    return regions.draw_fits(image, fits, options.steps, region)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    names = (*OF_PICTURES, HERO, *OF_TABLES, RATE, LEARNING)
    parser.add_argument("--figures", nargs="+", choices=names, metavar="NAME",
                        help=f"{', '.join(names)} (all but {HERO}, {RATE} and {LEARNING}; the last "
                        f"{len(OF_TABLES) + 2} with --table)")  # fmt: skip
    parser.add_argument("--image", default="sample:astronaut", help="(sample:astronaut)")
    parser.add_argument("--table", type=Path, nargs="+", metavar="FILE",
                        help="JSON of run_kodak.py, run_datasets.py or run_rate.py, or "
                        "log.csv")  # fmt: skip
    parser.add_argument("--methods", nargs="+", metavar="METHOD",
                        help=f"of errors ({' '.join(METHODS)}), and of curves, at most "
                        f"{lines.MOST} ({' '.join(curves.PREFERRED)}, and what else is in tables): "
                        f"{', '.join(baselines.names())}")  # fmt: skip
    parser.add_argument("--region", nargs=4, type=int, metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
                        help="that errors and regions show (a square full of detail)")  # fmt: skip
    parser.add_argument("--k", type=int, default=50_000, help="Gaussians per 512x512 (50000)")
    parser.add_argument("--steps", type=int, default=200, help="iterations of each fit (200)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=RESULTS / "figures", help="(results/figures)")
    options = parser.parse_args()
    options.named = options.figures is not None
    if not options.named:
        options.figures = (*OF_PICTURES, *OF_TABLES) if options.table else OF_PICTURES
    if options.table is None and (
        missing := [n for n in options.figures if n in (*OF_TABLES, RATE, LEARNING)]
    ):
        parser.error(f"--figures {' '.join(missing)}: drawn from a table; expected --table FILE")
    return options


if __name__ == "__main__":
    sys.exit(main())
