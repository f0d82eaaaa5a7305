"""The two networks of the Deep Gaussian Prior."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from nets.detail import detail_density
from nets.unet import DEFAULT, Shape, UNet

OFFSET = 1.5  # how far an offset reaches, in units of the start's scale
SPREAD = 1.5  # how far a log-scale can be from the start's, either way
ASPECT = 0.02  # untrained: a round Gaussian has no gradient for its rotation
PEAK = 0.9  # untrained: the highest heat


class PositionNet(nn.Module):
    """Where Gaussians should go: a heatmap for an image and a number of Gaussians (paper 3.3).

    It sees the image and where its detail is; untrained, it answers with the detail.

    Args:
        shape: of the U-Net.
    """

    def __init__(self, shape: Shape = DEFAULT) -> None:
        super().__init__()
        self.unet = UNet(3 + 1, 1, shape)

    def forward(self, images: Tensor, k: Tensor) -> Tensor:
        """Return heatmaps in [0, 1], to be sampled in proportion.

        Args:
            images: values in [0, 1]. [B, 3, H, W]
            k: number of Gaussians per image. [B]

        Returns:
            [B, 1, H, W]
        """
        detail = detail_density(images, k)
        logit = torch.logit(PEAK * detail / detail.amax((2, 3), keepdim=True))
        return torch.sigmoid(logit + self.unet(torch.cat([images - 0.5, detail.log()], 1), k))


class Residuals(NamedTuple):
    """What the attribute network adds to the start, at every pixel.

    Args:
        offset: of the centre, in units of the start's scale. [B, 2, H, W]
        log_scale: of the two standard deviations. [B, 2, H, W]
        theta: rotation in radians; the start is round, so it has none of its own. [B, 1, H, W]
        color: [B, 3, H, W]
    """

    offset: Tensor
    log_scale: Tensor
    theta: Tensor
    color: Tensor


class AttributeNet(nn.Module):
    """What Gaussians look like, given where they are: residuals around a start (paper 3.5).

    It sees the image, which pixels the sampler chose, how far apart they are, and the render of
    the start: round Gaussians of their pixels' colours. Untrained, it changes next to nothing.

    Args:
        shape: of the U-Net.

    Source: paper 3.5, Eq. 12, Eq. 13, Eq. 14, Eq. 15 and Eq. 16.
    """

    def __init__(self, shape: Shape = DEFAULT) -> None:
        super().__init__()
        self.unet = UNet(3 + 3 + 2, 8, shape)
        bias = self.unet.head.bias
        with torch.no_grad():
            bias[2 * shape.patch**2 : 3 * shape.patch**2] = ASPECT  # type: ignore[index]

    def forward(self, images: Tensor, renders: Tensor, points: Tensor, k: Tensor) -> Residuals:
        """Return residuals for every pixel; the sampled ones matter.

        Args:
            images: values in [0, 1]. [B, 3, H, W]
            renders: of the start. [B, 3, H, W]
            points: Gaussians per pixel, and the log of their scale, 0 without any. [B, 2, H, W]
            k: number of Gaussians per image. [B]
        """
        maps = torch.cat([images - 0.5, images - renders, points], dim=1)
        offset, log_scale, theta, color = self.unet(maps, k).float().split([2, 2, 1, 3], dim=1)
        return Residuals(OFFSET * torch.tanh(offset), SPREAD * torch.tanh(log_scale), theta, color)
