"""Tell handwritten digits apart: from their pixels, and from the Gaussians that they become.

    python examples/digits.py [K] [EPOCHS]

It needs scikit-learn, whose 1,797 digits of 8x8 pixels it takes. Gaussians are a set, so the
network that sees them looks at each by itself, and pools what it found (DeepSets, arXiv
1703.06114).
"""

import math
import sys
import time

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import taichi2dgs as t2

TEST = 5  # every fifth digit is held back
STEPS = 40  # of a fit


def gaussians_of(pictures: np.ndarray, k: int) -> Tensor:
    """Fit k Gaussians to each picture; return numbers near 0 that say the same. [B, K, 14]"""
    fitted = t2.encode_batch(list(pictures), k=k, steps=STEPS, start="gradient")
    x, y, first, second, theta, grey = torch.stack([g.packed() for g in fitted]).unbind(-1)
    half = pictures.shape[1] / 2
    # Axes have no direction and no order. These are the same whichever is the first.
    size, stretch = (first + second) / 2, first - second
    along, across = stretch * (2 * theta).cos(), stretch * (2 * theta).sin()
    place = torch.stack([x, y], -1) / half - 1
    waves = [wave(math.pi * 2**n * place) for n in (0, 1) for wave in (torch.sin, torch.cos)]
    return torch.cat([place, *waves, torch.stack([size, along, across, grey], -1)], -1)


class DeepSets(nn.Module):
    """A network of sets: of each member, of their mean, and of both together."""

    def __init__(self, inputs: int, width: int = 128, classes: int = 10) -> None:
        super().__init__()
        self.member = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )
        self.again = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU())
        self.whole = nn.Sequential(
            nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, classes)
        )

    def forward(self, members: Tensor) -> Tensor:
        found = self.member(members)
        mean = found.mean(dim=1, keepdim=True).expand_as(found)
        found = self.again(torch.cat([found, mean], dim=2))
        return self.whole(torch.cat([found.mean(dim=1), found.amax(dim=1)], dim=1))


def of_pixels(width: int = 32) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4 * width, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def accuracy(net: nn.Module, inputs: Tensor, labels: Tensor, epochs: int) -> float:
    """Train a network, and return its share of right answers on what was held back."""
    held = torch.arange(len(labels)) % TEST == 0
    steps = epochs * math.ceil(int((~held).sum()) / 64)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(epochs):
        for batch in (~held).nonzero()[:, 0][torch.randperm(int((~held).sum()))].split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        return float((net(inputs[held]).argmax(dim=1) == labels[held]).float().mean())


def main(k: int = 20, epochs: int = 40) -> None:
    digits = load_digits()
    pictures = (digits.images[..., None] / 16).astype(np.float32)  # [B, 8, 8, 1]
    labels = torch.from_numpy(digits.target)
    begin = time.monotonic()
    sets = gaussians_of(pictures, k)
    print(f"{len(sets)} digits as {k} Gaussians each: {time.monotonic() - begin:.0f} s")
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    for name, make, inputs in (
        ("pixels", of_pixels, pixels),
        ("Gaussians", lambda: DeepSets(sets.shape[2]), sets),
    ):
        torch.manual_seed(0)
        net, begin = make(), time.monotonic()
        right = accuracy(net, inputs, labels, epochs)
        count = sum(weight.numel() for weight in net.parameters())
        seconds = time.monotonic() - begin
        print(f"{name}: {right:.1%} right, {count:,} weights, {seconds:.0f} s of training")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
