"""A U-Net on a picture of any size in bounded memory: block by block, with the same answer."""

from __future__ import annotations

from torch import Tensor, nn

from nets.unet import LEVELS, UNet

AT_ONCE = 1 << 23  # pixels; 4K is seen whole


class Blockwise(nn.Module):
    """Runs a U-Net on overlapping blocks where a picture is large; for inference.

    Blocks begin where the coarsest level's pixels do, and the margins around them are wider than
    what an output pixel sees: so their outputs are those of the whole picture.

    Args:
        unet: the network.
        at_once: pixels up to which a picture is seen whole; larger ones come in squares of about a
            quarter of that, and their margins.
    """

    def __init__(self, unet: UNet, at_once: int = AT_ONCE) -> None:
        super().__init__()
        self.unet, self.at_once = unet, at_once
        self.grid = unet.patch << (LEVELS - 1)
        # Two 3x3 convolutions at each level, twice over all but the coarsest, whose pixel is `grid`
        # wide: 2 (1 + 2 (1/2 + 1/4 + ...)) of these, and one for pooling and upsampling.
        self.margin = 8 * self.grid

    def forward(self, maps: Tensor, k: Tensor) -> Tensor:
        """See `UNet.forward`. [B, inputs, H, W], [B] -> [B, outputs, H, W]"""
        height, width = maps.shape[-2:]
        if height * width <= self.at_once:
            return self.unet(maps, k)
        side = max(self.grid, int((self.at_once / 4) ** 0.5) // self.grid * self.grid)
        out = maps.new_empty(0)
        for top in range(0, height, side):
            for left in range(0, width, side):
                y, x = max(0, top - self.margin), max(0, left - self.margin)
                part = maps[..., y : top + side + self.margin, x : left + side + self.margin]
                share = part.shape[-2] * part.shape[-1] / (height * width)
                block = self.unet(part, k * share)[
                    ..., top - y : top - y + side, left - x : left - x + side
                ]
                if not out.numel():
                    out = block.new_empty(*block.shape[:2], height, width)
                out[..., top : top + side, left : left + side] = block
        return out


def blockwise(net: nn.Module, at_once: int = AT_ONCE) -> nn.Module:
    """Return a network of the prior that looks at large pictures block by block."""
    net.unet = Blockwise(net.unet, at_once)  # type: ignore[arg-type]
    return net
