"""From a heatmap to k pixels: the samplers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import limits
from taichi2dgs.checks import shown, whole
from taichi2dgs.tensors import is_dense, kind_of

DEFAULT = "systematic"
MAX_SEED = 2**63 - 1  # torch's generators take no more


def sample(
    heatmaps: Tensor,
    k: int | Sequence[int],
    method: str = DEFAULT,
    seed: int | list[int] = 0,
    inside: Tensor | None = None,
) -> list[Tensor]:
    """Choose k pixels of each heatmap, more where it is warmer.

    Args:
        heatmaps: 0 or more, in any unit; one that is 0 everywhere counts as uniform. [B, H, W]
        k: number of pixels, one for all or one each; may exceed the number there is.
        method: "multinomial" draws with replacement in proportion to the heat (paper Eq. 8);
            "distinct" draws in the same way without replacement; "top-k" takes the warmest;
            "floyd-steinberg" diffuses the rounding error of the expected counts, as Instant-GI
            does; "systematic" takes every 1/k-th of the heat along a Hilbert curve, so that every
            region gets its share to within a pixel or two.
        seed: of the random numbers; image b of a batch is drawn as a batch of one with seed + b,
            or with its own of a list.
        inside: where pixels may be chosen, at least one of each heatmap; anywhere if None.
            bool [B, H, W]

    Returns:
        Pixel numbers, row by row, without order. All methods but the first repeat a pixel only
        when every pixel is taken. B x [k]

    Raises:
        ValueError: an argument does not fit, or needs more memory than the limit.

    Source: paper Eq. 8.
    """
    if not is_dense(heatmaps) or heatmaps.is_complex():
        raise ValueError(f"heatmaps is {kind_of(heatmaps)}; expected a dense tensor, [B, H, W]")
    if heatmaps.ndim != 3 or 0 in heatmaps.shape:
        raise ValueError(f"heatmaps has shape {list(heatmaps.shape)}; expected [B, H, W]")
    checked_choice(method, "method", METHODS)
    seeds = checked_seeds(seed, len(heatmaps))
    counts = checked_counts(k, len(heatmaps))
    limits.check(f"k={shown(sum(counts))}", sum(counts) * np.dtype(np.int64).itemsize)
    heat = heatmaps.detach().cpu().double().numpy()
    if not np.isfinite(heat).all() or heat.min() < 0:
        raise ValueError("heatmaps has values below 0 or not finite; expected 0 or more")
    places = np.ones(heat.shape, bool) if inside is None else _checked_inside(inside, heat)
    return [
        torch.from_numpy(_draw(one, count, method, np.random.default_rng(own), allowed))
        for one, count, own, allowed in zip(heat, counts, seeds, places, strict=True)
    ]


def _checked_inside(inside: object, heat: np.ndarray) -> np.ndarray:
    """Return where pixels may be chosen, or raise ValueError. [B, H, W]"""
    if not is_dense(inside) or inside.dtype != torch.bool or inside.shape != heat.shape:
        raise ValueError(f"inside is {kind_of(inside)}; expected torch.bool {list(heat.shape)}")
    places = inside.cpu().numpy()
    if not places.any((1, 2)).all():
        raise ValueError("inside has a heatmap without a pixel; expected one or more of each")
    return places


def checked_count(k: object) -> int:
    """Return a number of Gaussians, or raise ValueError."""
    return whole(k, "k", 1)


def checked_counts(k: object, number: int) -> list[int]:
    """Return a number of Gaussians for each of some images, given one for all or one each.

    Raises:
        ValueError: it is neither.
    """
    several = isinstance(k, Sequence) and not isinstance(k, str | bytes)
    if not several and getattr(k, "ndim", 0) != 1:  # nor an array or a tensor
        return [checked_count(k)] * number
    counts = [checked_count(count) for count in k]  # type: ignore[attr-defined]
    if len(counts) != number:
        raise ValueError(
            f"k has {len(counts)} numbers; expected one number for each of {number} images"
        )
    return counts


def checked_seed(seed: object) -> int:
    """Return the seed of random numbers, or raise ValueError."""
    return whole(seed, "seed", 0, MAX_SEED)


def checked_seeds(seed: object, number: int) -> list[int]:
    """Return the seed of each of some images, given the first one's or a list, or raise ValueError.

    >>> checked_seeds(7, 3), checked_seeds([7, 7], 2)
    ([7, 8, 9], [7, 7])
    """
    if not isinstance(seed, list):
        return [checked_seed(seed) + index for index in range(number)]
    if len(seed) != number:
        raise ValueError(
            f"seed has {len(seed)} numbers; expected one number for each of {number} images"
        )
    return [checked_seed(one) for one in seed]


def checked_choice(value: object, name: str, choices: Collection[str]) -> str:
    """Return one of some names, or raise ValueError naming the argument."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={shown(value)}; expected one of {', '.join(choices)}")
    return value


