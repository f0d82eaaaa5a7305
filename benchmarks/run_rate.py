"""Rate and distortion: .t2d files of several k and presets, against JPEG, WebP and AVIF.

    python benchmarks/run_rate.py --k 2500 5000 10000 20000 40000 --refine 100

Every picture is fitted and saved at each k and preset. A picture codec then gets the quality, found
by bisection, whose file comes closest to those bytes from below, or its smallest file where even
that is larger. PSNR is of 8-bit pixels, bytes are of complete files. A JSON file, a Markdown table
and a plot appear in --out; a run that is killed goes on where it was.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from common import kodak, measure, table
from torch import Tensor
from tqdm import tqdm

import pipelines
import taichi2dgs
from taichi2dgs import metrics
from taichi2dgs.fitting.refine import refined
from taichi2dgs.settings import QUALITIES
from taichi2dgs.storage import files, t2d

CODECS = {"JPEG": ".jpg", "WebP": ".webp", "AVIF": ".avif"}
KEYS = ("image", "k", "preset", "refine")


@measure.script
def main() -> None:
    options = parse()
    folder = options.data or kodak.fetch(options.images or len(kodak.DIGESTS))
    pictures = measure.find_pictures(folder, options.images)
    taichi2dgs.init(options.backend)
    size = f"{options.crop}x{options.crop} centre crops" if options.crop else "full frames"
    run = measure.describe(f"{folder.resolve().name}, {size}", [folder])
    rows = measure_all(pictures, run, options)
    page = as_markdown(run, rows)
    options.out.with_suffix(".md").write_text(page)
    plot(rows, options.out.with_suffix(".webp"))
    print(page)


def measure_all(pictures: list[Path], run: dict[str, Any], options: argparse.Namespace):
    """Measure every picture at every k, but those that an earlier run has measured."""
    out = options.out.with_suffix(".json")
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = measure.earlier_rows(out, run)
    done = {(row["image"], row["k"]) for row in rows}
    fits = [(k, path) for k in options.k for path in pictures if (path.stem, k) not in done]
    bar = tqdm(fits, "fits", unit="fit")
    for k, path in bar:
        image = files.read_image(path)
        image = measure.centre_crop(image, options.crop) if options.crop else image
        rows += measure_one(path.stem, image, k, options)
        bar.set_postfix_str(f"{k} {path.stem} {rows[-1]['psnr']:.2f} dB")
        with files.replacing(out) as temporary:
            Path(temporary).write_text(json.dumps({**run, "rows": rows}, indent=1) + "\n")
    return rows


def measure_one(name: str, image: Tensor, k: int, options: argparse.Namespace) -> list[dict]:
    """Fit a picture once, and save it by every preset, without refining and with it."""
    start = pipelines.initialize(image, k)
    fitted = taichi2dgs.fit(image, start, steps=options.steps).gaussians
    unsaved = metrics.psnr(fitted.render(), image, rounded=True)
    rows = []
    for preset in options.presets:
        for steps in sorted({0, options.refine}) if preset != "lossless" else [0]:
            precision = t2d.checked_precision(fitted, preset)
            better = refined(fitted, image, precision, steps) if precision and steps else fitted
            data = t2d.encode(better, preset)
            psnr = metrics.psnr(t2d.decode(data).gaussians.render(), image, rounded=True)
            rows.append(
                {
                    "image": name,
                    "k": k,
                    "preset": preset,
                    "refine": steps,
                    "bytes": len(data),
                    "bpp": 8 * len(data) / image[..., 0].numel(),
                    "unsaved": unsaved,
                    "psnr": psnr,
                    "codecs": {} if preset == "lossless" else matched(image, len(data)),
                }
            )
    return rows


def matched(image: Tensor, size: int) -> dict[str, list[float]]:
    """Return bytes and PSNR of each picture codec at no more than `size` bytes, if it can."""
    pixels = (image * 255).round().to(torch.uint8).cpu().numpy()
    found = {}
    for name, suffix in CODECS.items():
        low, high = 0, 100  # quality settings: the best below `size` is at or above `low`
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (
                (middle, high) if len(coded(pixels, suffix, middle)) <= size else (low, middle)
            )
        data = coded(pixels, suffix, low)
        back = (
            torch.from_numpy(np.array(iio.imread(io.BytesIO(data), plugin="pillow"))).float() / 255
        )
        found[name] = [len(data), metrics.psnr(back, image.cpu())]
    return found


def coded(pixels: np.ndarray, suffix: str, quality: int) -> bytes:
    more: dict[str, Any] = {"speed": 8} if suffix == ".avif" else {}
    return iio.imwrite(
        "<bytes>", pixels, plugin="pillow", extension=suffix, quality=quality, **more
    )  # type: ignore[call-overload]


def groups_of(rows: list[dict]) -> list[list[dict]]:
    return table.grouped(rows, KEYS[1:])


def as_markdown(run: dict[str, Any], rows: list[dict]) -> str:
    """Return a page: how it was measured, and a line for each k, preset and refining."""
    lines = [
        [
            "k",
            "preset",
            "refine",
            "pictures",
            "kB",
            "bits a pixel",
            "bits a Gaussian",
            "unsaved",
            "saved",
            "loss",
            *CODECS,
        ]
    ]
    for group in groups_of(rows):
        k, preset, steps = (group[0][name] for name in KEYS[1:])
        size = statistics.fmean(row["bytes"] for row in group)
        unsaved, saved = ([row[name] for row in group] for name in ("unsaved", "psnr"))
        lines.append(
            [
                f"{k:,}",
                preset,
                str(steps),
                str(len(group)),
                f"{size / 1e3:.1f}",
                f"{statistics.fmean(row['bpp'] for row in group):.2f}",
                f"{8 * size / k:.1f}",
                table.mean(unsaved),
                table.mean(saved),
                f"{statistics.fmean(unsaved) - statistics.fmean(saved):.2f}",
                *(codec(group, name) for name in CODECS),
            ]
        )
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"{run['pictures']}: mean bytes of complete files and mean PSNR in dB of 8-bit pixels, "
        "before\nand after saving, and that of picture codecs at the same bytes or the most "
        "below (a codec whose\nsmallest file is larger has an asterisk).\n\n"
        f"- machine: {run['machine']}; backend {run['backend']}\n- {versions}\n"
        f"- commit {run['commit']}\n- `{run['command']}`\n\n{table.pipes(lines)}\n"
    )


def codec(group: list[dict], name: str) -> str:
    """Mean PSNR of a picture codec, with an asterisk where it needed more bytes."""
    found = [(row["codecs"].get(name), row["bytes"]) for row in group]
    if any(pair is None for pair, _ in found):
        return "-"
    over = any(pair[0] > size for pair, size in found)
    return f"{statistics.fmean(pair[1] for pair, _ in found):.2f}" + "*" * over


def plot(rows: list[dict], path: Path) -> None:
    """Draw mean PSNR against mean bits per pixel."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5))
    groups = [group for group in groups_of(rows) if group[0]["preset"] != "lossless"]

    def bits(group: list[dict]) -> float:
        return statistics.fmean(row["bpp"] for row in group)

    for preset, steps in dict.fromkeys((g[0]["preset"], g[0]["refine"]) for g in groups):
        mine = sorted(
            (g for g in groups if (g[0]["preset"], g[0]["refine"]) == (preset, steps)), key=bits
        )
        label = f".t2d {preset}" + f", refined {steps}" * bool(steps)
        axis.plot(
            [bits(g) for g in mine],
            [statistics.fmean(r["psnr"] for r in g) for g in mine],
            marker="o",
            ms=3,
            label=label,
        )
    for name in CODECS:
        points = sorted(
            (bits(g), statistics.fmean(r["codecs"][name][1] for r in g)) for g in groups
        )
        axis.plot(*zip(*points, strict=True), "--", label=name)
    axis.set_xlabel("bits per pixel")
    axis.set_ylabel("PSNR, dB")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110, pil_kwargs={"quality": 80})
    plt.close(figure)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--crop", type=int, help="side of the centre crop (full frames)")
    parser.add_argument("--k", type=int, nargs="+", default=[10_000], help="Gaussians (10000)")
    parser.add_argument(
        "--presets", nargs="+", default=list(QUALITIES), help="(all)", choices=list(QUALITIES)
    )
    parser.add_argument("--steps", type=int, default=200, help="iterations of the fit (200)")
    parser.add_argument("--refine", type=int, default=0, help="also save after so many steps (0)")
    parser.add_argument("--images", type=int, help="how many pictures, from the first (all)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=measure.RESULTS / "rate", help="(results/rate)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
