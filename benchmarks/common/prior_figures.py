"""Figures of the prior: what its two networks do with a picture."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

import taichi2dgs
from common.panels import Panel, grid, measured
from nets import weights
from nets.unet import count_of
from pipelines.starts import prior, projection, sampling
from taichi2dgs.gaussians import Gaussians

COUNTS = (10_000, 50_000, 100_000)  # per 512x512 pixels
BLUR = 1.0  # in pixels, of the projections shown


class Start(NamedTuple):
    """How the prior begins: heatmap [H, W], Gaussians as placed and with attributes, features."""

    heat: Tensor
    placed: Gaussians
    gaussians: Gaussians
    features: Tensor  # of the attribute network, before its last layer [width, h, w]


def start_of(image: Tensor, k: int, steps: int) -> Start:
    """Return what a fit of so many steps begins with."""
    batch = image.permute(2, 0, 1)[None]
    position, attributes = weights.load("position"), weights.load("attributes")
    heat = prior.heatmaps(position, batch, [k])
    density = prior.densities(position, batch, [k], steps)
    (placed,) = prior.place(batch, density, [k], sampling.DEFAULT, 0)
    seen: list[Tensor] = []
    attributes.unet.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        (start,) = prior.attribute(attributes, batch, [placed], prior.rendered([placed]))
    patch = attributes.unet.patch
    height, width = (-(-extent // patch) for extent in placed.size)  # without the padding
    return Start(heat[0], placed, start, seen[0][0, :, :height, :width])


def draw_prior(image: Tensor, per_512: int, steps: int) -> Figure:
    k = count_of(per_512, image.shape[0] * image.shape[1])
    heat, placed, start, features = start_of(image, k, steps)
    fitted = taichi2dgs.fit(image, start, steps=steps).gaussians
    size = (image.shape[0], image.shape[1])
    offset = (start.xy - placed.xy) / placed.log_scale.exp()
    return grid(
        [
            Panel("picture", image),
            Panel("where fitted ones are", projection.project(fitted.xy, size, BLUR)),
            Panel("predicted heatmap", heat),
            Panel(f"{k:,} samples", projection.project(placed.xy, size, BLUR)),
            Panel("features, main three of them", main_three(features)),
            Panel("offset, in scales", painted(placed, offset.norm(dim=1))),
            Panel("brightness: scale, hue: rotation", painted(placed, hues(start))),
            Panel("colour added", painted(placed, (start.color - placed.color) * 4 + 0.5)),
            rendered("placed, round", placed, image),
            rendered("start of the fit", start, image),
            rendered(f"after {steps} iterations", fitted, image),
            Panel("its error, times 50", (fitted.render() - image).abs() * 50),
        ],
        4,
    )


def draw_density(image: Tensor) -> Figure:
    panels = []
    for per_512 in COUNTS:
        k = count_of(per_512, image.shape[0] * image.shape[1])
        heat, placed, start, _ = start_of(image, k, 0)
        share = (heat / heat.sum()).double()
        flat = float(-(share * share.log()).sum()) / np.log(share.numel())
        panels += [
            Panel(f"k = {k:,}: heatmap, entropy {flat:.4f}", heat),
            Panel("samples", projection.project(placed.xy, placed.size, BLUR)),
            rendered("start", start, image),
        ]
    return grid(panels, 3)


def rendered(name: str, gaussians: Gaussians, image: Tensor) -> Panel:
    render = gaussians.render()
    return Panel(measured(name, render, image), render)


def painted(placed: Gaussians, values: Tensor) -> Tensor:
    """Paint every pixel with the value of the Gaussians around it. [N] or [N, C] -> [H, W, C]"""
    color = values if values.ndim == 2 else values[:, None]
    return replace(placed, color=color).render()


def hues(gaussians: Gaussians) -> Tensor:
    """Colours by shape: bright where large, vivid where long, the hue by the long axis. [N, 3]"""
    larger, axis = gaussians.log_scale.max(1)
    turn = (gaussians.theta + axis * (math.pi / 2)).remainder(math.pi) / math.pi
    longer = larger - gaussians.log_scale.amin(1)
    hsv = torch.stack([turn, spread(longer, 0), spread(larger, 0.01)], 1)
    return torch.from_numpy(hsv_to_rgb(hsv.numpy())).float()


def main_three(features: Tensor) -> Tensor:
    """Show features by their three principal components. [width, h, w] -> [h, w, 3]"""
    flat = features.flatten(1).T.double()
    flat = flat - flat.mean(0)
    _, axes = torch.linalg.eigh(flat.T @ flat)  # in ascending order
    shown = [spread(flat @ axes[:, -1 - index], 0.01) for index in range(3)]
    return torch.stack(shown, 1).reshape(*features.shape[1:], 3)


def spread(values: Tensor, tail: float) -> Tensor:
    """Take values to [0, 1], 1 % of them to 1 and the share `tail` to 0."""
    low, high = np.quantile(values.numpy(), [tail, 0.99])
    return ((values - low) / max(high - low, 1e-9)).clamp(0, 1)
