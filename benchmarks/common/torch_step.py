"""A step of the fit in torch alone, as fast as it goes without a kernel of one's own: a yardstick.

Tiles list the Gaussians whose boxes reach them; each pixel sorts its tile's list for the K nearest,
gathers those and blends them; autograd and torch's Adam do the rest. It is the same mathematics as
the engine's, so from the same state it makes the same step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from taichi2dgs.fitting.fit import FitOptions
from taichi2dgs.metrics import psnr_of_mse
from taichi2dgs.settings import DEFAULT

TILE = 16  # pixels a side
AT_ONCE = 1 << 21  # distances, which bounds the memory


class TorchFit:
    """Parameters, optimiser and target of one fit.

    Args:
        target: values in [0, 1]. [H, W, C]
        params: the packed parameters. [N, 5 + C]
        options: learning rates and blending, the normalised one.
    """

    def __init__(self, target: Tensor, params: Tensor, options: FitOptions) -> None:
        self.target, self.settings = target, options.settings or DEFAULT
        self.parts = {
            "xy": params[:, :2],
            "log_scale": params[:, 2:4],
            "theta": params[:, 4:5],
            "color": params[:, 5:],
        }
        self.parts = {name: part.clone().requires_grad_() for name, part in self.parts.items()}
        self.rates = {name: getattr(options, name) for name in self.parts}
        groups = [{"params": [part], "name": name} for name, part in self.parts.items()]
        betas = (options.beta1, options.beta2)
        self.optimizer = torch.optim.Adam(groups, betas=betas, eps=options.epsilon)

    @property
    def params(self) -> Tensor:
        """The packed parameters. [N, 5 + C]"""
        return torch.cat([part.detach() for part in self.parts.values()], 1)

    def step(self, rate: float) -> float:
        """Make a step at a fraction of the learning rates; return the PSNR in dB before it."""
        records = self.records()
        leaf = records.detach().requires_grad_()
        lists, counts = self.lists()
        points, colors = in_tiles(self.target)
        tiles = max(1, AT_ONCE // (points.shape[1] * lists.shape[1]))
        error = 0.0
        for first in range(0, len(lists), tiles):
            part = slice(first, first + tiles)
            most = max(1, int(counts[part].max()))
            out = self.blend(leaf, lists[part, :most], counts[part], points[part])
            inside = ~colors[part].isnan()
            target = colors[part].nan_to_num()
            ((out - target)[inside].square().sum() / 2).backward()
            error += float((out.detach().clamp(0, 1) - target)[inside].square().sum())
        self.optimizer.zero_grad()
        records.backward(leaf.grad)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.rates[group["name"]]
        self.optimizer.step()
        return psnr_of_mse(error / self.target.numel())

    def records(self) -> Tensor:
        """Centre, the rows of S^-1 R^T, and colour of each Gaussian. [N, 6 + C]"""
        p = self.parts
        cos, sin = p["theta"].cos(), p["theta"].sin()
        s0, s1 = p["log_scale"].exp().split(1, 1)
        return torch.cat([p["xy"], cos / s0, sin / s0, -sin / s1, cos / s1, p["color"]], 1)

    @torch.no_grad()
    def lists(self) -> tuple[Tensor, Tensor]:
        """The Gaussians of each tile, and how many these are. [T, M], [T]"""
        p, device = self.parts, self.target.device
        cos2, variance = p["theta"].cos().square(), (2 * p["log_scale"]).exp()
        spread = torch.cat([cos2, 1 - cos2], 1)
        along_x, along_y = (spread * variance).sum(1), (spread.flip(1) * variance).sum(1)
        half = self.settings.cutoff * torch.stack([along_x, along_y], 1).sqrt()
        low = ((p["xy"] - half) / TILE).floor()
        high = ((p["xy"] + half) / TILE).floor()
        down, across = (-(-side // TILE) for side in self.target.shape[:2])
        y, x = torch.meshgrid(torch.arange(down), torch.arange(across), indexing="ij")
        tile = torch.stack([x, y], -1).reshape(-1, 1, 2).to(device)
        reach = ((tile >= low) & (tile <= high)).all(2)  # [T, N]
        tiles, which = reach.nonzero(as_tuple=True)
        counts = reach.sum(1)
        place = torch.arange(len(tiles), device=device) - (counts.cumsum(0) - counts)[tiles]
        lists = torch.zeros(len(counts), max(1, int(counts.max())), dtype=torch.long, device=device)
        lists[tiles, place] = which
        return lists, counts

    def blend(self, records: Tensor, lists: Tensor, counts: Tensor, points: Tensor) -> Tensor:
        """Colours of the pixels of some tiles. [N, 6 + C], [T, M], [T], [T, P, 2] -> [T, P, C]"""
        limit = self.settings.cutoff**2
        with torch.no_grad():
            q = distance(records[lists][:, None], points[:, :, None])  # [T, P, M]
            used = torch.arange(lists.shape[1], device=lists.device) < counts[:, None]
            q = torch.where(used[:, None], q, torch.inf)
            near, order = q.topk(min(self.settings.top_k, q.shape[2]), largest=False)
            chosen = lists[:, None].expand(q.shape).gather(2, order)  # [T, P, K]
        own = F.embedding(chosen, records)
        weight = (-distance(own, points[:, :, None]) / 2).exp()
        weight = torch.where(near <= limit, weight, 0.0)
        total = torch.einsum("tpk,tpkc->tpc", weight, own[..., 6:])
        return total / (weight.sum(2, keepdim=True) + self.settings.eps)


def distance(records: Tensor, points: Tensor) -> Tensor:
    """Squared Mahalanobis distances. [..., 6 + C], [..., 2] -> [...]"""
    dx, dy = (points - records[..., :2]).unbind(-1)
    u = dx * records[..., 2] + dy * records[..., 3]
    v = dx * records[..., 4] + dy * records[..., 5]
    return u.square() + v.square()


def in_tiles(image: Tensor) -> tuple[Tensor, Tensor]:
    """Cut an image into tiles: sample points, and colours or NaN. [T, P, 2], [T, P, C]"""
    height, width, channels = image.shape
    down, across = -(-height // TILE), -(-width // TILE)
    padded = image.new_full((down * TILE, across * TILE, channels), torch.nan)
    padded[:height, :width] = image
    rows = torch.arange(down * TILE, device=image.device) + 0.5
    columns = torch.arange(across * TILE, device=image.device) + 0.5
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)

    def cut(whole: Tensor) -> Tensor:
        tiles = whole.reshape(down, TILE, across, TILE, -1).transpose(1, 2)
        return tiles.reshape(down * across, TILE * TILE, -1)

    return cut(grid), cut(padded)
