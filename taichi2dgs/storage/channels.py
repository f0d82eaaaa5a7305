"""Pictures brought to a number of channels."""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey, as Pillow and JPEG have it


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Return an image with so many channels.

    Grey becomes colours and colours grey. An opacity that is not wanted leaves the image on white,
    and one that is missing is 1.

    Args:
        image: of 1 to 4 channels; of 2 or 4 the last is the opacity, by which the others are
            multiplied. [H, W, C]
        channels: 1 to 4.

    >>> with_channels(torch.tensor([[[0.2, 0.5]]]), 3)
    tensor([[[0.7000, 0.7000, 0.7000]]])
    """
    count = image.shape[2]
    if count == channels:
        return image
    if count in (2, 4):
        color, opacity = image[..., :-1], image[..., -1:]
        color = color if channels in (2, 4) else color + (1 - opacity)
    else:
        color, opacity = image, torch.ones_like(image[..., :1])
    wanted = channels - (channels in (2, 4))
    if color.shape[2] < wanted:
        color = color.expand(-1, -1, wanted)
    elif color.shape[2] > wanted:
        color = (color * color.new_tensor(LUMA)).sum(dim=2, keepdim=True)
    return torch.cat([color, opacity], dim=2) if channels in (2, 4) else color.contiguous()
