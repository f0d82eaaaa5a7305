"""Find the settings of a method that do best here, and write them as <method>-tuned.yaml.

    python benchmarks/tune.py --data FOLDER --methods gaussianimage-rs image-gs-gradient

A published schedule is made for its own start and budget; at another budget it would be an unfair
comparison. This searches along one knob after the other: the scale of the start, growth, all
learning rates together, each of them alone, and the steps of the schedule. FOLDER holds pictures
that no table measures.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from common import measure
from tqdm import tqdm

import taichi2dgs
from nets.unet import count_of
from pipelines import baselines
from taichi2dgs.storage import files

CONFIGS = Path(__file__).resolve().parents[1] / "configs/baselines"
JUDGED = (100, 200, 500, 1000)  # iterations after which a fit is judged, where it gets there
TABLE_SIDE = 512  # side in pixels of the pictures that tables measure
FACTOR = 3.0  # by which a knob is turned up or down
GAIN = 0.05  # dB that a move must bring
Settings = dict[str, Any]


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    images = [
        measure.centre_crop(files.read_image(path), options.crop)
        for path in measure.find_pictures(options.data, options.images)
    ]
    run = measure.describe("", [options.data])
    for name in options.methods:
        method = baselines.load(name)
        if method.fused:
            raise ValueError(f"--methods {name}: expected methods with rates, not fused ones")
        settings = {f.name: getattr(method, f.name) for f in fields(method)}
        # A schedule that is longer than the fit changes nothing when it is turned.
        settings["halve_every"] = min(settings["halve_every"], options.steps)
        found = search(settings, images, options)
        text = f"# {run['command']}\n# commit {run['commit']}\n{as_yaml(found)}"
        (options.out / f"{Path(name).stem}-tuned.yaml").write_text(text)


def search(settings: Settings, images: list, options: argparse.Namespace) -> Settings:
    """Climb along one knob after the other, until a round of all of them brings nothing."""

    def score(candidate: Settings) -> float:
        bar.update()
        return mean_psnr(candidate, images, options)

    with tqdm(desc=settings["about"][:40], unit="fit") as bar:
        best, found, improved = settings, score(settings), True
        while improved:
            improved = False
            for knob in knobs(best):
                for factor in (FACTOR, 1 / FACTOR):
                    moves = 0
                    while (moved := turned(best, knob, factor)) != best:
                        if (got := score(moved)) <= found + GAIN:
                            break
                        best, found, moves = moved, got, moves + 1
                        bar.write(f"{found:.3f} dB: {knob} x {factor:.3g}", file=sys.stderr)
                    if moves:
                        improved = True
                        break
    return best


def knobs(settings: Settings) -> list[tuple[str, ...]]:
    """Return what is turned together: names of numbers in the settings, with dots."""
    rates = [f"rates.{name}" for name in settings["rates"]]
    timing = [name for name in ("halve_every", "weight_decay") if settings[name]]
    growth = ["growth", "growth.every"] if settings["growth"] else []
    first = (("scale",), *((name,) for name in growth), tuple(rates))
    return [*first, *((name,) for name in (*rates, *timing))]


def turned(settings: Settings, knob: tuple[str, ...], factor: float) -> Settings:
    """Return the settings with the numbers of a knob multiplied, steps to whole ones.

    What is no number, as growth is not, is taken away.
    """
    result = {key: dict(v) if isinstance(v, dict) else v for key, v in settings.items()}
    for path in knob:
        *outer, name = path.split(".")
        where: Settings = result[outer[0]] if outer else result
        where[name] = multiplied(where[name], factor)
    return result


def multiplied(value: dict | float | None, factor: float) -> float | None:
    if value is None or isinstance(value, dict):
        return None
    return max(1, round(value * factor)) if isinstance(value, int) else value * factor


def mean_psnr(settings: Settings, images: list, options: argparse.Namespace) -> float:
    """Return how well a method does: the mean PSNR over pictures and judged iterations."""
    found = []
    for image in images:
        side = min(image.shape[:2])
        k = count_of(options.k, side**2)
        rates = dict(settings["rates"])
        if settings["parameters"] != "pixels":
            rates["xy"] *= TABLE_SIDE / side  # a rate in image sides, for as many pixels
        method = baselines.Method(**{**settings, "rates": rates})
        history = baselines.run(image, k, method, steps=options.steps).history
        found += [r.psnr for r in history if r.step in {*JUDGED, options.steps}]
    return statistics.fmean(found) if all(map(math.isfinite, found)) else -math.inf


def as_yaml(settings: Settings) -> str:
    """Return a configuration: what differs from a method's defaults."""
    default = {f.name: f.default for f in fields(baselines.Method)}
    told = {k: v for k, v in settings.items() if v != default[k] and v not in ({}, None)}
    told["about"] = f"{settings['about'].split(';')[0]}; best settings that tune.py found"
    if "scale" in told:
        told["scale"] = float(f"{told['scale']:.3g}")
    told["rates"] = {key: float(f"{value:.3g}") for key, value in settings["rates"].items()}
    return yaml.safe_dump(told, sort_keys=False, width=100)


def parse() -> argparse.Namespace:
    parser = measure.training_parser(__doc__, images=2, crop=256, steps=500)
    parser.add_argument(
        "--k",
        type=int,
        default=50_000,
        help="Gaussians of 512x512 pixels, a crop its share (50000)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        required=True,
        metavar="METHOD",
        help=f"{', '.join(baselines.names())}, or YAML files",
    )
    parser.add_argument("--out", type=Path, default=CONFIGS, help="folder (configs/baselines)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
