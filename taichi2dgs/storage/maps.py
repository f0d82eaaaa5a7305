"""What the channels of a picture are: one map or several, of colours or of other numbers.

Gaussians hold stored values from 0 to 1. A map says what these stand for, and goes with the
Gaussians into their file. A plain picture, of 8 bits in sRGB, has no map.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.checks import number, shown, whole
from taichi2dgs.storage import curves
from taichi2dgs.storage.streams import Reader

KINDS = ("srgb", "linear", "pq", "data")
DEPTHS = (8, 16, 32)
MOST = 4  # channels of a map
LONGEST = 60  # characters of a name
FORBIDDEN = frozenset('/\\:*?"<>|')  # in names of files, which maps become
NARROW = 2.0**-100  # from low to high, at least: tiny floats are 0 to some devices
OPAQUE = 1e-3  # colours are divided by no less opacity than this
LENGTH, REST = struct.Struct("<B"), struct.Struct("<BBB2f")


@dataclass(frozen=True)
class Map:
    """Channels of a picture that belong together, and what their stored values stand for.

    Args:
        name: of the map, and of the file that it becomes; may be empty where there is one only.
        channels: 1 to 4. Of 2 or 4 the last is the opacity, by which the others are multiplied,
            unless the kind is "data".
        kind: "srgb": values of sRGB. "linear": linear light. "pq": light by the curve of HDR video,
            SMPTE ST 2084. "data": plain numbers, such as heights or the directions of normals.
        bits: of a channel in the file that it came from: 8, 16, or 32, which are floats.
        low, high: of "linear" and "data", what stored 0 and 1 stand for; of "pq", high is the light
            of stored 1. The white of sRGB is light 1. Rounded to float32.

    Raises:
        ValueError: an argument is out of range.

    >>> Map("height", 1, "data", 32, 0.0, 12.5).values(torch.tensor([0.5]))
    tensor([6.2500])
    """

    name: str = ""
    channels: int = 3
    kind: str = "srgb"
    bits: int = 8
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "channels", whole(self.channels, "channels", 1, MOST))
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(f"kind={shown(self.kind)}; expected one of {', '.join(KINDS)}")
        if whole(self.bits, "bits", 8, 32) not in DEPTHS:
            raise ValueError(f"bits={shown(self.bits)}; expected 8, 16 or 32")
        object.__setattr__(self, "bits", int(self.bits))
        with np.errstate(over="ignore"):
            for end in ("low", "high"):
                value = float(np.float32(number(getattr(self, end))))
                object.__setattr__(self, end, value)
        ranged = (0.0, 1.0) if self.kind == "srgb" else (0.0, self.high)
        is_free = self.kind in ("linear", "data")
        if not (is_free or (self.low, self.high) == ranged) or not NARROW <= self.span < math.inf:
            raise ValueError(
                f"low={self.low:g}, high={self.high:g}; expected low < high, 0 and 1 for srgb, and "
                "low 0 for pq"
            )

    @property
    def span(self) -> float:
        """How much stored 1 stands for beyond stored 0."""
        return self.high - self.low

    @property
    def has_opacity(self) -> bool:
        """Whether the last channel is the opacity."""
        return self.channels in (2, 4) and self.kind != "data"

    def values(self, stored: Tensor) -> Tensor:
        """Return what stored values stand for: values of sRGB, light, or numbers. [..., C]"""
        return stored if self.kind == "srgb" else self.light(stored)

    def light(self, stored: Tensor) -> Tensor:
        """Return the light, or the numbers, of stored values. [..., C]"""
        if self.kind == "srgb":
            return self._each(stored, _by_numpy(lambda v: curves.from_srgb(v.clip(0, 1))))
        if self.kind == "pq":
            return self._each(stored, _by_numpy(lambda v: self.high * curves.from_pq(v.clip(0, 1))))
        return self._each(stored, lambda v: self.low + self.span * v)

    def stored(self, light: Tensor) -> Tensor:
        """Return the stored values, from 0 to 1, of light, or of numbers. [..., C]"""
        if self.kind == "srgb":
            return self._each(light, _by_numpy(lambda v: curves.to_srgb(v.clip(0, 1))))
        if self.kind == "pq":
            return self._each(light, _by_numpy(lambda v: curves.to_pq((v / self.high).clip(0, 1))))
        return self._each(light, lambda v: ((v - self.low) / self.span).clamp(0, 1))

    def shown(self, stored: Tensor) -> Tensor:
        """Return stored values as an image: sRGB from 0 to 1, data as they are. [..., C]"""
        if self.kind in ("srgb", "data"):
            return stored
        return Map(channels=self.channels).stored(self.light(stored))

    def _each(self, image: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Change colours, which are divided by their opacity for that if there is any."""
        if not self.has_opacity:
            return change(image)
        color, opacity = image[..., :-1], image[..., -1:]
        changed = change(color / opacity.clamp(min=OPAQUE)) * opacity
        return torch.cat([changed, opacity], dim=-1)


