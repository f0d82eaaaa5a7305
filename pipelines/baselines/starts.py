"""How the peers begin: Gaussians before the first step, by the name of the method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from nets.detail import blur, gradient_magnitude
from pipelines.baselines.parameters import extent_of, from_cholesky
from pipelines.baselines.triangles import triangulated
from pipelines.defaults import STEPS
from pipelines.encoding import SOLVED
from pipelines.starts import named, sampling
from pipelines.starts.names import STARTS as OURS
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.gaussians import Gaussians

SCALE = 5.0  # pixels, of all Gaussians that Image-GS begins with
RANDOM_SHARE = 0.3  # share of Image-GS's centres that are drawn uniformly
SALIENCY_SIDE = 64  # pixels, to which spectral residual scales the shorter side
SALIENCY_BLUR = 2.5  # pixels of the scaled picture
AVERAGED = 3  # frequencies on a side, over which the spectrum is averaged
AVERAGE_DETAIL = 0.0687  # mean gradient magnitude of 211 of the training photographs


def gaussianimage_cholesky(image: Tensor, k: int, seed: int) -> Gaussians:
    """Uniform centres and colours; Cholesky factors uniform in [0, 1], plus 0.5 on the diagonal."""
    size = (image.shape[0], image.shape[1])
    draw = _drawn(image, k, seed)
    shape = draw[:, 2:5] + draw.new_tensor([0.5, 0, 0.5])
    return from_cholesky(
        torch.cat([draw[:, :2] * extent_of(size, draw), shape, draw[:, 5:]], 1), size
    )


def gaussianimage_rs(image: Tensor, k: int, seed: int) -> Gaussians:
    """Uniform centres and colours; scales uniform in [0.5, 1.5]; a rotation above half a turn."""
    size = (image.shape[0], image.shape[1])
    draw = _drawn(image, k, seed)
    return Gaussians(
        xy=draw[:, :2] * extent_of(size, draw),
        log_scale=(draw[:, 2:4] + 0.5).log(),
        theta=2 * math.pi * torch.sigmoid(draw[:, 4]),
        color=draw[:, 5:].contiguous(),
        size=size,
    )


def _drawn(image: Tensor, k: int, seed: int) -> Tensor:
    """Draw from [0, 1), the same on every device, for each number of k Gaussians. [k, 5 + C]"""
    generator = torch.Generator("cpu").manual_seed(seed)
    draw = torch.rand(k, 5 + image.shape[2], generator=generator, dtype=torch.float32, device="cpu")
    return draw.to(image.device)


def image_gs(density: Tensor, image: Tensor, k: int, seed: int) -> Gaussians:
    """30 % of the centres drawn uniformly, the others by a density; round, of one scale.

    Args:
        density: [H, W]
        image: [H, W, C]
        k: number of Gaussians.
        seed: of the draws.
    """
    uniform = round(RANDOM_SHARE * k)
    maps = torch.stack([torch.ones_like(density), density])
    counts = [max(1, uniform), max(1, k - uniform)]
    pixels = torch.cat(sampling.sample(maps, counts, "distinct", seed))[:k].to(image.device)
    return at_pixels(pixels, image, image.reshape(-1, image.shape[2])[pixels])


def at_pixels(pixels: Tensor, image: Tensor, color: Tensor) -> Gaussians:
    """Round Gaussians of Image-GS's one scale at the centres of pixels. [N], [H, W, C], [N, C]

    All three tensors are on one device.
    """
    height, width, _ = image.shape
    xy = torch.stack([pixels % width, pixels // width], 1).float() + 0.5
    log_scale = xy.new_full((len(pixels), 2), math.log(SCALE))
    return Gaussians(xy, log_scale, xy.new_zeros(len(xy)), color.contiguous(), (height, width))


def image_gs_gradient(image: Tensor, k: int, seed: int) -> Gaussians:
    """Image-GS by the square of the gradient's magnitude."""
    magnitude = gradient_magnitude(image.permute(2, 0, 1)[None])[0, 0]
    return image_gs(magnitude.square(), image, k, seed)


def image_gs_saliency(image: Tensor, k: int, seed: int) -> Gaussians:
    """Image-GS by saliency: here that of the spectral residual, which needs no weights."""
    return image_gs(spectral_residual(image), image, k, seed)


def spectral_residual(image: Tensor) -> Tensor:
    """Return the saliency map of Hou and Zhang (CVPR 2007), 0 or more. [H, W, C] -> [H, W]"""
    height, width, _ = image.shape
    grey = image.mean(-1)[None, None]
    factor = SALIENCY_SIDE / min(height, width)
    size = [max(1, round(height * factor)), max(1, round(width * factor))]
    small = F.interpolate(grey, size, mode="bilinear", antialias=True, align_corners=False)
    spectrum = torch.fft.fft2(small)
    logs = spectrum.abs().clamp(min=1e-9).log()
    around = F.pad(logs, [AVERAGED // 2] * 4, mode="circular")
    residual = logs - F.avg_pool2d(around, AVERAGED, stride=1)
    salient = torch.fft.ifft2(torch.polar(residual.exp(), spectrum.angle())).abs().square()
    smooth = blur(salient, salient.new_tensor([SALIENCY_BLUR]))
    return F.interpolate(smooth, (height, width), mode="bilinear", align_corners=False)[0, 0]


PEERS: dict[str, Callable[[Tensor, int, int], Gaussians]] = {
    "gaussianimage-cholesky": gaussianimage_cholesky,
    "gaussianimage-rs": gaussianimage_rs,
    "image-gs-gradient": image_gs_gradient,
    "image-gs-saliency": image_gs_saliency,
    "instant-gi": triangulated,
}
SOLVED_PRIOR = "prior-solved"  # the prior with the colours that a picture without a fit gets
STARTS = (*PEERS, *OURS, SOLVED_PRIOR)


def adaptive_count(image: Tensor, k: int) -> int:
    """Return a number of Gaussians in proportion to a picture's detail, k for an average one.

    Instant-GI sums its position map for this; here detail is the gradient's mean magnitude.
    """
    detail = float(gradient_magnitude(image.permute(2, 0, 1)[None]).mean())
    return max(1, round(k * detail / AVERAGE_DETAIL))


def begin(
    image: Tensor,
    k: int,
    start: str,
    seed: int = 0,
    sampler: str | None = None,
    steps: int = STEPS,
) -> Gaussians:
    """Return the Gaussians that a start begins with.

    Args:
        image: values in [0, 1]. [H, W, C]
        k: number of Gaussians.
        start: one of `STARTS`.
        seed: of everything random.
        sampler: of this library's own starts, see `sampling.sample`; None for their defaults.
        steps: of the fit that is to follow, by which those choose their density.
    """
    named.check_memory(k, image.shape[2])
    if start in PEERS:
        return PEERS[start](image, k, seed)
    if start == SOLVED_PRIOR:
        return solve_colors(image, begin(image, k, "prior", seed, sampler, steps), SOLVED)
    batch = image.permute(2, 0, 1)[None]
    return named.initialize_batch(batch, k, start, seed, sampler=sampler, steps=steps)[0]


def scaled(gaussians: Gaussians, factor: float) -> Gaussians:
    """Return Gaussians whose standard deviations are multiplied by a factor."""
    return replace(gaussians, log_scale=gaussians.log_scale + math.log(factor))
