"""Stage II: an attribute network, end to end through the renderer (paper 3.5, Eq. 17)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from nets import weights
from nets.unet import count_of
from pipelines.fields import OneOf, Range
from pipelines.starts import prior, sampling
from pipelines.training import images
from pipelines.training.loop import rate_at
from pipelines.training.stage import Count, Stage, StageConfig
from taichi2dgs import metrics
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.gaussians import Gaussians

LEAST_ERROR = 1e-6  # 60 dB; crops that are better still weigh little
STEPS = 25  # of the fits for which starts are drawn: more than none, fewer than long ones have
VALID_SOLVED = 2  # steps of `solve_colors`
VALID_K = (10_000, 50_000, 100_000)  # Gaussians per 512x512 pixels


@dataclass(frozen=True)
class AttributesConfig(StageConfig):
    """Stage II.

    Args:
        valid_images: whose centre crops are validated on, each at three k.
        epochs: of the whole training. A run goes on with another number, as long as the learning
            rate does not fall yet under either.
        decay: share of the epochs, their end, over which the learning rate falls along a cosine.
        sampler: see `sampling.sample`.
        powers: lowest and highest power of the density by which a start is drawn, each as likely,
            so that the network knows starts of other densities, too.
        untuned: share of the batches whose starts are drawn as those that no fit follows.
        loss: "relative" to the error of the start, or the "log" of the error, whose mean is the
            PSNR's.
        solved: steps of `solve_colors`, after which the loss is taken, too: its mean is learnt. 0
            for the loss of the network's own colours alone.
        warm_up: steps in which the learning rate rises; 0 for none.
        width, patch, coarse, crop, k, crops, variety, batch, learning_rate, average, workers,
            seed, about: see `StageConfig`.
    """

    valid_images: Count = 16
    epochs: Count = 20
    decay: Annotated[float, Range(0.01, 1)] = 1.0
    sampler: Annotated[str, OneOf(sampling.METHODS)] = sampling.DEFAULT
    powers: Annotated[tuple[float, float], Range(0, 4)] = (1.0, 1.0)
    untuned: Annotated[float, Range(0, 1)] = 0.0
    loss: Annotated[str, OneOf(("relative", "log"))] = "relative"
    solved: Annotated[int, Range(0, 100)] = 0
    warm_up: Annotated[int, Range(0)] = 100


class AttributesStage(Stage[AttributesConfig]):
    """A run of Stage II; the weights of both networks end in its folder.

    Args:
        position: folder with the position network's weights, which stay as they are.
    """

    name = "attributes"
    whole_batches = True

    def __init__(self, *args: Any, position: str | Path = weights.SHIPPED, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.position_folder = position
        self.position = weights.load("position", position).to(self.processes.device)
        # of an epoch
        self.steps = self.config.crops // (self.config.batch * self.processes.world)

    def _train(self) -> None:
        if not self.rows:
            self._validate(float("nan"))
        while self.epoch < self.config.epochs:
            self._learn()
            self._validate(self._end_epoch())

    def _export(self) -> Path:
        weights.copy("position", self.position_folder, self.folder.path)
        return super()._export()

    def _learn(self) -> None:
        """Learn for an epoch, or for what is left of it."""
        c, where = self.config, self.processes.device
        self.net.train()
        crops = images.Crops(
            self.pictures.train, c.crops, c.crop, c.k, c.seed, self.epoch, c.variety
        )
        done = len(self.losses)
        share = list(self.processes.share(c.crops))[done * c.batch : self.steps * c.batch]
        name = f"epoch {self.epoch + 1} of {c.epochs}"
        bar = tqdm(self._loader(crops, share), name, disable=self.quiet)
        for step, (image, k) in enumerate(bar, done):
            number = self.epoch * self.steps + step
            warm = min(1, (number + 1) / max(1, c.warm_up))
            rate = c.learning_rate * warm * rate_at(number / (self.steps * c.epochs), c.decay)
            image = image.to(where)
            placed = self._varied(image, k.tolist(), seed=self.epoch * c.crops + step * c.batch)
            with torch.no_grad():
                before = prior.rendered(placed)
            with self.processes.autocast():
                found = prior.attribute(self.wrapped, image, placed, before)
            loss = LOSSES[c.loss](image, prior.rendered(found), before).mean()
            if c.solved:
                best = _with_best_colors(image, found, c.solved)
                loss = (loss + LOSSES[c.loss](image, prior.rendered(best), before).mean()) / 2
            self._descend(loss, rate)
            recent = self.losses[-50:]
            bar.set_postfix_str(f"loss {sum(map(sum, recent)) / len(recent):.4f}")

    def _may_differ(self, state: dict[str, Any]) -> tuple[str, ...]:
        full = (1 - self.config.decay) * min(self.config.epochs, state["config"]["epochs"])
        return ("epochs",) if state["epoch"] <= full else ()

    def _varied(self, image: Tensor, k: list[int], seed: int) -> list[Gaussians]:
        """Draw the starts of a batch as if for a fit, by powers of their density, or for none."""
        rng = np.random.default_rng(seed)
        powers = rng.uniform(*self.config.powers, len(k))
        if rng.random() < self.config.untuned:
            return self._place(image, k, seed, steps=0)
        return self._place(image, k, seed, powers=powers)

    def _place(
        self,
        image: Tensor,
        k: list[int],
        seed: int,
        steps: int = STEPS,
        powers: np.ndarray | float = 1.0,
    ) -> list[Gaussians]:
        """Draw the starts of a batch for fits of some steps."""
        density = prior.densities(self.position, image, k, steps)
        density = density ** torch.as_tensor(powers).to(density).reshape(-1, 1, 1)
        return prior.place(image, density, k, self.config.sampler, seed)

    def _validate(self, loss: float) -> None:
        """Measure what the network makes of starts, and record it."""
        c, where, net = self.config, self.processes.device, self.judged
        number = min(c.valid_images, len(self.pictures.valid))
        share = self.processes.share(number)
        measured, shown = [], []
        for index in tqdm(share, "validate", disable=self.quiet, leave=False):
            image = images.read_from(self.pictures.valid, index)
            image = images.cropped(images.reflected(image, c.crop), c.crop)[None].to(where)
            for count in VALID_K:
                k = [count_of(count, c.crop**2)]
                before, found, after = _attributed(net, self._place(image, k, index), image)
                best = prior.rendered(_with_best_colors(image, found, VALID_SOLVED))
                *_, untuned = _attributed(net, self._place(image, k, index, steps=0), image)
                error = float(_relative_error(image, after, before))
                renders = (after, best, untuned, before)
                measured.append([error, *(metrics.psnr(x, image) for x in renders)])
                if count == VALID_K[1]:
                    row = (image, before, after, (after - image).abs() * 5)
                    shown.append([one[0].clamp(0, 1) for one in row])
        names = ("valid_loss", "valid_psnr", "solved_psnr", "untuned_psnr", "start_psnr")
        means = dict(zip(names, self.processes.mean(measured, len(names)), strict=True))
        self._record({"epoch": self.epoch, "loss": loss, **means}, shown, f"{self.epoch:03d}")


@torch.no_grad()
def _attributed(
    net: nn.Module, placed: list[Gaussians], image: Tensor
) -> tuple[Tensor, list[Gaussians], Tensor]:
    """Return the render of a start, the Gaussians that the network makes of it, and theirs."""
    before = prior.rendered(placed)
    found = prior.attribute(net, image, placed, before)
    return before, found, prior.rendered(found)


def _with_best_colors(image: Tensor, found: list[Gaussians], steps: int) -> list[Gaussians]:
    """Return Gaussians with solved colours, which the loss takes as they are.

    Where colours are the best, the error does not depend on them to first order: its gradient in
    places and shapes is right without a way back through the solver.
    """
    targets = image.permute(0, 2, 3, 1)
    return [
        replace(one, color=solve_colors(target, one, steps).color.detach())
        for target, one in zip(targets, found, strict=True)
    ]


def _squared_error(image: Tensor, after: Tensor) -> Tensor:
    """[B, C, H, W] -> [B]"""
    return (after - image).square().mean((1, 2, 3))


def _relative_error(image: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Squared error over that of the start, so that sharp crops weigh as much as soft ones. [B]"""
    return _squared_error(image, after) / _squared_error(image, before).clamp(min=1e-6)


def _log_error(image: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Logarithm of the squared error, so that every crop weighs by what its PSNR gains. [B]"""
    return (_squared_error(image, after) + LEAST_ERROR).log()


LOSSES = {"relative": _relative_error, "log": _log_error}
