"""What files make of gradients of 16 bits: their PSNR as fitted, and as saved, by quality.

    python benchmarks/run_depth.py

Gradients are computed, so no pictures are needed. A file of what came from 8 bits has coarser steps
of colours than one of what came from 16.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from common import measure
from torch import Tensor

import pipelines
import taichi2dgs
from taichi2dgs import Gaussians, metrics
from taichi2dgs.storage import t2d

COLUMNS = (("lossless", 16), ("high", 16), ("high", 8))  # quality, and bits of the picture


@measure.script
def main() -> None:
    options = parse()
    taichi2dgs.init(options.backend)
    rows = []
    for name, image in gradients(options.side).items():
        for k in options.k:
            deep = taichi2dgs.Map("", 3, "srgb", 16)
            start = pipelines.initialize(image, k).replace(maps=(deep,))
            fitted = taichi2dgs.fit(image, start, steps=options.steps).gaussians
            saved = [measured(fitted, image, quality, bits) for quality, bits in COLUMNS]
            cells = " | ".join(f"{psnr:.2f} dB, {size / k:.1f} B" for psnr, size in saved)
            rows.append(f"| {name} | {k:,} | {cells} |")
    about = f"Gradients of {options.side}x{options.side} pixels, {options.steps} iterations"
    page = as_markdown(measure.describe(about, []), rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(page)
    print(page)


def gradients(side: int) -> dict[str, Tensor]:
    """Return pictures without edges, at 16 bits. [H, W, 3] each"""
    y, x = torch.meshgrid(*[torch.arange(side).double() / side] * 2, indexing="ij")
    linear = [0.2 + 0.3 * x, 0.3 + 0.2 * y, 0.5 - 0.2 * x * y]
    waves = [
        0.5 + 0.4 * (3 * x + 2 * y).sin(),
        0.5 + 0.3 * (4 * x * y).cos(),
        0.4 + 0.3 * (2 * x - 5 * y).sin(),
    ]
    shown = {"linear": torch.stack(linear, 2), "waves": torch.stack(waves, 2)}
    return {name: ((one * 65535).round() / 65535).float() for name, one in shown.items()}


def measured(fitted: Gaussians, image: Tensor, quality: str, bits: int) -> tuple[float, int]:
    """Return the PSNR in a file, and its bytes."""
    one = fitted if bits > 8 else fitted.replace(maps=())
    data = t2d.encode(one, quality)
    return metrics.psnr(t2d.decode(data).gaussians.render(), image), len(data)


def as_markdown(run: dict, rows: list[str]) -> str:
    heads = [f"{quality}, as of {bits} bits" for quality, bits in COLUMNS]
    lines = [
        f"{run['pictures']}: PSNR of the render of a file, and its bytes for a Gaussian.",
        "A lossless file is the fit itself.",
        "",
        f"- machine: {run['machine']}; backend {run['backend']}; commit {run['commit']}",
        f"- `{run['command']}`",
        "",
        f"| gradient | Gaussians | {' | '.join(heads)} |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=256, help="of a picture, in pixels (256)")
    parser.add_argument("--k", type=int, nargs="+", default=[500, 4000], help="(500 4000)")
    parser.add_argument("--steps", type=int, default=200, help="of each fit (200)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    out = measure.RESULTS / "depth.md"
    parser.add_argument("--out", type=Path, default=out, help="(results/depth.md)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
