"""Stage II: an attribute network, end to end through the renderer (paper 3.5, Eq. 17)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor
from tqdm import tqdm

from nets import weights
from nets.unet import count_of
from pipelines.fields import OneOf, Range
from pipelines.starts import prior, sampling
from pipelines.training import images
from pipelines.training.loop import cosine, descend, set_rate
from pipelines.training.stage import Count, Stage, StageConfig
from taichi2dgs import metrics
from taichi2dgs.gaussians import Gaussians

VALID_K = (10_000, 50_000, 100_000)  # Gaussians per 512x512 pixels


@dataclass(frozen=True)
class AttributesConfig(StageConfig):
    """Stage II.

    Args:
        valid_images: whose centre crops are validated on, each at three k.
        epochs: of the whole training; the learning rate follows one cosine over them.
        sampler: see `sampling.sample`.
        warm_up: steps in which the learning rate rises; 0 for none.
        width, patch, crop, k, crops, batch, learning_rate, workers, seed, about: see `StageConfig`.
    """

    valid_images: Count = 16
    epochs: Count = 20
    sampler: Annotated[str, OneOf(sampling.METHODS)] = sampling.DEFAULT
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
            loss = self._learn()
            self.epoch += 1
            self._validate(loss)

    def _export(self) -> Path:
        weights.copy("position", self.position_folder, self.folder.path)
        return super()._export()

    def _learn(self) -> float:
        """One epoch. Returns the mean loss: squared error over that of the start."""
        c, where = self.config, self.processes.device
        self.net.train()
        crops = images.Crops(self.pictures.train, c.crops, c.crop, c.k, c.seed, self.epoch)
        share = list(self.processes.share(c.crops))[: self.steps * c.batch]
        loader = self._loader(crops, share)
        losses = []
        bar = tqdm(loader, f"epoch {self.epoch + 1} of {c.epochs}", disable=self.quiet)
        for step, (image, k) in enumerate(bar):
            number = self.epoch * self.steps + step
            warm = min(1, (number + 1) / max(1, c.warm_up))
            set_rate(
                self.optimizer, c.learning_rate * warm * cosine(number / (self.steps * c.epochs))
            )
            image = image.to(where)
            placed = self._place(image, k.tolist(), seed=self.epoch * c.crops + step * c.batch)
            with torch.no_grad():
                before = prior.rendered(placed)
            with self.processes.autocast():
                found = prior.attribute(self.wrapped, image, placed, before)
            loss = _relative_error(image, prior.rendered(found), before).mean()
            descend(loss, self.net, self.optimizer)
            losses.append([float(loss.detach())])
            bar.set_postfix_str(f"loss {sum(map(sum, losses[-50:])) / len(losses[-50:]):.4f}")
        self.processes.agree(self.net)
        return self.processes.mean(losses, 1)[0]

    def _place(self, image: Tensor, k: list[int], seed: int) -> list[Gaussians]:
        heat = prior.densities(self.position, image, k)
        return prior.place(image, heat, k, self.config.sampler, seed)

    def _validate(self, loss: float) -> None:
        """Measure what the network makes of starts, and record it."""
        c, where, net = self.config, self.processes.device, self.net.eval()
        number = min(c.valid_images, len(self.pictures.valid))
        share = self.processes.share(number)
        measured, shown = [], []
        for index in tqdm(share, "validate", disable=self.quiet, leave=False):
            image = images.read_from(self.pictures.valid, index)
            image = images.cropped(images.reflected(image, c.crop), c.crop)[None].to(where)
            for count in VALID_K:
                placed = self._place(image, [count_of(count, c.crop**2)], seed=index)
                with torch.no_grad():
                    before = prior.rendered(placed)
                    after = prior.rendered(prior.attribute(net, image, placed, before))
                error = float(_relative_error(image, after, before))
                measured.append([error, metrics.psnr(after, image), metrics.psnr(before, image)])
                if count == VALID_K[1]:
                    row = (image, before, after, (after - image).abs() * 5)
                    shown.append([one[0].clamp(0, 1) for one in row])
        names = ("valid_loss", "valid_psnr", "start_psnr")
        means = dict(zip(names, self.processes.mean(measured, len(names)), strict=True))
        self._record({"epoch": self.epoch, "loss": loss, **means}, shown, f"{self.epoch:03d}")


def _relative_error(image: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Squared error over that of the start, so that sharp crops weigh as much as soft ones. [B]"""
    errors = [(render - image).square().mean((1, 2, 3)) for render in (after, before)]
    return errors[0] / errors[1].clamp(min=1e-6)
