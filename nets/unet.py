"""A U-Net that is told how many Gaussians it plans for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

LEVELS = 5  # four steps down and four up
K_MAX = 512 * 512  # k_hat is 1 at one Gaussian per pixel
AREA = 512 * 512  # pixels, on which numbers of Gaussians are compared


Count = TypeVar("Count", float, Tensor)


@dataclass(frozen=True)
class Shape:
    """What a U-Net is made by.

    Args:
        width: channels of the first level; the second has twice as many.
        patch: side of a block of pixels, which enters and leaves in channels.
        coarse: channels of the third to the fifth level, over the width.
    """

    width: int = 32
    patch: int = 2
    coarse: int = 4

    @property
    def sizes(self) -> list[int]:
        """Channels of each level.

        >>> Shape(width=8).sizes
        [8, 16, 32, 32, 32]
        """
        return [self.width * level for level in (1, 2, *(LEVELS - 2) * (self.coarse,))]


DEFAULT = Shape()


class UNet(nn.Module):
    """Four steps down, FiLM on log k at the bottleneck, four up; any size, any batch.

    The image enters and leaves as `patch` x `patch` blocks of pixels in channels: on a CPU a patch
    of 2 makes the network five times as fast as 1, and every pixel still has its own output.

    Args:
        inputs: input channels.
        outputs: output channels.
        shape: see `Shape`.
    """

    def __init__(self, inputs: int, outputs: int, shape: Shape) -> None:
        super().__init__()
        self.shape, self.patch, sizes = shape, shape.patch, shape.sizes
        self.down = nn.ModuleList(
            _block(before, size)
            for before, size in zip([inputs * self.patch**2, *sizes], sizes, strict=False)
        )
        self.film = FiLM(sizes[-1])
        self.up = nn.ModuleList(
            _block(before + size, size)
            for before, size in zip(sizes[:0:-1], sizes[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(shape.width, outputs * self.patch**2, 1)
        nn.init.zeros_(self.head.weight)  # an untrained network answers with its bias: 0
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # Conv2d has a bias

    def forward(self, maps: Tensor, k: Tensor) -> Tensor:
        """Return the output maps.

        Args:
            maps: [B, inputs, H, W]
            k: number of Gaussians per image. [B]

        Returns:
            [B, outputs, H, W]
        """
        height, width = maps.shape[-2:]
        step = self.patch << (LEVELS - 1)
        x = F.pad(maps, (0, -width % step, 0, -height % step), mode="replicate")
        x = F.pixel_unshuffle(x, self.patch).contiguous(memory_format=torch.channels_last)
        skips = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        x = self.film(skips.pop(), k_hat(k, height * width))
        for block in self.up:
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0), skips.pop()], dim=1))
        return F.pixel_shuffle(self.head(x), self.patch)[..., :height, :width]


class FiLM(nn.Module):
    """Feature-wise linear modulation: x (1 + gamma) + beta, both from k_hat (paper Eq. 7)."""

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(1, hidden), nn.SiLU(), nn.Linear(hidden, 2 * channels)
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Modulate x by the condition. [B, C, H, W], [B] -> [B, C, H, W]"""
        gamma, beta = self.layers(condition[:, None])[..., None, None].chunk(2, dim=1)
        return x * (1 + gamma) + beta


def per_512(k: Count, pixels: int) -> Count:
    """Return how many Gaussians per 512x512 pixels k are on so many pixels.

    >>> per_512(2500, 256 * 256)
    10000.0
    """
    return k * (AREA / pixels)


def count_of(per_512: float, pixels: int) -> int:
    """Return how many Gaussians on so many pixels are so many per 512x512, at least 1.

    >>> count_of(10_000, 256 * 256)
    2500
    """
    return max(1, round(per_512 * pixels / AREA))


def k_hat(k: Tensor, pixels: int) -> Tensor:
    """Return log(1 + k) / log(1 + k_max), for k scaled to 512x512 pixels (paper Eq. 6). [B]"""
    return torch.log1p(per_512(k.float(), pixels)) / math.log1p(K_MAX)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [
            nn.Conv2d(before, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)
