"""What both stages share: processes, checkpoints, log, and steps of an optimiser."""

from __future__ import annotations

import csv
import math
import os
import socket
from collections.abc import Callable, Collection
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nets import weights
from taichi2dgs import doctor
from taichi2dgs.storage import files

CHECKPOINT = "checkpoint.pt"
MAX_NORM = 1.0  # largest norm of the gradient of a step

Made = TypeVar("Made")


class Processes:
    """The processes of one training: one, or as many as torchrun has started.

    As a context it starts and ends their group. Each sees one GPU, if there are any: Taichi can
    use a process's first only. CUDA looks at what it may see once, when it is first asked for
    anything, so make this before a backend starts. Where CUDA_VISIBLE_DEVICES names one GPU,
    several processes share it: small networks leave most of one idle.

    Raises:
        ValueError: there are fewer GPUs to see than processes on this machine, and more than one.
    """

    def __init__(self) -> None:
        self.rank = int(os.environ.get("RANK", 0))
        self.world = int(os.environ.get("WORLD_SIZE", 1))
        if self.world > 1:
            _see_one_gpu(int(os.environ.get("LOCAL_RANK", 0)))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.group: dist.ProcessGroup | None = None  # that of all, as torch chooses

    @property
    def device_name(self) -> str:
        """The GPU of this process, or "cpu"."""
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def __enter__(self) -> Processes:
        if self.world > 1 and self.device.type == "cuda":
            dist.init_process_group("cpu:gloo,cuda:nccl")
            through_cpu = dist.new_group(backend="gloo")
            seen: list[Any] = [None] * self.world
            dist.all_gather_object(seen, _gpu(), group=through_cpu)
            if len(set(seen)) < self.world:  # NCCL refuses two processes on a GPU
                self.group = through_cpu  # type: ignore[assignment]  # None for no part only
        elif self.world > 1:
            dist.init_process_group("gloo")
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if dist.is_initialized():
            if error is None:
                # Gloo's threads outlive the group once DistributedDataParallel has used it. A sum
                # that one still holds would be freed while the interpreter ends, which aborts the
                # process; when a barrier is through, they hold nothing.
                dist.barrier(self.group)
            dist.destroy_process_group()

    def wait(self) -> None:
        """Return when all processes have come here."""
        if self.world > 1:
            dist.barrier(self.group)

    def share(self, number: int) -> range:
        """Return this process's part of `number` items."""
        return range(self.rank, number, self.world)

    def mean(self, rows: list[list[float]], columns: int) -> list[float]:
        """Return the mean of all processes' rows, column by column; one process may have none."""
        total = torch.tensor(rows, dtype=torch.float64).reshape(-1, columns).sum(0)
        total = torch.cat([total, total.new_tensor([len(rows)])]).to(self.device)
        if self.world > 1:
            dist.all_reduce(total, group=self.group)
        return (total[:-1] / total[-1]).tolist()

    def from_first(self, make: Callable[[], Made]) -> Made:
        """Return in every process what the first one makes, or raise its ValueError."""
        made: list[Any] = [None, None]
        if self.is_first:
            try:
                made[0] = make()
            except ValueError as error:
                made[1] = error
        if self.world > 1:
            dist.broadcast_object_list(made, device=self.device, group=self.group)
        if made[1] is not None:
            raise made[1]
        return made[0]

    def agree(self, net: nn.Module) -> None:
        """Give all processes the first one's buffers."""
        for buffer in net.buffers() if self.world > 1 else ():
            dist.broadcast(buffer, 0, group=self.group)

    def wrap(self, net: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over the processes."""
        return DistributedDataParallel(net, process_group=self.group) if self.world > 1 else net

    def autocast(self) -> torch.autocast:
        """Return a bf16 context where it helps: on a CPU without the instructions it costs 10x."""
        enabled = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def _gpu() -> str:
    """Name the GPU of this process such that another one has another name."""
    unique = getattr(torch.cuda.get_device_properties(0), "uuid", None)  # since torch 2.5
    return str(unique or (socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")))


def _see_one_gpu(local: int) -> None:
    """Let CUDA show this process one GPU only: of those that it may see, the `local`-th."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        there = torch.cuda.device_count()
        if 0 < there <= local:
            raise ValueError(
                f"{local + 1} or more processes for {there} GPUs; expected a GPU for each, or "
                "CUDA_VISIBLE_DEVICES=0, for all to share one"
            )
        os.environ["CUDA_VISIBLE_DEVICES"] = str(local)
        return
    names = [name.strip() for name in listed.split(",")]
    names = list(takewhile(lambda name: name not in ("", "-1"), names))  # as CUDA reads the list
    if len(names) < 2:  # there is no GPU, or a launcher has picked one
        return
    if local >= len(names):
        raise ValueError(
            f"CUDA_VISIBLE_DEVICES={listed!r}; expected a GPU for each process, "
            f"{local + 1} or more of them"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = names[local]


class Folder:
    """The files of one training: checkpoint, log and panels. Only the first process writes.

    Args:
        path: of the folder, which is made.
        processes: that train together.
        config: the settings of the training.
        defaults: of settings, which those have that a checkpoint does not know of.
        pictures: a digest of those that it learns from and validates on.
    """

    def __init__(
        self,
        path: str | Path,
        processes: Processes,
        config: dict[str, Any],
        defaults: dict[str, Any],
        pictures: str,
    ) -> None:
        self.path, self.processes, self.config = Path(path), processes, config
        self.defaults, self.pictures = defaults, pictures
        if processes.is_first:
            self.path.mkdir(parents=True, exist_ok=True)
        processes.wait()

    def resume(
        self, may_differ: Callable[[dict[str, Any]], Collection[str]]
    ) -> dict[str, Any] | None:
        """Return the last checkpoint, if there is one.

        Args:
            may_differ: given the checkpoint, says which settings may be others than its own.

        Raises:
            ValueError: it is unreadable, or of another configuration or other pictures; the
                message names the file.
        """
        file = self.path / CHECKPOINT
        if not file.exists():
            return None
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            config, free = self.defaults | state["config"], may_differ(state)
        except Exception as error:  # a damaged archive raises anything
            raise ValueError(f"{file}: not a readable checkpoint; delete it to restart") from error
        kept = [key for key in self.config if key not in free]
        changed = [key for key in kept if config.get(key) != self.config[key]]
        if changed:
            raise ValueError(
                f"{file}: made with another {', '.join(changed)}; expected "
                + ", ".join(f"{key}={config.get(key)!r}" for key in changed)
                + ", or another --out"
            )
        if state.get("pictures") != self.pictures:
            raise ValueError(
                f"{file}: made with other pictures; expected those, unchanged, or another --out"
            )
        return state

    def save(self, **state: Any) -> None:
        """Replace the checkpoint; a kill leaves the old one or the new one."""
        if not self.processes.is_first:
            return
        with files.replacing(self.path / CHECKPOINT) as temporary:
            torch.save({**state, "config": self.config, "pictures": self.pictures}, temporary)

    def log(self, rows: list[dict[str, float]]) -> None:
        """Write the whole log: what a killed run had logged past its checkpoint goes."""
        if not self.processes.is_first:
            return
        with (
            files.replacing(self.path / "log.csv") as temporary,
            open(temporary, "w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, rows[-1], lineterminator="\n")
            writer.writeheader()
            writer.writerows(
                {k: round(v, 6) if isinstance(v, float) else v for k, v in row.items()}
                for row in rows
            )

    def export(
        self,
        net: weights.Net,
        name: str,
        images: list[Path],
        validation: dict[str, float],
        hours: float,
    ) -> Path:
        """Write the weights with a card that says where they come from."""
        config = {key: value for key, value in self.config.items() if key != "about"}
        card = {
            "about": self.config["about"],
            "images": len(images),
            "config": config,
            "cpu_hours": round(hours, 2),
            "processes": self.processes.world,
            "device": self.processes.device_name,
            "validation": validation,
            "commit": doctor.commit(),
            "torch": torch.__version__,
        }
        return weights.save(net, name, self.path, card)


def cosine(used: float) -> float:
    """Fraction of the learning rate after a fraction of the training: from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * used))


def rate_at(used: float, decay: float) -> float:
    """Fraction of the learning rate after a fraction of the training.

    It is 1, and falls to 0 along a cosine over the last part of the training.

    Args:
        used: how much of the training is over, from 0 to 1.
        decay: share of the training in which it falls; 1 for all of it.

    >>> [rate_at(used, decay=0.5) for used in (0, 0.5, 0.75, 1)]
    [1.0, 1.0, 0.5, 0.0]
    """
    return cosine(max(0.0, used - (1 - decay)) / decay)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def descend(loss: Tensor, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take one step of the optimiser, with the gradient's norm bounded."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_NORM)
    optimizer.step()


def panel(rows: list[list[Tensor]]) -> Tensor:
    """Lay images out in rows. R x C x [1 or 3, H, W] -> [H', W', 3]"""
    lines = [torch.cat([image.float().cpu().expand(3, -1, -1) for image in row], 2) for row in rows]
    return torch.cat(lines, 1).permute(1, 2, 0)
