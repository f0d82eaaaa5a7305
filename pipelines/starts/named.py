"""From pictures to Gaussians that are ready to be fitted: the named starts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nets.blockwise import blockwise
from nets.detail import gradient_density
from nets.weights import SHIPPED, file, load
from pipelines.defaults import START, STEPS
from pipelines.starts import prior, sampling
from pipelines.starts.names import STARTS
from taichi2dgs import limits
from taichi2dgs.checks import shown, whole
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import MAX_CHANNELS
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.stacks import as_stack
from taichi2dgs.tensors import is_dense, kind_of

# What a start takes at least, at its peak: measured with 3 million Gaussians of 3 and 16 channels,
# of which the prior takes 250 and 401 bytes each.
GAUSSIAN_BYTES, CHANNEL_BYTES = 110, 10


def initialize(
    image: Any,
    k: int,
    start: str = START,
    seed: int = 0,
    *,
    sampler: str | None = None,
    weights: str | Path | None = None,
    weight: Any = None,
    steps: int = STEPS,
    init: str | None = None,
) -> Gaussians:
    """Place k Gaussians on an image, ready to be fitted.

    Args:
        image: what `taichi2dgs.encode` takes: a path, a PIL image, or an array or tensor. [H, W, C]
        k: number of Gaussians; may exceed the number of pixels.
        start: see `initialize_batch`, as for the rest.
        seed: of the random numbers; the same seed gives the same start.
        sampler: how pixels are drawn.
        weights: folder of the networks' weights.
        weight: how much each pixel counts, see `taichi2dgs.fit`: Gaussians are drawn in proportion.
        steps: of the fit that is to follow, see `prior.densities`; 0 if there is to be none.
        init: an older name of `start`.

    Returns:
        Gaussians, on the device of the image.

    Raises:
        ValueError: an argument is out of range, or weights are missing or damaged.

    >>> initialize("sample:astronaut", 1000, "gradient")
    Gaussians(1,000; 512x512; 3 channels; cpu)
    """
    stack = as_stack(image, weight=weight)
    batch = stack.image.permute(2, 0, 1)[None]
    masses = None if stack.weight is None else stack.weight[None]
    made = initialize_batch(
        batch,
        k,
        start,
        seed,
        sampler=sampler,
        weights=weights,
        weight=masses,
        steps=steps,
        init=init,
    )[0]
    return made.replace(maps=stack.maps) if stack.maps else made


def initialize_batch(
    images: Tensor,
    k: int | Sequence[int],
    start: str = START,
    seed: int | list[int] = 0,
    *,
    sampler: str | None = None,
    weights: str | Path | None = None,
    weight: Tensor | None = None,
    steps: int = STEPS,
    init: str | None = None,
) -> list[Gaussians]:
    """Place Gaussians on a batch of images; the networks see all of them in one pass.

    Args:
        images: values in [0, 1]; the networks look at the first three channels, or at one repeated.
            [B, C, H, W]
        k: number of Gaussians, one for all images or one each.
        start: "prior" draws pixels by the position network's heatmap (see `prior.densities`), and
            the attribute network says what Gaussians there look like. "prior-no-position" draws
            uniformly, "prior-no-attributes" leaves Gaussians round, coloured by their pixel and
            scaled by the distance to three neighbours. "gradient" and "random" use no network: the
            first draws 70 % of the probability from the magnitude of the image gradient and 30 %
            uniformly, as Image-GS does.
        seed: of the random numbers; image b is drawn with seed + b, or with its own of a list.
        sampler: how pixels are drawn, see `sampling.sample`; with None "distinct" for "gradient"
            and "random", and the default of `sampling.sample` for the others.
        weights: folder of the networks' weights; the shipped ones if None.
        weight: how much each pixel counts, 0 or more and not all 0, by which the probability of a
            pixel is multiplied; None for all alike. [B, H, W]
        steps: of the fit that is to follow, see `prior.densities`; 0 if there is to be none.
        init: an older name of `start`.

    Returns:
        B x Gaussians, on the device of the images.

    Raises:
        ValueError: an argument is out of range or needs more memory than
            `taichi2dgs.set_memory_limit` allows, or weights are missing or damaged.

    Source: paper 3.3 to 3.5.

    >>> import torch
    >>> initialize_batch(torch.rand(2, 3, 8, 9), k=[20, 30], start="random")
    [Gaussians(20; 8x9; 3 channels; cpu), Gaussians(30; 8x9; 3 channels; cpu)]
    """
    pictures = _checked_batch(images)
    start = checked_start(start, init)
    seeds = sampling.checked_seeds(seed, len(pictures))
    if weights is not None and not (isinstance(weights, str | os.PathLike) and str(weights)):
        raise ValueError(f"weights={shown(weights)}; expected a folder, or None")
    counts = sampling.checked_counts(k, len(pictures))
    check_memory(sum(counts), pictures.shape[1])
    recipe = STARTS[start]
    learned = recipe.attributes or recipe.density == "network"
    if sampler is None:
        sampler = sampling.DEFAULT if learned else "distinct"
    sampling.checked_choice(sampler, "sampler", sampling.METHODS)
    masses = _checked_weight(weight, pictures)
    heat = _density(recipe.density, pictures, counts, weights, whole(steps, "steps", 0))
    inside = None if masses is None else masses > 0
    heat = heat if masses is None else heat * masses
    placed = prior.place(pictures, heat, counts, sampler, seeds, inside)
    if not recipe.attributes:
        return placed
    with torch.no_grad():
        net = _network("attributes", str(weights or SHIPPED), pictures.device)
        return prior.attribute(net, pictures, placed, prior.rendered(placed))


def initialize_all(
    images: Sequence[Stack],
    k: Sequence[int],
    start: str = START,
    seed: int = 0,
    weights: str | Path | None = None,
    steps: int = STEPS,
    together: bool = True,
) -> list[Gaussians]:
    """Place Gaussians on images of any sizes; the networks see those of one size in one pass.

    Args:
        images: pictures of any sizes.
        k: number of Gaussians of each image.
        start, weights, steps: see `initialize_batch`.
        seed: of the random numbers of each image.
        together: whether there is one pass for images of one size. It rounds otherwise than one for
            each image, in the seventh digit, so that now and then another pixel is drawn.
    """
    alike: dict[object, list[int]] = {}
    for n, one in enumerate(images):
        key = (one.image.shape, one.image.device, one.weight is not None)
        alike.setdefault(key if together else n, []).append(n)
    found: dict[int, Gaussians] = {}
    for numbers in alike.values():
        batch = torch.stack([images[n].image for n in numbers]).permute(0, 3, 1, 2)
        counts, seeds = [k[n] for n in numbers], [seed] * len(numbers)
        given = [weight for n in numbers if (weight := images[n].weight) is not None]
        masses = torch.stack(given) if given else None
        starts = initialize_batch(
            batch, counts, start, seeds, weights=weights, weight=masses, steps=steps
        )
        found |= dict(zip(numbers, starts, strict=True))
    return [found[n].replace(maps=image.maps) for n, image in enumerate(images)]


def checked_start(start: str, init: str | None = None) -> str:
    """Return the name of a start, which may have been given by the older argument `init`."""
    name, value = ("start", start) if init is None else ("init", init)
    sampling.checked_choice(value, name, STARTS)
    return value


def check_memory(k: int, channels: int) -> None:
    """Raise ValueError if a start of k Gaussians needs more than the limit."""
    limits.check(f"k={shown(k)}", k * (GAUSSIAN_BYTES + CHANNEL_BYTES * channels))


def _checked_batch(images: object) -> Tensor:
    """Return images as float32 without their autograd history, or raise ValueError."""
    if (
        not is_dense(images)
        or images.ndim != 4
        or not images.is_floating_point()
        or not 0 < images.shape[1] <= MAX_CHANNELS
        or 0 in images.shape
    ):
        raise ValueError(
            f"images is {kind_of(images)}; expected a tensor of floats in [0, 1], "
            f"[B, C, H, W] with up to {MAX_CHANNELS} channels"
        )
    pictures = images.detach().float()
    low, high = (float(extreme) for extreme in pictures.aminmax())
    if not 0 <= low <= high <= 1:
        raise ValueError(f"images has values from {low:.9g} to {high:.9g}; expected [0, 1]")
    return pictures


def _checked_weight(weight: object, pictures: Tensor) -> Tensor | None:
    """Return how much each pixel counts, on the device of the pictures, or raise ValueError."""
    if weight is None:
        return None
    expected = [pictures.shape[0], *pictures.shape[2:]]
    if not is_dense(weight) or weight.is_complex() or list(weight.shape) != expected:
        raise ValueError(f"weight is {kind_of(weight)}; expected a tensor {expected}, or None")
    masses = weight.detach().to(pictures.device, torch.float32)
    if not bool((masses >= 0).all() & masses.isfinite().all() & (masses > 0).any(1).any(1).all()):
        raise ValueError("weight has numbers below 0 or not finite, or only 0; expected 0 or more")
    return masses


def _density(kind: str, pictures: Tensor, counts: list[int], weights, steps: int) -> Tensor:
    """[B, C, H, W] -> [B, H, W]"""
    if kind == "gradient":
        return gradient_density(pictures)[:, 0]
    if kind == "uniform":
        return pictures.new_ones(len(pictures), *pictures.shape[2:])
    net = _network("position", str(weights or SHIPPED), pictures.device)
    return prior.densities(net, pictures, counts, steps)


def _network(name: str, folder: str, device: torch.device):
    return _loaded(name, file(name, folder).absolute(), device)


@lru_cache(maxsize=4)
def _loaded(name: str, path: Path, device: torch.device):
    """A file's name holds its hash, so weights trained anew into a folder are loaded anew."""
    return blockwise(load(name, path.parent).to(device))
