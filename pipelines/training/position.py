"""Stage I: a position network that learns where optimised Gaussians end (paper 3.4).

Round after round, the network proposes where Gaussians go, the fit engine optimises them, and the
network regresses the heatmap of where they went; until the heatmaps stop moving.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from pipelines.fields import OneOf, Range
from pipelines.starts import prior, projection, sampling
from pipelines.training import images
from pipelines.training.loop import cosine
from pipelines.training.stage import Count, Stage, StageConfig
from taichi2dgs.fitting.batch import fit_batch
from taichi2dgs.fitting.options import FitOptions
from taichi2dgs.storage import files


def negative_log_likelihood(heat: Tensor, target: Tensor) -> Tensor:
    """Return the mean of -log of the heat at the target's centres; 0 for a uniform heatmap.

    Heatmaps are sampled in proportion, so their scale makes no difference here; nor does that of
    the target, which its most crowded pixel decides.

    Args:
        heat: [B, 1, H, W]
        target: [B, 1, H, W]
    """
    density = (heat / heat.mean((1, 2, 3), keepdim=True)).clamp(min=1e-9)
    weight = target / target.sum((1, 2, 3), keepdim=True).clamp(min=1e-9)
    return -(weight * density.log()).sum((1, 2, 3)).mean()


AT_ONCE = 8  # crops that are fitted together
DIGITS = 12  # digits of the digest in the name of a folder of targets
LOSSES = {"likelihood": negative_log_likelihood, "l2": F.mse_loss}


@dataclass(frozen=True)
class PositionConfig(StageConfig):
    """Stage I.

    Args:
        crops, valid_crops: fitted in each round, to learn from and to validate on.
        rounds: at most.
        threshold: the share of a heatmap that moves in a round, below which rounds end.
        sampler: see `sampling.sample`; "multinomial" keeps the heat an intensity, where samplers
            without repetition would flatten it at large k.
        steps: of a fit.
        respawn: share of a fit's Gaussians that may move at once; see `FitOptions`.
        sigma: of the projection's blur in pixels.
        loss: "likelihood" of the centres, with the heatmap as their density, or the paper's "l2".
        epochs: over a round's crops.
        learning_rate: at the start; round r begins with 1/(r + 1) of it, and follows a cosine to
            zero.
        width, patch, coarse, crop, k, variety, batch, average, workers, seed, about: see
            `StageConfig`.
    """

    crops: Count = 128
    valid_crops: Count = 16
    rounds: Count = 2
    threshold: Annotated[float, Range(0, 1)] = 0.03
    sampler: Annotated[str, OneOf(sampling.METHODS)] = "multinomial"
    steps: Annotated[int, Range(0)] = 60
    respawn: Annotated[float, Range(0, 1)] = 0.0
    sigma: Annotated[float, Range(0, 99)] = 1.0
    loss: Annotated[str, OneOf(LOSSES)] = "likelihood"
    epochs: Count = 5
    learning_rate: Annotated[float, Range(0, above=True)] = 1e-4


class Targets(Dataset):
    """Crops of one round with the heatmaps of their optimised Gaussians, flipped at random.

    Args:
        crops: images and numbers of Gaussians.
        folder: where the centres of the optimised Gaussians are.
        sigma: of the projection in pixels.
        epoch: of the flips; there are none in epoch 0.
    """

    def __init__(self, crops: images.Crops, folder: Path, sigma: float, epoch: int = 0) -> None:
        self.crops, self.folder, self.sigma, self.epoch = crops, folder, sigma, epoch

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        """Return image, heatmap and k. [3, S, S], [1, S, S]"""
        image, k = self.crops[index]
        xy = torch.from_numpy(np.load(centres(self.folder, index)))
        heat = projection.project(xy, (image.shape[1], image.shape[2]), self.sigma)[None]
        which = int(np.random.default_rng([self.epoch, index]).integers(8)) if self.epoch else 0
        return images.turned(image, which), images.turned(heat, which), k


def centres(folder: Path, index: int) -> Path:
    """Return the file with the centres of a crop's optimised Gaussians."""
    return folder / f"{index:05d}.npy"


