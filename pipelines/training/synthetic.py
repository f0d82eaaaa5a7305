"""Pictures drawn by script: shapes, patterns, gradients, text, hatching and noise.

Photographs alone teach the networks little about flat areas, hard edges and repetition, which art,
drawings and textures are made of. Every picture depends on its random generator alone; nothing is
read from disk.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

FINER = 2  # drawings are made so many times as large, and averaged: edges are smooth
Rng = np.random.Generator


def picture(side: int, rng: Rng) -> Tensor:
    """Return a square picture: one of the kinds, often with another one over a part of it.

    Args:
        side: in pixels.
        rng: decides everything about it.

    Returns:
        Values in [0, 1]. [3, side, side]

    >>> picture(32, np.random.default_rng(0)).shape
    torch.Size([3, 32, 32])
    """
    image = _any(side, rng)
    if rng.random() < 0.5:
        share = _mask(side, rng)
        image = image * (1 - share) + _any(side, rng) * share
    if rng.random() < 0.3:  # a little grain, as of a camera or a scan
        channels = 1 if rng.random() < 0.5 else 3
        image = image + rng.normal(0, rng.uniform(0.002, 0.03), (channels, side, side))
    return torch.from_numpy(image.clip(0, 1).astype(np.float32))


def _any(side: int, rng: Rng) -> np.ndarray:
    kind = KINDS[int(rng.integers(len(KINDS)))]
    return kind(side, rng)


def _palette(number: int, rng: Rng) -> np.ndarray:
    """Return colours that go together: around a base, a few of them far from it. [number, 3]"""
    base, spread = rng.random(3), rng.choice([0.08, 0.25, 0.6])
    colors = base + rng.normal(0, spread, (number, 3))
    if rng.random() < 0.2:
        colors = colors.mean(1, keepdims=True).repeat(3, 1)  # grey
    return colors.clip(0, 1)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y in [-1, 1]. 2 x [side, side]"""
    steps = (np.arange(side) + 0.5) / side * 2 - 1
    return np.broadcast_to(steps, (side, side)), np.broadcast_to(steps[:, None], (side, side))


