"""Draw what the prior does with a picture, as small WebP files in --out.

    python benchmarks/figures.py --image PICTURE

prior.webp follows the paper's Figure 3: the picture, where fitted Gaussians ended, the predicted
heatmap, the samples, the offsets, scales and colours that the attribute network adds, the start and
the fit. density.webp follows Figure 5: heatmaps and starts at three numbers of Gaussians.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import taichi2dgs
from nets import weights
from pipelines import prior, projection, sampling
from taichi2dgs import Gaussians, files, metrics

ROOT = Path(__file__).resolve().parents[1]
COUNTS = (10_000, 50_000, 100_000)  # per 512x512 pixels
BLUR = 1.0  # pixels, of reference heatmap and samples
DPI = 110


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--image", default="sample:astronaut", help="(sample:astronaut)")
    parser.add_argument("--k", type=int, default=50_000, help="Gaussians per 512x512 (50000)")
    parser.add_argument("--steps", type=int, default=200, help="iterations of the fit (200)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/figures")
    options = parser.parse_args()
    taichi2dgs.init(options.backend)
    image = files.read_image(options.image)
    options.out.mkdir(parents=True, exist_ok=True)
    save(draw_prior(image, options.k, options.steps), options.out / "prior.webp")
    save(draw_density(image), options.out / "density.webp")


def scaled(k: int, image: Tensor) -> int:
    """Return the number of Gaussians for an image that k per 512x512 pixels are."""
    return max(1, round(k * image.shape[0] * image.shape[1] / 512**2))


def start_of(image: Tensor, k: int) -> tuple[Tensor, Gaussians, Gaussians]:
    """Return the heatmap [H, W], the Gaussians as placed, and as the attribute network has them."""
    batch = image.permute(2, 0, 1)[None]
    position = weights.load("position")
    heat = prior.heatmaps(position, batch, [k])
    density = prior.densities(position, batch, [k])
    (placed,) = prior.place(batch, density, [k], sampling.DEFAULT, 0)
    with torch.no_grad():
        (start,) = prior.attribute(
            weights.load("attributes"), batch, [placed], prior.rendered([placed])
        )
    return heat[0], placed, start


def draw_prior(image: Tensor, per_512: int, steps: int):
    k = scaled(per_512, image)
    heat, placed, start = start_of(image, k)
    fitted = taichi2dgs.fit(image, start, steps=steps).gaussians
    size = (image.shape[0], image.shape[1])
    offset = (start.xy - placed.xy) / placed.log_scale.exp()
    larger, smaller = start.log_scale.amax(1), start.log_scale.amin(1)
    panels = [
        ("picture", image), ("where fitted ones are", projection.project(fitted.xy, size, BLUR)),
        ("predicted heatmap", heat), (f"{k:,} samples", projection.project(placed.xy, size, BLUR)),
        ("offset, in scales", painted(placed, offset.norm(dim=1))),
        ("larger scale, log", painted(placed, larger)),
        ("elongation, log", painted(placed, larger - smaller)),
        ("colour added", painted(placed, (start.color - placed.color) * 4 + 0.5)),
        named("placed, round", placed, image), named("start of the fit", start, image),
        named(f"after {steps} iterations", fitted, image),
        ("its error, times 50", (fitted.render() - image).abs() * 50),
    ]  # fmt: skip
    return grid(panels, 4)


def draw_density(image: Tensor):
    panels = []
    for per_512 in COUNTS:
        k = scaled(per_512, image)
        heat, placed, start = start_of(image, k)
        share = (heat / heat.sum()).double()
        flat = float(-(share * share.log()).sum()) / np.log(share.numel())
        panels += [
            (f"k = {k:,}: heatmap, entropy {flat:.4f}", heat),
            ("samples", projection.project(placed.xy, placed.size, BLUR)),
            named("start", start, image),
        ]
    return grid(panels, 3)


def named(name: str, gaussians: Gaussians, image: Tensor) -> tuple[str, Tensor]:
    render = gaussians.render()
    return f"{name}: {metrics.psnr(render, image):.2f} dB", render


def painted(placed: Gaussians, values: Tensor) -> Tensor:
    """Paint every pixel with the value of the Gaussians around it. [N] or [N, C] -> [H, W, C]"""
    color = values if values.ndim == 2 else values[:, None]
    return replace(placed, color=color).render()


def grid(panels: list[tuple[str, Tensor]], columns: int):
    """Lay out panels, each with its title; single channels get a colour map."""
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(2.7 * columns, 2.9 * rows))
    for axis, (title, panel) in zip(axes.flat, panels, strict=True):
        pixels = panel.detach().cpu().squeeze().numpy()
        if pixels.ndim == 2:
            axis.imshow(pixels, cmap="magma", vmax=np.quantile(pixels, 0.995))
        else:
            axis.imshow(pixels.clip(0, 1))
        axis.set_title(title, fontsize=8)
        axis.axis("off")
    figure.tight_layout(pad=0.4)
    return figure


def save(figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI, pil_kwargs={"quality": 80})
    plt.close(figure)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
