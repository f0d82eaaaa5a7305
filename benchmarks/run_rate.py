"""Rate and distortion: .t2d files beside picture codecs and published figures.

    python benchmarks/run_rate.py                               # hours: 24 frames of Kodak
    python benchmarks/run_rate.py --images 2 --k 1000 3000 --seconds 2   # a look, in two minutes

Every picture is fitted for each of --seconds at each of --k, and saved by each preset as
`taichi2dgs encode` saves it. Codecs write it at settings that span 0.1 to 1.5 bits a pixel. Bytes
are of complete files, PSNR and MS-SSIM of 8-bit pixels. A JSON file, a page and a plot appear in
--out. Each row is measured once for the same code or codec, whatever command asks for it, so that
runs of more pictures, or those that were killed, go on from what is there; rows of the same that
other code made are replaced.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import codecs, kodak, lines, measure, rate_page, rate_plot
from common.costs import seconds_of
from common.quality import ms_ssim
from common.rows import Rows, code_and_device, named, stopping
from torch import Tensor
from tqdm import tqdm

import taichi2dgs
from pipelines.encoding import Encoding
from taichi2dgs import metrics, runtime
from taichi2dgs.fitting.refine import encode_refined
from taichi2dgs.settings import QUALITIES
from taichi2dgs.storage import files, t2d

COUNTS = (900, 1_600, 3_000, 5_500, 10_000, 18_000)  # Gaussians: 0.1 to 1.5 bits a pixel of Kodak
KEYS = ("codec", "image", "crop", "setting", "refine", "made_by")  # what tells rows apart


@measure.script
def main() -> None:
    options = parse()
    folder = options.data or kodak.fetch(options.images or len(kodak.DIGESTS))
    pictures = measure.find_pictures(folder, options.images)
    taichi2dgs.init(options.backend)
    size = f"{options.crop}x{options.crop} centre crops" if options.crop else "full frames"
    run = measure.describe(f"{folder.resolve().name}, {size}", [folder])
    rows = Rows(options.out.with_suffix(".json"), run, KEYS)
    tasks = {path: [*codec_tasks(path, options), *fit_tasks(path, options)] for path in pictures}
    bar = tqdm([task for path in pictures for task in tasks[path]], "curves and fits", unit="one")
    with stopping(bar):
        for task in bar:
            bar.set_postfix_str(f"{task.keys[0][1]}, {task.keys[0][0]}, {task.keys[0][3]}")
            rows.want(task.keys, task.make)
    keys = {path: [key for task in tasks[path] for key in task.keys] for path in pictures}
    finished = [path for path in pictures if not rows.lacks(keys[path])]
    if not finished:
        raise KeyboardInterrupt
    total = len(measure.find_pictures(folder, None))
    found = rows.finish(
        [key for path in finished for key in keys[path]],
        pictures=f"{folder.resolve().name}, {len(finished)} of {total} {size}",
    )
    page = rate_page.as_markdown(rows.run, found)
    options.out.with_suffix(".md").write_text(page)
    lines.save(rate_plot.draw(rows.run, found), options.out.with_suffix(".webp"))
    print(page)


class Task(NamedTuple):
    """Rows of one picture that are made together."""

    keys: list[tuple]
    make: Callable[[], Iterator[dict]]


def codec_tasks(path: Path, options: argparse.Namespace) -> list[Task]:
    """Return what writes a picture by every codec at each of its settings."""
    return [
        Task(
            [
                (codec.name, path.stem, options.crop, setting, None, codec.version)
                for setting in codec.settings
            ],
            functools.partial(codec_rows, codec, path, options.crop),
        )
        for codec in codecs.available()
        if codec.name in options.codecs
    ]


def codec_rows(codec: codecs.Codec, path: Path, crop: int | None) -> Iterator[dict]:
    """Write a picture by a codec at each of its settings."""
    image = read(path, crop)
    pixels = (image * 255).round().to(torch.uint8).numpy()
    for setting in codec.settings:
        began = time.perf_counter()
        data = codec.encode(pixels, setting)
        taken = time.perf_counter() - began
        shown = torch.from_numpy(np.array(codec.decode(data))).float() / 255
        keys = (codec.name, path.stem, crop, setting, None, codec.version)
        yield {
            **dict(zip(KEYS, keys, strict=True)),
            **seen(data, shown, image),
            "encode_s": taken,
            "decode_s": seconds_of(functools.partial(codec.decode, data)),
        }


def fit_tasks(path: Path, options: argparse.Namespace) -> list[Task]:
    """Return what fits a picture at each number and budget, and saves it by each preset."""
    budgets = [{"seconds": most} for most in options.seconds]
    if options.steps is not None:
        budgets = [{"steps": options.steps}]
    return [
        fit_task(path, options.crop, k, budget, options.presets, options.refine)
        for budget in budgets
        for k in options.k
    ]


def fit_task(
    path: Path,
    crop: int | None,
    k: int,
    budget: dict[str, Any],
    presets: Sequence[str],
    refine: int | None,
) -> Task:
    """Return what fits a picture at one number and budget, and saves it by each preset."""
    code = code_and_device()
    keys = [(file_name(preset, budget), path.stem, crop, k, refine, code) for preset in presets]

    def make() -> Iterator[dict]:
        image = read(path, crop).to(runtime.device())
        warm_up(image.shape[2])
        for key, row in zip(keys, our_rows(image, k, budget, presets, refine), strict=True):
            yield {**dict(zip(KEYS, key, strict=True)), **row}

    return Task(keys, make)


@functools.cache
def warm_up(channels: int) -> None:
    """Compile the kernels before anything is timed."""
    list(our_rows(measure.ramp(channels), 60, {"steps": 20}, ["medium"], 8))


def file_name(preset: str, budget: dict[str, Any]) -> str:
    """Return what stands for files of a preset after fits of a budget."""
    return f".t2d {preset}, {named(budget)}"


def our_rows(
    image: Tensor, k: int, budget: dict[str, Any], presets: Sequence[str], refine: int | None
) -> Iterator[dict]:
    """Fit a picture once, and save it by each preset, refined for as long as that asks for."""
    began = time.perf_counter()
    result = Encoding(k=k, **budget).run(image)
    fitted = result.gaussians
    fit_seconds = time.perf_counter() - began
    unsaved = metrics.psnr(fitted.render(), image, rounded=True)
    for preset in presets:
        encoding = Encoding(quality=preset, refine=refine)
        steps = encoding.refine_steps(result.steps)
        began = time.perf_counter()
        data = encode_refined(fitted, preset, image, steps)
        taken = fit_seconds + time.perf_counter() - began
        # In float64, as `metrics.psnr` rounds: in float32 a pixel may be rounded the other way.
        shown = ((opened(data).double().clamp(0, 1) * 255).round() / 255).to(image)
        yield {
            **seen(data, shown, image),
            "unsaved": unsaved,
            "refined": steps,
            "encode_s": taken,
            "decode_s": seconds_of(functools.partial(opened, data), wait=measure.wait),
        }


def opened(data: bytes) -> Tensor:
    """Read a .t2d file and render it. [H, W, 3]"""
    return t2d.decode(data).gaussians.render()


def seen(data: bytes, shown: Tensor, image: Tensor) -> dict[str, Any]:
    """Return what a file costs, and how good it looks."""
    return {
        "bytes": len(data),
        "bpp": 8 * len(data) / image[..., 0].numel(),
        "psnr": metrics.psnr(shown, image),
        "ms_ssim": ms_ssim(shown, image),
    }


def read(path: Path, crop: int | None) -> Tensor:
    """Read a picture, or its centre. [H, W, 3]"""
    return measure.centre_crop(files.read_image(path), crop or None)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    names = [codec.name for codec in codecs.available()]
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--images", type=int, help="how many pictures, from the first (all)")
    parser.add_argument("--crop", type=int, help="side of the centre crop (full frames)")
    parser.add_argument(
        "--k", type=int, nargs="+", default=list(COUNTS), help=f"Gaussians {COUNTS}"
    )
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[10.0], help="budgets of fits (10)"
    )
    parser.add_argument("--steps", type=int, help="iterations of fits, in place of --seconds")
    parser.add_argument(
        "--presets",
        nargs="+",
        default=["high", "medium", "small"],
        choices=list(QUALITIES),
        help="(high medium small)",
    )
    parser.add_argument("--refine", type=int, help="steps of refining (as encode has it)")
    parser.add_argument(
        "--codecs", nargs="+", default=names, choices=names, metavar="CODEC", help=", ".join(names)
    )
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=measure.RESULTS / "rate", help="(results/rate)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