class PositionStage(Stage[PositionConfig]):
    """A run of Stage I; it caches the targets of its rounds in its folder."""

    name = "position"
    counters = ("round", *Stage.counters)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.previous = copy.deepcopy(self.net)  # the network of the beginning of the round
        self.kept["previous"] = self.previous
        self.round = 0

    def _train(self) -> None:
        while self.round < self.config.rounds and not self._has_settled():
            if not any(row["round"] == self.round for row in self.rows):
                self._validate(float("nan"))
            while self.epoch < self.config.epochs:
                self._learn()
                self._validate(self._end_epoch())
            self.round, self.epoch = self.round + 1, 0
            self.previous.load_state_dict(self.judged.state_dict())
            self._save()

    def _has_settled(self) -> bool:
        """Whether the last round that has ended moved next to nothing."""
        ended = [row for row in self.rows if row["round"] < self.round]
        return bool(ended) and ended[-1]["change"] < self.config.threshold

    def _crops(self, name: str) -> images.Crops:
        """The crops of this round; those of validation never change."""
        c = self.config
        if name == "train":
            return images.Crops(
                self.pictures.train, c.crops, c.crop, c.k, c.seed, self.round, c.variety
            )
        number = min(c.valid_crops, 4 * len(self.pictures.valid))
        return images.Crops(self.pictures.valid, number, c.crop, c.k, c.seed)

    def _targets(self, name: str, epoch: int) -> Targets:
        """Fit this round's crops, unless that is done, and return what to learn from them."""
        crops = self._crops(name)
        folder = self.folder.path / "targets" / f"{self.round:02d}-{name}-{self._digest()}"
        folder.mkdir(parents=True, exist_ok=True)
        share = [i for i in self.processes.share(len(crops)) if not centres(folder, i).exists()]
        quiet = self.quiet or not share
        with tqdm(total=len(share), desc=f"round {self.round}: fit {name}", disable=quiet) as bar:
            for first in range(0, len(share), AT_ONCE):
                numbers = share[first : first + AT_ONCE]
                for index, xy in zip(numbers, self._optimised(crops, numbers), strict=True):
                    with files.replacing(centres(folder, index)) as temporary:
                        np.save(temporary, xy.cpu().numpy())
                bar.update(len(numbers))
        self.processes.wait()
        return Targets(crops, folder, self.config.sigma, epoch)

    def _digest(self) -> str:
        """Name what a round's targets are made by: configuration, pictures and network."""
        state = [(name, part.cpu().numpy()) for name, part in self.previous.state_dict().items()]
        content = hashlib.sha256(repr((self.config, self.pictures.digest)).encode())
        for name, part in state:
            content.update(name.encode() + part.tobytes())
        return self.processes.from_first(lambda: content.hexdigest()[:DIGITS])

    def _optimised(self, crops: images.Crops, numbers: list[int]) -> list[Tensor]:
        """Propose centres on some crops, optimise them with the rest, and return where they end.

        Returns:
            Centres of each crop. [k, 2]
        """
        c, pictures, starts = self.config, [], []
        for index in numbers:
            image, k = crops[index]
            # One by one: a batch may round heatmaps otherwise, and a run that goes on has others.
            heat = prior.heatmaps(
                self.previous.eval(), image[None].to(self.processes.device), [k]
            ).cpu()
            seed = c.seed + 1000 * self.round + index
            starts += prior.place(image[None], heat, [k], c.sampler, seed)
            pictures.append(image.permute(1, 2, 0))
        options = FitOptions(respawn=c.respawn)
        fits = fit_batch(pictures, starts, steps=c.steps, options=options)
        return [fitted.gaussians.xy for fitted in fits]

    def _batches(self, name: str, epoch: int, done: int = 0) -> DataLoader:
        """Batches of this process's share: shuffled, and turned, in all epochs but 0.

        The first `done` of them are left out.
        """
        targets = self._targets(name, epoch)
        order = torch.arange(len(targets))
        if epoch:
            seed = self.config.seed + 1000 * self.round + epoch
            order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
        world = self.processes.world
        even = len(order) // world * world if epoch else len(order)  # all take as many steps
        share = order[self.processes.rank : even : world].tolist()
        return self._loader(targets, share[done * self.config.batch :])

    def _learn(self) -> None:
        """Regress the heatmaps for an epoch, or for what is left of it."""
        c, done = self.config, len(self.losses)
        loader = self._batches("train", self.epoch + 1, done)
        steps = done + len(loader)
        self.net.train()
        name = f"round {self.round}, epoch {self.epoch + 1} of {c.epochs}"
        bar = tqdm(loader, name, disable=self.quiet)
        for step, (image, heat, k) in enumerate(bar, done):
            used = (self.epoch + step / steps) / c.epochs
            image, heat, k = (tensor.to(self.processes.device) for tensor in (image, heat, k))
            with self.processes.autocast():
                predicted = self.wrapped(image, k)
            loss = LOSSES[c.loss](predicted.float(), heat)
            self._descend(loss, cosine(used) * c.learning_rate / (self.round + 1))
            bar.set_postfix_str(f"loss {self.losses[-1][0]:.5f}")

    def _validate(self, loss: float) -> None:
        """Measure the heatmaps, and how they moved in this round; record it."""
        measured, shown, measure = [], [], LOSSES[self.config.loss]
        for image, target, k in self._batches("valid", 0):
            heat, before = (
                prior.heatmaps(net.eval(), image.to(self.processes.device), k.tolist()).cpu()
                for net in (self.judged, self.previous)
            )
            for row in zip(image, target, heat[:, None], before[:, None], strict=True):
                measured.append([float(measure(row[2][None], row[1][None])), _moved(*row[3:1:-1])])
                shown.append([row[0], row[1], row[2] / row[2].max()])
        valid_loss, change = self.processes.mean(measured, 2)
        row = {
            "round": self.round,
            "epoch": self.epoch,
            "loss": loss,
            "valid_loss": valid_loss,
            "change": change,
        }
        self._record(row, shown, f"{self.round:02d}-{self.epoch:02d}")


def _moved(before: Tensor, after: Tensor) -> float:
    """Share of the heat that changed its place: the total variation of the two densities."""
    return float((before / before.sum() - after / after.sum()).abs().sum() / 2)