def _by_numpy(curve: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensor], Tensor]:
    """Return a curve of arrays of float64 as one of tensors of any type; it has no gradient."""

    def apply(part: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(curve(part.detach().cpu().double().numpy()))).to(part)

    return apply


@dataclass(frozen=True, eq=False)
class Stack:
    """A picture of one map or several, as `taichi2dgs.encode` and `fit` take it.

    Args:
        image: stored values, which Gaussians are fitted to. [H, W, C]
        maps: what its channels are, in their order; none for a plain picture.
        weight: how much each pixel counts, see `taichi2dgs.fit`; None for all alike. [H, W]

    >>> import taichi2dgs as t2
    >>> stack = t2.read_stack({"grey": torch.rand(8, 9, 1), "normal": torch.rand(8, 9, 3)})
    >>> [(one.name, one.channels, one.kind) for one in stack.maps], stack.image.shape
    ([('grey', 1, 'data'), ('normal', 3, 'data')], torch.Size([8, 9, 4]))
    """

    image: Tensor
    maps: tuple[Map, ...] = ()
    weight: Tensor | None = None

    def linear(self) -> Stack:
        """Return the same picture with its colours as linear light.

        Raises:
            ValueError: it has more channels than a colour, and no maps.
        """
        given = whole_maps(self.maps, self.image.shape[2])
        maps = tuple(_linear(one) for one in given)
        parts = [
            part if after == before else after.stored(before.light(part))
            for (before, part), after in zip(split(self.image, given), maps, strict=True)
        ]
        return Stack(torch.cat(parts, dim=2), maps, self.weight)


def _linear(one: Map) -> Map:
    kind = "linear" if one.kind in ("srgb", "pq") else one.kind
    return Map(one.name, one.channels, kind, one.bits, one.low, one.high)


def whole_maps(maps: Sequence[Map], channels: int) -> tuple[Map, ...]:
    """Return maps, in place of none the one of a plain picture.

    Raises:
        ValueError: there are none, and more channels than a colour has.
    """
    if not maps and channels > MOST:
        raise ValueError(f"image has {channels} channels; expected 1 to {MOST}, or a stack")
    return tuple(maps) or (Map(channels=channels),)


def split(image: Tensor, maps: Sequence[Map]) -> list[tuple[Map, Tensor]]:
    """Return each map, and the channels of an image that are its. [..., C]"""
    parts = image.split([one.channels for one in maps], dim=-1)
    return list(zip(maps, parts, strict=True))


def displayed(image: Tensor, maps: Sequence[Map]) -> Tensor:
    """Return what can be looked at: the first map in sRGB, at most 4 channels. [..., C]"""
    if maps:
        first = maps[0]
        seen = first.shown(image[..., : first.channels])
        is_packed = first.kind == "data" and first.channels in (2, 4)
        return seen[..., : first.channels - 1] if is_packed else seen
    return image[..., :3] if image.shape[-1] > MOST else image


def checked(maps: Any, channels: int) -> tuple[Map, ...]:
    """Return maps as a tuple, or raise ValueError unless they are those of so many channels."""
    try:
        things = tuple(maps)
    except (TypeError, RuntimeError):
        things = (None,)
    given = tuple(one for one in things if isinstance(one, Map))
    if len(given) < len(things):
        raise ValueError(f"maps={shown(maps)}; expected a tuple of Map")
    if given and sum(one.channels for one in given) != channels:
        counts = " + ".join(str(one.channels) for one in given)
        raise ValueError(f"maps have {counts} channels; expected {channels}, as color")
    names = [one.name.casefold() for one in given]
    if len(set(names)) < len(names) or (len(names) > 1 and "" in names):
        raise ValueError(f"maps are named {shown([m.name for m in given])}; expected other names")
    return given


def _check_name(name: object) -> None:
    """Raise ValueError unless a name can be one of a file, on any system."""
    if (
        not isinstance(name, str)
        or len(name) > LONGEST
        or not name.isprintable()
        or FORBIDDEN & set(name)
        or name != name.strip(" .")
    ):
        raise ValueError(
            f"name={shown(name)}; expected up to {LONGEST} characters that a file's name can have"
        )


def packed(maps: Sequence[Map]) -> bytes:
    """Return the bytes of maps in a .t2d file."""
    out = [LENGTH.pack(len(maps))]
    for one in maps:
        name = one.name.encode()
        out += [LENGTH.pack(len(name)), name]
        out.append(REST.pack(one.channels, KINDS.index(one.kind), one.bits, one.low, one.high))
    return b"".join(out)


def unpacked(reader: Reader, channels: int) -> tuple[Map, ...]:
    """Read what `packed` wrote, or raise ValueError if that is damaged."""
    found = []
    for _ in range(*reader.unpack(LENGTH)):
        try:
            name = reader.take(*reader.unpack(LENGTH)).decode()
        except UnicodeDecodeError:
            raise ValueError("damaged: a map has no name") from None
        count, kind, bits, low, high = reader.unpack(REST)
        if kind >= len(KINDS):
            raise ValueError(f"a map is of the unknown kind {kind}")
        found.append(Map(name, count, KINDS[kind], bits, low, high))
    return checked(found, channels)
