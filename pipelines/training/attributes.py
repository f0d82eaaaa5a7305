"""Stage II: an attribute network, end to end through the renderer (paper 3.5, Eq. 12 to 17)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from nets import weights
from nets.prior import AttributeNet
from pipelines import prior, sampling
from pipelines.training import images
from pipelines.training.loop import Folder, Processes, cosine, descend, panel, set_rate
from taichi2dgs import Gaussians, files, metrics

NET = "attributes"
VALID_K = (10_000, 50_000, 100_000)  # Gaussians per 512x512 pixels


@dataclass(frozen=True)
class AttributesConfig:
    """Stage II.

    Args:
        width, patch: of the network.
        crop: side of a training crop in pixels.
        k: lowest and highest number of Gaussians per 512x512 pixels.
        crops: in an epoch.
        valid_images: whose centre crops are validated on, each at three k.
        epochs: of the whole training; the learning rate follows one cosine over them.
        sampler: see `sampling.sample`.
        batch: crops per step and process.
        learning_rate: of AdamW.
        warm_up: steps in which the learning rate rises.
        workers: processes that read images.
        seed: of everything random.
        about: the images' origin and licence, for the card of the weights.
    """

    width: int = 32
    patch: int = 2
    crop: int = 256
    k: tuple[float, float] = (10_000, 100_000)
    crops: int = 600
    valid_images: int = 16
    epochs: int = 30
    sampler: str = sampling.DEFAULT
    batch: int = 4
    learning_rate: float = 1e-3
    warm_up: int = 100
    workers: int = 0
    seed: int = 0
    about: str = ""


def train(
    data: str,
    valid: str | None,
    out: str,
    config: AttributesConfig,
    position: str | Path = weights.SHIPPED,
    quiet: bool = False,
) -> Path | None:
    """Train the attribute network; a run in the same folder that was killed goes on.

    Args:
        data, valid: folders of images; see `images.find`.
        out: folder for checkpoint, log.csv, panels and, at the end, the weights of both networks.
        config: what to do.
        position: folder with the position network's weights, which stay as they are.
        quiet: no progress bars.

    Returns:
        The file of weights; None in all but the first process.
    """
    torch.manual_seed(config.seed)
    with Processes() as processes:
        folder = Folder(out, processes, asdict(config))
        stage = _Stage(data, valid, processes, folder, position, quiet)
        stage.run()
        return stage.export() if processes.is_first else None


class _Stage:
    """The state of a run: networks, optimiser, log, and how far it got."""

    def __init__(self, data, valid, processes: Processes, folder: Folder, position, quiet) -> None:
        self.config = config = AttributesConfig(**folder.config)
        self.processes, self.folder = processes, folder
        self.quiet = quiet or not processes.is_first
        self.train_paths, self.valid_paths = images.find(data, valid)
        self.position_folder = position
        self.position = weights.load("position", position).to(processes.device)
        self.net = AttributeNet(config.width, config.patch).to(processes.device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), config.learning_rate)
        self.epoch, self.rows = 0, []
        state = folder.resume()
        if state:
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.epoch, self.rows = state["epoch"], state["rows"]
        self.wrapped = processes.wrap(self.net)
        self.steps = config.crops // (config.batch * processes.world)  # in an epoch

    def run(self) -> None:
        if not self.rows:
            self._record(float("nan"))
        while self.epoch < self.config.epochs:
            loss = self._learn()
            self.epoch += 1
            self._record(loss)

    def export(self) -> Path:
        weights.copy("position", self.position_folder, self.folder.path)
        validation = {key: value for key, value in self.rows[-1].items() if key != "loss"}
        return self.folder.export(self.net, NET, self.train_paths, validation)

    def _learn(self) -> float:
        """One epoch. Returns the mean loss: squared error over that of the start."""
        c, where = self.config, self.processes.device
        self.net.train()
        crops = images.Crops(self.train_paths, c.crops, c.crop, c.k, c.seed, self.epoch)
        share = list(self.processes.share(c.crops))[: self.steps * c.batch]
        context = "spawn" if c.workers else None
        loader = DataLoader(crops, c.batch, sampler=share, num_workers=c.workers,
                            multiprocessing_context=context)  # fmt: skip
        losses = []
        bar = tqdm(loader, f"epoch {self.epoch + 1} of {c.epochs}", disable=self.quiet)
        for step, (image, k) in enumerate(bar):
            number = self.epoch * self.steps + step
            warm = min(1, (number + 1) / c.warm_up)
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
        return self.processes.mean(losses)[0]

    def _place(self, image: Tensor, k: list[int], seed: int) -> list[Gaussians]:
        heat = prior.heatmaps(self.position, image, k)
        return prior.place(image, heat, k, self.config.sampler, seed)

    def _record(self, loss: float) -> None:
        """Validate, log the epoch, draw its panel, and save."""
        c, where, net = self.config, self.processes.device, self.net.eval()
        number = min(c.valid_images, len(self.valid_paths))
        share = list(self.processes.share(number)) or [0]
        measured, shown = [], []
        for index in tqdm(share, "validate", disable=self.quiet, leave=False):
            image = images.cropped(images.read_rgb(self.valid_paths[index]), c.crop)[None].to(where)
            for count in VALID_K:
                placed = self._place(image, [round(count * c.crop**2 / images.AREA)], seed=index)
                with torch.no_grad():
                    before = prior.rendered(placed)
                    after = prior.rendered(prior.attribute(net, image, placed, before))
                loss = float(_relative_error(image, after, before))
                measured.append([loss, metrics.psnr(after, image), metrics.psnr(before, image)])
                if count == VALID_K[1]:
                    error = (after - image).abs() * 5
                    shown.append([one[0].clamp(0, 1) for one in (image, before, after, error)])
        names = ("valid_loss", "valid_psnr", "start_psnr")
        means = dict(zip(names, self.processes.mean(measured), strict=True))
        self.rows.append({"epoch": self.epoch, "loss": loss, **means})
        if self.processes.is_first:
            files.write_image(self.folder.path / f"panel-{self.epoch:03d}.png", panel(shown[:4]))
        self.folder.save(net=self.net.state_dict(), optimizer=self.optimizer.state_dict(),
                         epoch=self.epoch, rows=self.rows)  # fmt: skip
        self.folder.log(self.rows)
        if not self.quiet:
            tqdm.write(
                f"epoch {self.epoch}: validation loss {means['valid_loss']:.4f}, "
                f"PSNR {means['valid_psnr']:.2f} dB, of the start {means['start_psnr']:.2f} dB"
            )


def _relative_error(image: Tensor, after: Tensor, before: Tensor) -> Tensor:
    """Squared error over that of the start, so that sharp crops weigh as much as soft ones. [B]"""
    errors = [(render - image).square().mean((1, 2, 3)) for render in (after, before)]
    return errors[0] / errors[1].clamp(min=1e-6)