def _colored(value: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Run a value in [0, 1] through colours, evenly spaced. [side, side] -> [3, side, side]"""
    at = np.linspace(0, 1, len(colors))
    return np.stack([np.interp(value, at, colors[:, channel]) for channel in range(3)])


def _mask(side: int, rng: Rng) -> np.ndarray:
    """Return how far a second picture covers the first: half of it, a disc, or blobs."""
    x, y = _grid(side)
    kind, angle = rng.integers(3), rng.uniform(0, 2 * math.pi)
    if kind == 0:
        value = x * math.cos(angle) + y * math.sin(angle) + rng.uniform(-0.5, 0.5)
    elif kind == 1:
        cx, cy, radius = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5), rng.uniform(0.3, 0.9)
        value = radius - np.hypot(x - cx, y - cy)
    else:
        value = _smooth(side, rng.uniform(0.1, 0.4), rng)
    width = rng.choice([1.0, 4.0, 40.0]) / side  # of the border between the two
    return (0.5 + value / (2 * width)).clip(0, 1)


def _smooth(side: int, scale: float, rng: Rng) -> np.ndarray:
    """Return smooth noise around 0 whose blobs are a share `scale` of the picture."""
    cells = max(2, round(1 / scale)) + 3
    noise = torch.from_numpy(rng.normal(0, 1, (1, 1, cells, cells)))
    grown = F.interpolate(noise, size=(2 * side, 2 * side), mode="bicubic", align_corners=False)
    start = side // 2
    return grown[0, 0, start : start + side, start : start + side].numpy()


def _gradient(side: int, rng: Rng) -> np.ndarray:
    """A smooth run of colours: along a line, around a point, or along bent lines."""
    x, y = _grid(side)
    angle = rng.uniform(0, 2 * math.pi)
    value = x * math.cos(angle) + y * math.sin(angle)
    if rng.random() < 0.4:
        value = np.hypot(x - rng.uniform(-1, 1), y - rng.uniform(-1, 1))
    value = value + rng.uniform(0, 0.6) * _smooth(side, rng.uniform(0.2, 0.6), rng)
    value = (value - value.min()) / (np.ptp(value) + 1e-9)
    return _colored(value, _palette(int(rng.integers(2, 6)), rng))


def _noise(side: int, rng: Rng) -> np.ndarray:
    """Noise whose power falls with frequency: clouds, stone, grass, cloth; isotropic or not."""
    fx, fy = np.fft.fftfreq(side) * side, np.fft.fftfreq(side)[:, None] * side
    angle, stretch = rng.uniform(0, math.pi), math.exp(rng.uniform(0, 2) * rng.integers(2))
    along = fx * math.cos(angle) + fy * math.sin(angle)
    across = (fy * math.cos(angle) - fx * math.sin(angle)) * stretch
    frequency = np.hypot(along, across)
    power = (1 + frequency) ** -rng.uniform(0.6, 2.2)
    power *= frequency < side * rng.uniform(0.15, 0.5)

    def field() -> np.ndarray:
        spectrum = np.fft.fft2(rng.normal(0, 1, (side, side))) * power
        value = np.real(np.fft.ifft2(spectrum))
        return (value - value.mean()) / (value.std() + 1e-9)

    value = field()
    if rng.random() < 0.3:
        value = np.abs(value)  # ridges, as of marble
    shaded = _colored((0.5 + value * rng.uniform(0.1, 0.4)).clip(0, 1), _palette(4, rng))
    if rng.random() < 0.3:
        shaded = shaded + 0.1 * field()
    return shaded


def _pattern(side: int, rng: Rng) -> np.ndarray:
    """Stripes, checks, dots, bricks or rings, turned and perhaps bent, hard-edged or soft."""
    x, y = _grid(side)
    angle, period = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(4), math.log(64))) / side
    bend = rng.uniform(0, 0.3) * rng.integers(2)
    u = x * math.cos(angle) + y * math.sin(angle) + bend * _smooth(side, 0.4, rng)
    v = y * math.cos(angle) - x * math.sin(angle) + bend * _smooth(side, 0.4, rng)
    u, v = u / (2 * period), v / (2 * period)
    kind = rng.integers(5)
    wave = lambda t: 0.5 - 0.5 * np.cos(2 * math.pi * t)  # noqa: E731
    if kind == 0:
        value = wave(u)
    elif kind == 1:
        value = 0.5 + 2 * (wave(u) - 0.5) * (wave(v) - 0.5)
    elif kind == 2:
        value = 1 - np.hypot(u - np.round(u), v - np.round(v)) * rng.uniform(1.5, 3)
    elif kind == 3:
        row = np.floor(v)
        gap = np.minimum(
            np.abs(u / 2 + 0.5 * (row % 2) - np.round(u / 2 + 0.5 * (row % 2))) * 2,
            np.abs(v - np.round(v)),
        )
        value = gap * rng.uniform(2, 8)
    else:
        value = wave(np.hypot(u, v))
    if rng.random() < 0.5:
        value = 0.5 + (value - 0.5) * rng.uniform(2, 12)  # a hard edge
    return _colored(value.clip(0, 1), _palette(int(rng.integers(2, 4)), rng))


def _cells(side: int, rng: Rng) -> np.ndarray:
    """Cells around random points: stones, scales, glass; with or without mortar."""
    number = int(math.exp(rng.uniform(math.log(8), math.log(300))))
    points = rng.uniform(-1.1, 1.1, (number, 2))
    x, y = _grid(side)
    first = np.full((side, side), np.inf)
    second, nearest = first.copy(), np.zeros((side, side), int)
    for index, (px, py) in enumerate(points):
        distance = np.hypot(x - px, y - py)
        closer = distance < first
        second = np.where(closer, first, np.minimum(second, distance))
        nearest = np.where(closer, index, nearest)
        first = np.where(closer, distance, first)
    image = _palette(number, rng)[nearest].transpose(2, 0, 1)
    if rng.random() < 0.6:
        mortar = ((second - first) * side / rng.uniform(2, 8)).clip(0, 1)
        image = image * mortar + rng.random((3, 1, 1)) * (1 - mortar)
    if rng.random() < 0.5:
        image = image * (1 - rng.uniform(0, 0.6) * first / first.max())
    return image


def _drawing(side: int, rng: Rng) -> np.ndarray:
    """Filled and outlined shapes, one over the other, on a run of colours."""
    canvas = _canvas(_gradient(side, rng) if rng.random() < 0.5 else None, side, rng)
    draw, size = ImageDraw.Draw(canvas), side * FINER
    colors = _palette(8, rng)
    for _ in range(int(rng.integers(4, 40))):
        fill = _ink(colors, rng) if rng.random() < 0.8 else None
        outline = _ink(colors, rng) if fill is None or rng.random() < 0.4 else None
        width = int(rng.integers(1, 5)) * FINER
        cx, cy = rng.uniform(0, size, 2)
        rx, ry = size * np.exp(rng.uniform(math.log(0.01), math.log(0.4), 2))
        kind = rng.integers(4)
        if kind == 0:
            draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill, outline, width)
        elif kind == 1:
            draw.rectangle((cx - rx, cy - ry, cx + rx, cy + ry), fill, outline, width)
        else:
            corners = int(rng.integers(3, 9))
            angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
            radii = rng.uniform(0.4, 1, corners) if kind == 2 else np.ones(corners)
            xs, ys = cx + rx * radii * np.cos(angles), cy + ry * radii * np.sin(angles)
            draw.polygon(list(zip(xs, ys, strict=True)), fill, outline, width)
    return _finished(canvas, side)


def _strokes(side: int, rng: Rng) -> np.ndarray:
    """Bent strokes: hatching, hair, branches, ink, or the brush of a painter."""
    canvas = _canvas(_gradient(side, rng) if rng.random() < 0.5 else None, side, rng)
    draw, size = ImageDraw.Draw(canvas), side * FINER
    colors = _palette(6, rng)
    direction, spread = rng.uniform(0, 2 * math.pi), rng.choice([0.05, 0.3, 3.0])
    length, widest = size * rng.uniform(0.05, 0.5), rng.uniform(1, 8)
    for _ in range(int(rng.integers(20, 300))):
        t = np.linspace(0, 1, 8)
        angle = direction + rng.normal(0, spread) + t * rng.normal(0, 1.0)
        step = length / 8 * rng.uniform(0.3, 1)
        xs = rng.uniform(-0.1, 1.1) * size + np.cumsum(np.cos(angle)) * step
        ys = rng.uniform(-0.1, 1.1) * size + np.cumsum(np.sin(angle)) * step
        width = max(1, round(rng.uniform(0.5, widest) * FINER))
        draw.line(list(zip(xs, ys, strict=True)), _ink(colors, rng), width, joint="curve")
    return _finished(canvas, side)


def _text(side: int, rng: Rng) -> np.ndarray:
    """Lines of random letters, in one size or several."""
    canvas = _canvas(_gradient(side, rng) if rng.random() < 0.2 else None, side, rng)
    draw, size = ImageDraw.Draw(canvas), side * FINER
    colors = _palette(3, rng) if rng.random() < 0.5 else np.zeros((1, 3))
    y, height = rng.uniform(-0.05, 0.1) * size, int(rng.integers(8, 40)) * FINER
    letters = list(string.ascii_letters + string.digits + "    .,;:!?-")
    while y < size:
        if rng.random() < 0.1:
            height = int(rng.integers(8, 60)) * FINER
        line = "".join(rng.choice(letters, int(rng.integers(1, 80))))
        font = ImageFont.load_default(height)
        draw.text((rng.uniform(-0.1, 0.3) * size, y), line, _ink(colors, rng), font)
        y += height * rng.uniform(1.0, 1.8)
    return _finished(canvas, side)


def _canvas(under: np.ndarray | None, side: int, rng: Rng) -> Image.Image:
    """Return what to draw on: a picture, or one colour, often white."""
    size = (side * FINER, side * FINER)
    if under is None:
        color = np.ones(3) if rng.random() < 0.4 else rng.random(3)
        return Image.new("RGB", size, tuple((color * 255).astype(int)))
    pixels = (under.transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def _ink(colors: np.ndarray, rng: Rng) -> tuple[int, ...]:
    return tuple(int(255 * value) for value in colors[int(rng.integers(len(colors)))])


def _finished(canvas: Image.Image, side: int) -> np.ndarray:
    """Return a drawing at its size. [3, side, side]"""
    small = canvas.resize((side, side), Image.Resampling.BOX)
    return np.asarray(small, np.float32).transpose(2, 0, 1) / 255


KINDS: tuple[Callable[[int, Rng], np.ndarray], ...] = (
    _gradient,
    _noise,
    _pattern,
    _cells,
    _drawing,
    _strokes,
    _text,
)