def expected_counts(heat: np.ndarray, k: int) -> np.ndarray:
    """Scale a heatmap to a sum of k with no value above 1; the excess goes to the others.

    Args:
        heat: [H, W]
        k: at most the number of pixels.

    Returns:
        Probability that each pixel is among the k. [H, W]

    With heat 8, 1, 1, 2 and k = 2, the first pixel would get 2 x 8 / 12, more than 1: it gets 1,
    and the other pixels share what is left, 1, by their heat 1, 1, 2.

    >>> expected_counts(np.array([[8.0, 1.0], [1.0, 2.0]]), 2).tolist()
    [[1.0, 0.25], [0.25, 0.5]]
    """
    flat = np.sort(heat.ravel())[::-1]
    rest = flat[::-1].cumsum()[::-1]  # heat from the i-th warmest pixel on
    full = np.arange(len(flat))  # how many of the warmest pixels have a count of 1
    fits = flat * (k - full) <= rest  # whether the next stays below 1 if the i warmest are full
    first = int(fits.argmax()) if fits.any() else k
    if first >= k or rest[first] <= 0:  # fewer than k warm pixels: they, and a share of the cold
        warm = heat > 0
        cold = (k - warm.sum()) / max(1, (~warm).sum())
        return np.where(warm, 1.0, max(0.0, cold))
    return np.minimum(heat * ((k - first) / rest[first]), 1.0)


def _draw(
    heat: np.ndarray, k: int, method: str, rng: np.random.Generator, inside: np.ndarray
) -> np.ndarray:
    """Choose k pixels of one heatmap, see `sample`. [H, W] -> [k]"""
    heat = heat * inside
    if heat.max() == 0:
        heat = inside.astype(np.float64)
    if not np.isfinite(heat.sum()):
        heat = heat / heat.max()
    heat = heat / heat.sum()
    if method == "multinomial":
        return rng.choice(heat.size, k, p=heat.ravel())
    places = np.flatnonzero(inside)
    rounds, rest = divmod(k, len(places))
    drawn = [places] * rounds
    if rest:
        chosen = METHODS[method](heat, rest, rng)
        allowed = chosen[inside.ravel()[chosen]]
        drawn.append(chosen if len(allowed) == rest else _exactly(allowed, rest, heat, rng))
    return np.concatenate(drawn)


def _distinct(heat: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Give each pixel a clock that ticks at the rate of its heat; return the k that tick first."""
    with np.errstate(divide="ignore"):
        ticks = rng.exponential(size=heat.size) / heat.ravel()
    cold = heat.ravel() == 0
    ticks[cold] = np.finfo(float).max * rng.random(cold.sum())  # last, in any order
    return np.argpartition(ticks, k - 1)[:k]


def _top_k(heat: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Choose the k warmest pixels; of equally warm ones, any."""
    return np.lexsort((rng.random(heat.size), -heat.ravel()))[:k]


def _systematic(heat: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Choose a pixel wherever the sum of expected counts along a curve passes a whole number.

    The sum starts at a random number below 1. For the heat 8, 1, 1, 2 of `expected_counts` and
    k = 2, the curve goes by the pixels 0, 2, 3, 1, whose counts add up to 1, 1.25, 1.75, 2. From
    0.4 on, these are 1.4, 1.65, 2.15, 2.4: the sum passes 1 at pixel 0, and 2 at pixel 3. From 0.2
    on, it would pass 2 at pixel 1.
    """
    order = hilbert_order(*heat.shape)
    reached = expected_counts(heat, k).ravel()[order].cumsum()
    steps = np.floor(reached * (k / reached[-1]) + rng.random())
    chosen = np.diff(steps, prepend=0) > 0
    return _exactly(order[chosen], k, heat, rng)


def _floyd_steinberg(heat: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Round expected counts pixel by pixel, and hand the error on to the pixels that come next.

    Pixels of equal x + 2 y do not depend on each other, so that a diagonal of them goes at once.
    """
    height, width = heat.shape
    value = np.zeros((height + 1, width + 2))
    value[:-1, 1:-1] = expected_counts(heat, k)
    chosen = np.zeros(heat.shape, dtype=bool)
    for diagonal in range(width + 2 * (height - 1)):
        y = np.arange(max(0, (diagonal - width + 2) // 2), min(height, diagonal // 2 + 1))
        x = diagonal - 2 * y
        chosen[y, x] = value[y, x + 1] + 0.02 * (rng.random(len(y)) - 0.5) >= 0.5
        error = value[y, x + 1] - chosen[y, x]
        value[y, x + 2] += error * (7 / 16)
        value[y + 1, x] += error * (3 / 16)
        value[y + 1, x + 1] += error * (5 / 16)
        value[y + 1, x + 2] += error * (1 / 16)
    return _exactly(np.flatnonzero(chosen), k, heat, rng)


def _exactly(pixels: np.ndarray, k: int, heat: np.ndarray, rng: np.random.Generator):
    """Drop pixels at random, or draw more by heat, until there are k."""
    if len(pixels) >= k:
        return rng.permutation(pixels)[:k]
    others = np.setdiff1d(np.arange(heat.size), pixels)
    more = _distinct(heat.ravel()[others], k - len(pixels), rng)
    return np.concatenate([pixels, others[more]])


@lru_cache(maxsize=8)
def hilbert_order(height: int, width: int) -> np.ndarray:
    """Return pixel numbers in the order of a Hilbert curve: neighbours in it touch. [H * W]"""
    y, x = np.divmod(np.arange(height * width), width)
    distance = np.zeros(height * width, dtype=np.int64)
    side = 1 << (max(height, width) - 1).bit_length()
    while side > 1:
        side //= 2
        right, low = (x & side) > 0, (y & side) > 0
        distance += side * side * ((3 * right) ^ low)
        swap = ~low
        flip = swap & right
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x & (side - 1)),
            np.where(flip, side - 1 - (y & (side - 1)), y & (side - 1)),
        )
        x, y = np.where(swap, y, x), np.where(swap, x, y)
    return distance.argsort(kind="stable")


METHODS = {
    "multinomial": None,
    "distinct": _distinct,
    "top-k": _top_k,
    "floyd-steinberg": _floyd_steinberg,
    "systematic": _systematic,
}
