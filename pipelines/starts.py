"""Where Gaussians start, without any learned prior."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import Gaussians
from taichi2dgs.neighbours import neighbour_distances

INITS = ("random", "gradient")
UNIFORM_SHARE = 0.3  # of Image-GS's mixture of gradient magnitude and uniform
NEIGHBOURS = 3
SCALE_PER_DISTANCE = 0.7
MIN_SCALE = 0.3  # pixels; duplicates would otherwise start infinitely small


def initialize(image: Tensor | np.ndarray, k: int, init: str = "gradient", seed: int = 0):
    """Place k Gaussians on an image, ready to be fitted.

    Args:
        image: values in [0, 1]. [H, W, C]
        k: number of Gaussians; may exceed the number of pixels.
        init: "random" places centres uniformly; "gradient" draws 70 % of the probability from the
            magnitude of the image gradient and 30 % uniformly, as Image-GS does.
        seed: of the random numbers; the same seed gives the same start.

    Returns:
        Gaussians: round, scaled by the mean distance to three neighbours, coloured by the pixel
        under each centre.

    Raises:
        ValueError: an argument is out of range.
    """
    picture = torch.as_tensor(image)
    if picture.ndim != 3 or not picture.is_floating_point() or 0 in picture.shape:
        raise ValueError(
            f"image is {picture.dtype} {list(picture.shape)}; expected floats, [H, W, C]"
        )
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValueError(f"k={k!r}; expected a whole number of 1 or more")
    if init not in INITS:
        raise ValueError(f"init={init!r}; expected one of {', '.join(INITS)}")
    picture = picture.float()
    height, width, _ = picture.shape
    density = torch.ones(height, width) if init == "random" else gradient_density(picture.cpu())
    pixels, xy = _sample(density.numpy(), k, np.random.default_rng(seed))
    scale = SCALE_PER_DISTANCE * _mean_distance(xy, max(height, width))
    color = picture.reshape(-1, picture.shape[2])[pixels.to(picture.device)]
    return Gaussians(
        xy=xy,
        log_scale=scale.clamp(min=MIN_SCALE).log()[:, None].repeat(1, 2),
        theta=torch.zeros(k),
        color=color.cpu().contiguous(),
        size=(height, width),
    ).to(picture.device)


def gradient_density(image: Tensor) -> Tensor:
    """Return Image-GS's sampling density: 70 % gradient magnitude, 30 % uniform; it sums to 1.

    Args:
        image: [H, W, C]

    Returns:
        Probabilities. [H, W]
    """
    grey = image.mean(-1)
    padded = torch.nn.functional.pad(grey[None], (1, 1, 1, 1), mode="replicate")[0]
    dx = padded[1:-1, 2:] - padded[1:-1, :-2]
    dy = padded[2:, 1:-1] - padded[:-2, 1:-1]
    magnitude = torch.hypot(dx, dy).double()
    uniform = torch.full_like(magnitude, 1 / magnitude.numel())
    if float(magnitude.sum()) == 0:
        return uniform
    return (1 - UNIFORM_SHARE) * magnitude / magnitude.sum() + UNIFORM_SHARE * uniform


def _sample(density: np.ndarray, k: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Draw k pixels by density without replacement, and a point in each.

    Points are pixel centres. Where k exceeds the number of pixels, every pixel is drawn before any
    is drawn again, and a repeated pixel gets a random point.

    Returns:
        Pixel numbers, row by row, and points. [k], [k, 2]
    """
    pixels = density.size
    weight = density.ravel() / density.sum()
    rounds, rest = divmod(k, pixels)
    drawn = [np.arange(pixels)] * rounds + [rng.choice(pixels, rest, replace=False, p=weight)]
    index = np.concatenate(drawn)
    offset = rng.random((k, 2))
    offset[:pixels] = 0.5
    corner = np.stack([index % density.shape[1], index // density.shape[1]], axis=1)
    return torch.from_numpy(index), torch.from_numpy(corner + offset).float()


def _mean_distance(xy: Tensor, alone: float) -> Tensor:
    """Mean distance to the nearest neighbours; `alone` where there are none. [N]"""
    distances = neighbour_distances(xy, NEIGHBOURS)
    there = torch.isfinite(distances)
    total = torch.where(there, distances, 0.0).sum(1)
    return torch.where(there[:, 0], total / there.sum(1).clamp(min=1), alone)
