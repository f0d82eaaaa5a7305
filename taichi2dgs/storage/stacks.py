"""Stacks: pictures of one size as the channels of one image, which share their Gaussians."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taichi2dgs.checks import shown
from taichi2dgs.settings import MAX_CHANNELS
from taichi2dgs.storage import pictures
from taichi2dgs.storage.decoding import Decoded
from taichi2dgs.storage.maps import MOST, Map, Stack, checked, split, whole_maps
from taichi2dgs.storage.paths import named
from taichi2dgs.storage.stored import stack_of
from taichi2dgs.storage.weights import weight_of

# Parts of the names of maps that are colours, and of those that are not, though of three channels.
COLORS = ("color", "colour", "albedo", "diff", "emiss")
NUMBERS = ("normal", "nor_gl", "nor_dx", "nrm", "_nor", "rough", "metal", "displace", "height",
           "occlusion", "_arm", "_orm", "_ao", "bump", "position", "depth", "mask")  # fmt: skip


def read_stack(source: Any, *, linear: bool = False) -> Stack:
    """Read several pictures of one size, such as the maps of a material, as one.

    Colours are what has three or four channels and no name such as "normal", or has a name such as
    "color"; every other map is data, whose numbers are taken as they are. Colours come first, as
    the page shows the first map, and maps of three channels before those of one.

    Args:
        source: a folder of pictures, or the paths of some: each is a map, by the name of its file.
            Or pictures by their names, as `taichi2dgs.encode` takes them.
        linear: whether colours are to be linear light.

    Returns:
        What `taichi2dgs.encode` takes; up to 16 channels.

    Raises:
        ValueError: a picture cannot be read or is of another size than the first, two have one
            name, or there are none or too many channels; the message names it.

    >>> import taichi2dgs as t2
    >>> t2.write_image("color.png", torch.rand(8, 9, 3))
    >>> t2.write_image("height.png", torch.rand(8, 9, 1), bits=16)
    >>> stack = read_stack(["color.png", "height.png"])
    >>> g = t2.encode(stack, k=30, steps=5, start="gradient")
    >>> {name: list(image.shape) for name, image in t2.render_stack(g).items()}
    {'color': [8, 9, 3], 'height': [8, 9, 1]}
    """
    if not isinstance(linear, bool):
        raise ValueError(f"linear={shown(linear)}; expected True or False")
    parts = [_read(name, picture) for name, picture in _sources(source).items()]
    _check_sizes(parts)
    parts.sort(key=lambda part: (part[1].maps[0].kind == "data", -part[1].image.shape[2]))
    channels = sum(part.image.shape[2] for _, part in parts)
    if channels > MAX_CHANNELS:
        counts = ", ".join(f"{one.name} {one.channels}" for _, part in parts for one in part.maps)
        raise ValueError(
            f"{shown(source)} has {channels} channels ({counts}); expected at most {MAX_CHANNELS}"
        )
    maps = checked([one for _, part in parts for one in part.maps], channels)
    device = parts[0][1].image.device
    stack = Stack(torch.cat([part.image.to(device) for _, part in parts], dim=2), maps)
    return stack.linear() if linear else stack


def _sources(source: Any) -> dict[str, Any]:
    """Return pictures, or their paths, by the names of their maps."""
    if isinstance(source, Mapping):
        found = dict(source)
    elif isinstance(source, str | os.PathLike):
        folder = Path(named(source))
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder; expected one of pictures, or their paths")
        paths = sorted(filter(pictures.is_picture, folder.iterdir()))
        if not paths:
            raise ValueError(f"{folder}: no pictures there")
        found = _by_stem(paths)
    elif isinstance(source, Sequence) and not isinstance(source, bytes | bytearray | range):
        found = _by_stem([Path(named(path)) for path in source])
    else:
        raise ValueError(f"source={shown(source)}; expected a folder, paths, or names and pictures")
    if not found:
        raise ValueError(f"source={shown(source)}; expected at least one picture")
    return found


def _by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        other = next((name for name in found if name.casefold() == path.stem.casefold()), None)
        if other is not None:
            raise ValueError(f"{path}: has the name of {found[other]}; expected another name")
        found[path.stem] = path
    return found


def _is_data(name: str, channels: int) -> bool:
    """Whether a map holds no colours, by its name and channels.

    >>> _is_data("NormalGL", 3), _is_data("albedo", 1), _is_data("Wood_2K_Color", 3)
    (True, False, False)
    """
    lower = name.lower()
    if any(part in lower for part in COLORS):
        return False
    return channels < 3 or any(part in lower for part in NUMBERS)


def _read(name: Any, picture: Any) -> tuple[str, Stack]:
    """Return what errors call a map, and the stack of that map alone."""
    is_file = isinstance(picture, str | os.PathLike)
    label = named(picture) if is_file else f"source[{shown(name)}]"
    try:
        Map(name)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from None
    if not name:
        raise ValueError(f"{label}: expected a name of the map, too")
    if is_file:
        part = pictures.read_picture(picture, name, _is_data(name, 3))
        if part.maps[0].kind != "data" and _is_data(name, part.image.shape[2]):
            part = pictures.read_picture(picture, name, True)
        return label, part
    part = as_stack(picture)
    channels = part.image.shape[2]
    if channels > MOST or len(part.maps) > 1:
        raise ValueError(f"{label} has {channels} channels; expected one map of 1 to {MOST}")
    one = whole_maps(part.maps, channels)[0]
    if one.kind == "srgb" and _is_data(name, channels):
        if isinstance(picture, np.ndarray) and picture.dtype.kind != "f":
            return label, stack_of(Decoded(picture), label, name, True)
        one = replace(one, kind="data")
    return label, Stack(part.image, (replace(one, name=name),))


def _check_sizes(parts: list[tuple[str, Stack]]) -> None:
    first, stack = parts[0]
    height, width = stack.image.shape[:2]
    for label, part in parts:
        if part.image.shape[:2] != (height, width):
            found = "x".join(map(str, part.image.shape[:2]))
            raise ValueError(f"{label}: {found} pixels; expected {height}x{width}, as {first} has")


def as_stack(image: Any, linear: bool = False, weight: Any = None) -> Stack:
    """Return a picture of any kind as stored values, with what they stand for.

    Args:
        image: what `taichi2dgs.encode` takes.
        linear: whether colours are to be linear light.
        weight: how much each pixel counts, see `taichi2dgs.fit`.

    Raises:
        ValueError: it is no picture, or the weights are none of it.
    """
    if isinstance(image, Stack):
        stack = image
    elif isinstance(image, str | os.PathLike):
        stack = pictures.read_picture(image)
    else:
        stack = Stack(pictures.as_image(image))
        if _is_deep(image) and stack.image.shape[2] <= MOST:
            stack = Stack(stack.image, (Map(channels=stack.image.shape[2], bits=16),))
    height, width = stack.image.shape[:2]
    stack = replace(stack, weight=weight_of(stack, weight, (height, width)))
    return stack.linear() if linear else stack


def _is_deep(image: Any) -> bool:
    """Whether a picture in memory has integers of 16 bits."""
    if isinstance(image, Image.Image):
        return image.mode.startswith("I")
    return isinstance(image, np.ndarray | Tensor) and "uint16" in str(image.dtype)


def stored_as(image: Any, maps: tuple[Map, ...]) -> Tensor:
    """Return a picture as stored values of some maps: those that Gaussians have.

    Arrays and tensors of floats are taken as stored values, and stacks have them; files, PIL images
    and integers are converted to the light that a single map of colours has.

    Args:
        image: what `taichi2dgs.encode` takes; of several maps, the path of their folder will do.
        maps: of the Gaussians.

    Raises:
        ValueError: it is no picture, or a map is missing.
    """
    is_stored = isinstance(image, Stack | Tensor) or (
        isinstance(image, np.ndarray) and image.dtype.kind == "f"
    )
    if len(maps) > 1 and isinstance(image, str | os.PathLike):
        return _in_order(image, maps)
    if len(maps) != 1 or maps[0].kind == "data" or is_stored:
        return pictures.as_image(image)
    given = as_stack(image)
    before, after = whole_maps(given.maps, given.image.shape[2])[0], maps[0]
    same = (before.kind, before.low, before.high) == (after.kind, after.low, after.high)
    if same or before.kind == "data" or before.channels != after.channels:
        return given.image
    return after.stored(before.light(given.image))


def _in_order(folder: str | os.PathLike[str], maps: tuple[Map, ...]) -> Tensor:
    """Return the stored values of a folder's pictures as some maps are."""
    stack = read_stack(folder, linear=any(one.kind == "linear" for one in maps))
    found = {one.name: part for one, part in split(stack.image, stack.maps)}
    names = [one.name for one in maps]
    if set(found) != set(names):
        raise ValueError(
            f"{named(folder)}: has the maps {', '.join(found)}; expected {', '.join(names)}"
        )
    return torch.cat([found[name] for name in names], dim=2)
