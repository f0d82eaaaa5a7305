"""Stage I: a position network that learns where optimised Gaussians end (paper 3.4).

Round 0 teaches the network a density that is known: `starts.detail_density`. From then on, round
after round, it proposes where Gaussians go, the fit engine optimises them, and it regresses the
heatmap of where they went; until the heatmaps stop moving.
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from nets.prior import PositionNet
from pipelines import prior, projection, starts
from pipelines.training import images
from pipelines.training.loop import Folder, Processes, cosine, descend, panel, set_rate
from taichi2dgs import files, fit

NET = "position"


@dataclass(frozen=True)
class PositionConfig:
    """Stage I.

    Args:
        width, patch: of the network.
        crop: side of a training crop in pixels.
        k: lowest and highest number of Gaussians per 512x512 pixels.
        crops, valid_crops: to learn from and to validate on in a round, which fits them; round 0
            has new crops in every epoch.
        rounds: of fits, at most; 0 learns the density of round 0 alone.
        threshold: the share of a heatmap that moves in a round, below which rounds end.
        sampler: see `sampling.sample`; "multinomial" keeps the heat an intensity, where samplers
            without repetition would flatten it at large k.
        steps: of a fit.
        sigma: of the projection's blur in pixels.
        first_epochs: of round 0.
        epochs: of every other round, over its crops.
        batch: crops per step and process.
        learning_rate: of AdamW at the start; round r begins with 1/(r + 1) of it, and follows a
            cosine to zero.
        workers: processes that read images.
        seed: of everything random.
        about: the images' origin and licence, for the card of the weights.
    """

    width: int = 32
    patch: int = 2
    crop: int = 256
    k: tuple[float, float] = (10_000, 100_000)
    crops: int = 192
    valid_crops: int = 16
    rounds: int = 4
    threshold: float = 0.03
    sampler: str = "multinomial"
    steps: int = 60
    sigma: float = 1.0
    first_epochs: int = 16
    epochs: int = 8
    batch: int = 4
    learning_rate: float = 1e-3
    workers: int = 0
    seed: int = 0
    about: str = ""


class Targets(Dataset):
    """Crops of one round with the heatmaps to learn, flipped at random.

    Args:
        crops: images and numbers of Gaussians.
        folder: where the centres of the optimised Gaussians are; without it the heatmaps are the
            detail densities of the crops.
        sigma: of the projection in pixels.
        epoch: of the flips; there are none in epoch 0.
    """

    def __init__(
        self, crops: images.Crops, folder: Path | None, sigma: float, epoch: int = 0
    ) -> None:
        self.crops, self.folder, self.sigma, self.epoch = crops, folder, sigma, epoch

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        """Return image, heatmap and k. [3, S, S], [1, S, S]"""
        image, k = self.crops[index]
        heat = self._heat(index, image, k)[None]
        which = int(np.random.default_rng([self.epoch, index]).integers(8)) if self.epoch else 0
        return images.turned(image, which), images.turned(heat, which), k

    def _heat(self, index: int, image: Tensor, k: int) -> Tensor:
        if self.folder is None:
            density = starts.detail_density(image.permute(1, 2, 0), k).float()
            return density / density.max()
        xy = torch.from_numpy(np.load(centres(self.folder, index)))
        return projection.project(xy, (image.shape[1], image.shape[2]), self.sigma)


def centres(folder: Path, index: int) -> Path:
    """Return the file with the centres of a crop's optimised Gaussians."""
    return folder / f"{index:05d}.npy"


def train(
    data: str, valid: str | None, out: str, config: PositionConfig, quiet: bool = False
) -> Path | None:
    """Train the position network; a run in the same folder that was killed goes on.

    Args:
        data, valid: folders of images; see `images.find`.
        out: folder for checkpoint, targets, log.csv, panels and, at the end, the weights.
        config: what to do.
        quiet: no progress bars.

    Returns:
        The file of weights; None in all but the first process.
    """
    torch.manual_seed(config.seed)
    with Processes() as processes:
        stage = _Stage(data, valid, processes, Folder(out, processes, asdict(config)), quiet)
        stage.run()
        return stage.export() if processes.is_first else None


