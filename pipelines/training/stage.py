"""What both stages are: settings, a network with its optimiser and log, a run that goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from nets import weights
from nets.unet import LEVELS, Shape
from pipelines.fields import Range
from pipelines.training import images
from pipelines.training.loop import Folder, Processes, descend, panel, set_rate
from taichi2dgs.storage import files

SHOWN = 4  # rows of a panel
SAVE_SECONDS = 120  # between two checkpoints of an epoch
COARSEST = 1 << (LEVELS - 1)  # patches along a pixel of the network's coarsest level
Count = Annotated[int, Range(1)]


@dataclass(frozen=True)
class StageConfig:
    """Settings that both stages have.

    Args:
        width, patch, coarse: of the network; see `nets.unet.Shape`.
        crop: side of a training crop in pixels.
        k: lowest and highest number of Gaussians per 512x512 pixels.
        crops: in an epoch.
        variety: what crops are besides parts of photographs.
        batch: crops per step and process.
        learning_rate: of AdamW.
        average: how much of the moving average of weights and buffers a step keeps; it is what
            validates and becomes the weights. 0 for the network as the last step leaves it.
        workers: processes that read images.
        seed: of everything random.
        about: the images' origin and licence, for the card of the weights.
    """

    width: Annotated[int, Range(1, 512)] = 32
    patch: Annotated[int, Range(1, 16)] = 2
    coarse: Annotated[int, Range(1, 16)] = 4
    crop: Annotated[int, Range(16, 8192)] = 256
    k: Annotated[tuple[float, float], Range(1, 10**7)] = (10_000, 100_000)
    crops: Count = 400
    variety: images.Variety = field(default_factory=images.Variety)
    batch: Count = 4
    learning_rate: Annotated[float, Range(0, above=True)] = 1e-3
    average: Annotated[float, Range(0, 0.99999)] = 0.0
    workers: Annotated[int, Range(0, 1024)] = 0
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    about: str = ""

    @property
    def shape(self) -> Shape:
        """The shape of the network."""
        return Shape(self.width, self.patch, self.coarse)

    def __post_init__(self) -> None:
        if self.k[0] > self.k[1]:
            raise ValueError(f"k={list(self.k)}; expected the lower number first")
        if self.variety is None:  # a name without anything after it
            raise ValueError("variety=None; expected a mapping of names to values")
        if self.crop <= self.patch * COARSEST:  # batch normalisation needs two pixels
            raise ValueError(
                f"crop={self.crop}; expected more than {COARSEST} x patch = "
                f"{COARSEST * self.patch}, so that the network's coarsest level has several pixels"
            )


Config = TypeVar("Config", bound=StageConfig)


def moving_average(kept: float) -> Callable[[Any, Any, Tensor | int], None]:
    """Return how an `AveragedModel` learns: it keeps a share, but less in its first steps.

    With 0.998, an average over some 500 steps, it keeps 0.18 in its second step, 0.53 in the tenth
    and 0.92 in the hundredth, so that it is of use from the beginning.
    """

    def update(averaged: Any, current: Any, number: Tensor | int) -> None:
        early = (1 + int(number)) / (10 + int(number))
        get_ema_multi_avg_fn(min(kept, early))(averaged, current, number)

    return update


class Stage(Generic[Config]):
    """The state of a run: network, optimiser, log, and how far it got.

    Args:
        data, valid: folders of images; see `images.find`.
        out: folder for checkpoint, log.csv, panels and, at the end, the weights.
        config: what to do.
        processes: that train together.
        quiet: no progress bars.
        begin: folder of weights to begin with; the network is drawn at random if None.

    Raises:
        ValueError: there are too few crops for so many processes, no images, or weights to begin
            with that are missing, damaged or of another shape.
    """

    name: str  # name of the network
    # fields that a checkpoint keeps
    counters: tuple[str, ...] = ("epoch", "losses", "rows", "hours")
    whole_batches = False  # whether crops that do not fill a batch in every process are left out

    def __init__(
        self,
        data: str,
        valid: str | None,
        out: str,
        config: Config,
        processes: Processes,
        quiet: bool = False,
        begin: str | Path | None = None,
    ) -> None:
        least = processes.world * (config.batch if self.whole_batches else 1)
        if config.crops < least:
            raise ValueError(
                f"crops={config.crops}; expected {least} or more, with {processes.world} "
                f"process{'es' if processes.world > 1 else ''} and batch={config.batch}"
            )
        torch.manual_seed(config.seed)
        self.config, self.processes = config, processes
        self.quiet = quiet or not processes.is_first
        self.pictures = processes.from_first(lambda: images.find(data, valid, out, self.quiet))
        settings = asdict(config) | {"begin": begin and weights.file(self.name, begin).stem}
        self.net = self._begun(begin).to(processes.device)
        defaults = asdict(type(config)())
        self.folder = Folder(out, processes, settings, defaults, self.pictures.digest)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), config.learning_rate)
        self.average = AveragedModel(
            self.net, multi_avg_fn=moving_average(config.average), use_buffers=True
        )
        # in a checkpoint, with counters
        self.kept = {"net": self.net, "optimizer": self.optimizer, "average": self.average}
        self.epoch, self.rows = 0, []
        self.losses: list[list[float]] = []  # of the steps of this epoch
        self.hours = 0.0  # of the cores of this process, for the network that is there
        self._measured = self._saved = 0.0

    def run(self) -> Path | None:
        """Train to the end, from wherever a killed run in the same folder got.

        Returns:
            The file of weights; None in all but the first process.
        """
        state = self.folder.resume(self._may_differ) or {}
        for name in self.kept if state else ():
            self.kept[name].load_state_dict(state[name])
        for name in self.counters if state else ():
            setattr(self, name, state[name])
        self.wrapped = self.processes.wrap(self.net)
        self._measured, self._saved = time.process_time(), time.monotonic()
        self._train()
        self.hours = self.processes.mean([[self.hours]], 1)[0] * self.processes.world
        return self._export() if self.processes.is_first else None

    def _begun(self, begin: str | Path | None) -> weights.Net:
        """Return the network as it is before the first step."""
        net = weights.NETS[self.name](self.config.shape)
        if begin is not None:
            there = weights.load(self.name, begin)
            if there.unet.shape != net.unet.shape:
                raise ValueError(
                    f"{weights.file(self.name, begin)}: a network of {there.unet.shape}; "
                    f"expected that of the configuration, {net.unet.shape}"
                )
            net.load_state_dict(there.state_dict())
        return net

    def _train(self) -> None:
        """Learn and record, epoch by epoch."""
        raise NotImplementedError

    def _may_differ(self, state: dict[str, Any]) -> tuple[str, ...]:
        """Return the settings that may be others than those of a checkpoint."""
        return ()

    @property
    def judged(self) -> weights.Net:
        """The network that validates and becomes the weights: the average."""
        return self.average.module.eval()  # type: ignore[return-value]

    def _descend(self, loss: Tensor, rate: float) -> None:
        """Take one step at a learning rate, and save once in a while."""
        set_rate(self.optimizer, rate)
        descend(loss, self.net, self.optimizer)
        self.average.update_parameters(self.net)
        self.losses.append([float(loss.detach())])
        # Other processes have losses of their own, which nobody would save.
        if self.processes.world == 1 and time.monotonic() > self._saved + SAVE_SECONDS:
            self._save()

    def _end_epoch(self) -> float:
        """Give all processes the first one's buffers, and return the epoch's mean loss.

        Each process has counted what its own crops are.
        """
        for net in (self.net, self.average):
            self.processes.agree(net)
        loss = self.processes.mean(self.losses, 1)[0]
        self.epoch, self.losses = self.epoch + 1, []
        return loss

    def _loader(self, dataset: Dataset, share: Iterable[int]) -> DataLoader:
        """Return batches of a share of the items."""
        workers = self.config.workers
        return DataLoader(
            dataset,
            self.config.batch,
            sampler=list(share),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )

    def _record(self, row: dict[str, float], shown: list[list[Tensor]], name: str) -> None:
        """Log an epoch, draw its panel, and save."""
        self.rows.append(row)
        if self.processes.is_first:
            path = self.folder.path / f"{images.PANEL}{name}.png"
            files.write_image(path, panel(shown[:SHOWN]))
        self._save()
        if not self.quiet:
            tqdm.write(", ".join(f"{key} {value:.5g}" for key, value in row.items()))

    def _save(self) -> None:
        now = time.process_time()
        self.hours += (now - self._measured) / 3600
        self._measured, self._saved = now, time.monotonic()
        # The log first: a run killed in between writes its last row again, where it would lack it.
        if self.rows:
            self.folder.log(self.rows)
        states = {name: part.state_dict() for name, part in self.kept.items()}
        self.folder.save(**states, **{name: getattr(self, name) for name in self.counters})

    def _export(self) -> Path:
        validation = {key: value for key, value in self.rows[-1].items() if key != "loss"}
        return self.folder.export(
            self.judged, self.name, self.pictures.train, validation, self.hours
        )
