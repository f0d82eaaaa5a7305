"""What both stages are: settings, a network with its optimiser and log, a run that goes on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from nets import weights
from pipelines.training import images
from pipelines.training.loop import Folder, Processes, panel
from taichi2dgs import files

SHOWN = 4  # rows of a panel


@dataclass(frozen=True)
class StageConfig:
    """Settings that both stages have.

    Args:
        width, patch: of the network.
        crop: side of a training crop in pixels.
        k: lowest and highest number of Gaussians per 512x512 pixels.
        crops: in an epoch.
        batch: crops per step and process.
        learning_rate: of AdamW.
        workers: processes that read images.
        seed: of everything random.
        about: the images' origin and licence, for the card of the weights.
    """

    width: int = 32
    patch: int = 2
    crop: int = 256
    k: tuple[float, float] = (10_000, 100_000)
    crops: int = 400
    batch: int = 4
    learning_rate: float = 1e-3
    workers: int = 0
    seed: int = 0
    about: str = ""


Config = TypeVar("Config", bound=StageConfig)


class Stage(Generic[Config]):
    """The state of a run: network, optimiser, log, and how far it got.

    Args:
        data, valid: folders of images; see `images.find`.
        out: folder for checkpoint, log.csv, panels and, at the end, the weights.
        config: what to do.
        processes: that train together.
        quiet: no progress bars.
    """

    name: str  # of the network
    counters: tuple[str, ...] = ("epoch", "rows")  # that a checkpoint keeps

    def __init__(
        self, data: str, valid: str | None, out: str, config: Config, processes: Processes,
        quiet: bool = False,
    ) -> None:  # fmt: skip
        torch.manual_seed(config.seed)
        self.config, self.processes = config, processes
        self.folder = Folder(out, processes, asdict(config))
        self.quiet = quiet or not processes.is_first
        self.train_paths, self.valid_paths = images.find(data, valid)
        self.net = weights.NETS[self.name](config.width, config.patch).to(processes.device)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), config.learning_rate)
        self.kept = {"net": self.net, "optimizer": self.optimizer}  # in a checkpoint, with counters
        self.epoch, self.rows = 0, []

    def run(self) -> Path | None:
        """Train to the end, from wherever a killed run in the same folder got.

        Returns:
            The file of weights; None in all but the first process.
        """
        state = self.folder.resume() or {}
        for name in self.kept if state else ():
            self.kept[name].load_state_dict(state[name])
        for name in self.counters if state else ():
            setattr(self, name, state[name])
        self.wrapped = self.processes.wrap(self.net)
        self._train()
        return self._export() if self.processes.is_first else None

    def _train(self) -> None:
        """Learn and record, epoch by epoch."""
        raise NotImplementedError

    def _loader(self, dataset: Dataset, share: Iterable[int]) -> DataLoader:
        """Return batches of a share of the items."""
        workers = self.config.workers
        return DataLoader(
            dataset, self.config.batch, sampler=list(share), num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )  # fmt: skip

    def _record(self, row: dict[str, float], shown: list[list[Tensor]], name: str) -> None:
        """Log an epoch, draw its panel, and save."""
        self.rows.append(row)
        if self.processes.is_first:
            files.write_image(self.folder.path / f"panel-{name}.png", panel(shown[:SHOWN]))
        self._save()
        if not self.quiet:
            tqdm.write(", ".join(f"{key} {value:.5g}" for key, value in row.items()))

    def _save(self) -> None:
        states = {name: part.state_dict() for name, part in self.kept.items()}
        self.folder.save(**states, **{name: getattr(self, name) for name in self.counters})
        self.folder.log(self.rows)

    def _export(self) -> Path:
        validation = {key: value for key, value in self.rows[-1].items() if key != "loss"}
        return self.folder.export(self.net, self.name, self.train_paths, validation)