class _Stage:
    """The state of a run: network, optimiser, log, and how far it got."""

    def __init__(self, data, valid, processes: Processes, folder: Folder, quiet: bool) -> None:
        self.config = config = PositionConfig(**folder.config)
        self.processes, self.folder = processes, folder
        self.quiet = quiet or not processes.is_first
        self.train_paths, self.valid_paths = images.find(data, valid)
        self.net = PositionNet(config.width, config.patch).to(processes.device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), config.learning_rate)
        self.previous = copy.deepcopy(self.net)  # as it was when the round began
        self.round, self.epoch, self.rows = 0, 0, []
        state = folder.resume()
        if state:
            self.net.load_state_dict(state["net"])
            self.previous.load_state_dict(state["previous"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.round, self.epoch, self.rows = state["round"], state["epoch"], state["rows"]
        self.wrapped = processes.wrap(self.net)

    def run(self) -> None:
        while self.round <= self.config.rounds and not self._has_settled():
            epochs = self.config.epochs if self.round else self.config.first_epochs
            if not self.epoch:
                self._record(float("nan"))
            while self.epoch < epochs:
                loss = self._learn(epochs)
                self.epoch += 1
                self._record(loss)
            self.round, self.epoch = self.round + 1, 0
            self.previous.load_state_dict(self.net.state_dict())
            self._save()

    def export(self) -> Path:
        validation = {key: value for key, value in self.rows[-1].items() if key != "loss"}
        return self.folder.export(self.net, NET, self.train_paths, validation)

    def _has_settled(self) -> bool:
        return (
            bool(self.rows) and self.round > 1 and self.rows[-1]["change"] < self.config.threshold
        )

    def _crops(self, name: str) -> images.Crops:
        """Crops of this round, or of this epoch of round 0; validation's never change."""
        c, paths, number, draw = self.config, self.valid_paths, self.config.valid_crops, 0
        if name == "train":
            paths, number = self.train_paths, c.crops
            draw = c.first_epochs + self.round if self.round else self.epoch
        return images.Crops(paths, min(number, 4 * len(paths)), c.crop, c.k, c.seed, draw)

    def _targets(self, name: str, epoch: int) -> Targets:
        """Fit this round's crops, unless that is done, and return what to learn from them."""
        crops = self._crops(name)
        if not self.round:
            return Targets(crops, None, self.config.sigma, epoch)
        folder = self.folder.path / "targets" / f"{self.round:02d}-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        share = [i for i in self.processes.share(len(crops)) if not centres(folder, i).exists()]
        self.net.eval()
        quiet = self.quiet or not share
        for index in tqdm(share, f"round {self.round}: fit {name}", disable=quiet):
            temporary = centres(folder, index).with_suffix(".part")
            with open(temporary, "wb") as file:
                np.save(file, self._optimised(*crops[index], index).cpu().numpy())
            temporary.replace(centres(folder, index))
        self.processes.wait()
        return Targets(crops, folder, self.config.sigma, epoch)

    def _optimised(self, image: Tensor, k: int, index: int) -> Tensor:
        """Propose k centres, optimise them with the rest, and return where they end. [k, 2]"""
        c, seed = self.config, self.config.seed + 1000 * self.round + index
        heat = prior.heatmaps(self.net, image[None].to(self.processes.device), [k]).cpu()
        (start,) = prior.place(image[None], heat, [k], c.sampler, seed)
        return fit(image.permute(1, 2, 0), start, steps=c.steps).gaussians.xy

    def _loader(self, name: str, epoch: int) -> DataLoader:
        """Batches of this process's share: shuffled, and turned, in all epochs but 0."""
        targets, c = self._targets(name, epoch), self.config
        order = torch.arange(len(targets))
        if epoch:
            seed = c.seed + 1000 * self.round + epoch
            order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
        world = self.processes.world
        even = len(order) // world * world if epoch else len(order)  # all take as many steps
        share = order[self.processes.rank : even : world].tolist()
        context = "spawn" if c.workers else None
        return DataLoader(
            targets, c.batch, sampler=share, num_workers=c.workers, multiprocessing_context=context
        )

    def _learn(self, epochs: int) -> float:
        """Regress the heatmaps for one epoch. Returns the mean squared error."""
        losses, c = [], self.config
        loader = self._loader("train", self.epoch + 1)
        self.net.train()
        name = f"round {self.round}, epoch {self.epoch + 1} of {epochs}"
        bar = tqdm(loader, name, disable=self.quiet)
        for step, (image, heat, k) in enumerate(bar):
            used = (self.epoch + step / len(loader)) / epochs
            set_rate(self.optimizer, cosine(used) * c.learning_rate / (self.round + 1))
            image, heat, k = (tensor.to(self.processes.device) for tensor in (image, heat, k))
            with self.processes.autocast():
                predicted = self.wrapped(image, k)
            loss = F.mse_loss(predicted.float(), heat)
            descend(loss, self.net, self.optimizer)
            losses.append([float(loss.detach())])
            bar.set_postfix_str(f"loss {losses[-1][0]:.5f}")
        return self.processes.mean(losses)[0]

    def _record(self, loss: float) -> None:
        """Validate, log the epoch, draw its panel, and save."""
        measured, shown = [], []
        for image, target, k in self._loader("valid", 0):
            heat, before = (
                prior.heatmaps(net.eval(), image.to(self.processes.device), k.tolist()).cpu()
                for net in (self.net, self.previous)
            )
            for row in zip(image, target, heat[:, None], before[:, None], strict=True):
                measured.append([float(F.mse_loss(row[2], row[1])), _moved(row[3], row[2])])
                shown.append([row[0], row[1], row[2] / row[2].max()])
        valid_loss, change = self.processes.mean(measured)
        self.rows.append({"round": self.round, "epoch": self.epoch, "loss": loss,
                          "valid_loss": valid_loss, "change": change})  # fmt: skip
        if self.processes.is_first:
            name = f"panel-{self.round:02d}-{self.epoch:02d}.png"
            files.write_image(self.folder.path / name, panel(shown[:4]))
        self._save()
        if not self.quiet:
            tqdm.write(f"round {self.round}, epoch {self.epoch}: validation loss {valid_loss:.5f}, "
                       f"heat moved {change:.4f}")  # fmt: skip

    def _save(self) -> None:
        modules = {"net": self.net, "previous": self.previous, "optimizer": self.optimizer}
        states = {name: module.state_dict() for name, module in modules.items()}
        self.folder.save(**states, round=self.round, epoch=self.epoch, rows=self.rows)
        self.folder.log(self.rows)


def _moved(before: Tensor, after: Tensor) -> float:
    """Share of the heat that changed its place: the total variation of the two densities."""
    return float((before / before.sum() - after / after.sum()).abs().sum() / 2)
