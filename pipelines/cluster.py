"""Encoding on the machines of a Ray cluster: tasks of a few pictures, retried where one dies."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipelines.encoding import Encoding
from pipelines.folder import OtherSettingsError, Outcome, encoded
from pipelines.places import OWN, Folder, Place, Url
from pipelines.plan import Picture, groups_of
from taichi2dgs import __version__, runtime
from taichi2dgs.storage.paths import WriteError, one_line

LOCAL = "local"  # the address of a cluster that begins and ends with the run
RETRIES = 3  # times that a task is done again when its worker died
AHEAD = 2  # tasks in flight for each that runs
SHARE = 2  # tasks that each worker is still to have, at least, when the size of one is chosen
STORE = 80 << 20  # bytes of Ray's store of objects, which holds next to nothing here
LEAVING = 5.0  # seconds that workers have at the end to keep what they have compiled
POLL = 1.0  # seconds between looks at the cluster
PATIENCE = 20.0  # seconds of silence after which a cluster is dead; Ray ends the process after 60
GOES_ON = "what is finished is kept, and the same command goes on from there"


class ClusterError(RuntimeError):
    """A cluster cannot be reached, or ends before its work does."""


class Made(NamedTuple):
    """What is said of a picture that a worker has saved; NaN if an earlier one had."""

    psnr: float


class Answer(NamedTuple):
    """What a task says: of each picture its PSNR or error, and what ends the whole run."""

    outcomes: list[tuple[str, float | str]]
    stop: tuple[str, str] | None = None


@dataclass(frozen=True)
class Task:
    """What a worker needs to encode a group of pictures."""

    targets: dict[Picture, str]
    out: Place
    encoding: Encoding
    backend: str | None
    cores: int
    version: str = __version__


def work(task: Task) -> Answer:
    """Encode a group of pictures, but for those that a worker before this one has saved."""
    if task.version != __version__:
        return Answer([], ("", f"the cluster has taichi2dgs {__version__}, not {task.version}"))
    os.environ["TI_CPU_MAX_NUM_THREADS"] = str(task.cores)
    torch.set_num_threads(task.cores)
    runtime.init(task.backend)
    outcomes: list[tuple[str, float | str]] = []
    try:
        there = task.out.there(task.targets.values())
        outcomes += [(one.name, float("nan")) for one, to in task.targets.items() if to in there]
        todo = {one: to for one, to in task.targets.items() if to not in there}
        for picture, result in encoded(todo, task.out, task.encoding):
            failed = isinstance(result, Exception)
            outcomes.append((picture.name, one_line(result) if failed else result.psnr))
    except (WriteError, OtherSettingsError) as error:
        return Answer(outcomes, (type(error).__name__, one_line(error)))
    return Answer(outcomes)


@contextlib.contextmanager
def joined(address: str, backend: str | None = None, cores: int = 1) -> Iterator[Cluster]:
    """Join a Ray cluster, and leave it at the end.

    Args:
        address: "local" starts one on this machine; "auto" is the one that this machine is in;
            else HOST:PORT.
        backend: of the workers; see `taichi2dgs.init`. Where the cluster has GPUs, each task takes
            one unless this is "cpu".
        cores: that each task takes.

    Raises:
        ValueError: the address is none, Ray is not installed, or no machine has as many cores.
        ClusterError: the cluster cannot be reached.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise ValueError("--ray: needs ray; install the extra, taichi2dgs[cluster]") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    host = re.fullmatch(r"(.+):(\d{1,5})", address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "critical"}
    if address == LOCAL:
        options |= {"include_dashboard": False, "object_store_memory": STORE}
    elif address == "auto" or (host and "//" not in address):
        options["address"] = address
        if host and not _answers(host[1], int(host[2])):
            raise ClusterError(f"{address}: no Ray cluster answers there")
    else:
        raise ValueError(f"--ray {address}: expected {LOCAL}, auto or HOST:PORT")
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises anything from OSError to RuntimeError
        raise ClusterError(f"--ray {address}: {one_line(error)}") from error
    try:
        yield Cluster(ray, backend, cores)
    finally:
        ray.shutdown()


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


class Cluster:
    """What encodes pictures on a Ray cluster; see `folder.Engine`."""

    def __init__(self, ray: Any, backend: str | None, cores: int) -> None:
        self.ray, self.backend, self.cores = ray, backend, cores
        most = max((node["Resources"].get("CPU", 0) for node in ray.nodes()), default=0)
        if 0 < most < cores:
            raise ValueError(f"--cores {cores}: the largest machine has {most:g} of them")
        self.on_gpu = backend != "cpu" and ray.cluster_resources().get("GPU", 0) >= 1
        needs = {"num_cpus": cores, "num_gpus": int(self.on_gpu)}
        self.work = ray.remote(work).options(max_retries=RETRIES, **needs)
        self.stop = ray.remote(runtime.stop).options(max_retries=0, **needs)
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self.head = host, int(port)
        self.heard = time.monotonic()
        self.slots = self._slots()

    def __call__(
        self, todo: dict[Picture, str], out: Place, encoding: Encoding
    ) -> Iterator[Outcome]:
        """Encode pictures, and yield each when its task is done, in whichever order that is.

        What is under way when it is left ends with the connection: Ray 2.60 ends this process where
        a task that is cancelled happens to be done.
        """
        out, places = _anywhere(out), {one.place: _anywhere(one.place) for one in todo}
        for one in todo:
            one.place = places[one.place]
        groups = self._groups(list(todo), encoding)
        again: list[list[Picture]] = []
        flight: dict[Any, list[Picture]] = {}
        while True:
            while len(flight) < AHEAD * self.slots:
                group = again.pop() if again else next(groups, None)
                if group is None:
                    break
                targets = {one: todo[one] for one in group}
                task = Task(targets, out, encoding, self.backend, self.cores)
                flight[self.work.remote(task)] = group
            if not flight:
                break
            for ref in self._done(list(flight)):
                group = flight.pop(ref)
                answer = self._answer(ref)
                if isinstance(answer, Answer):
                    yield from _outcomes(group, answer)
                elif len(group) > 1:  # one of them may be what kills workers
                    again += [[one] for one in group]
                else:
                    yield group[0], answer
        self._keep_kernels()

    def _keep_kernels(self) -> None:
        """Let workers keep what they have compiled for later runs: Ray ends them before they do.

        Which worker gets which task is Ray's choice, so one of several may keep nothing.
        """
        with contextlib.suppress(self.ray.exceptions.RayError):
            refs = [self.stop.remote() for _ in range(self.slots)]
            self.ray.wait(refs, num_returns=len(refs), timeout=LEAVING)

    def _groups(self, pictures: list[Picture], encoding: Encoding) -> Iterator[list[Picture]]:
        """Yield pictures of a task; a worker, which sees them, may take them in several parts."""
        return groups_of(pictures, encoding, Picture.guess, self.on_gpu, SHARE * self.slots)

    def _slots(self) -> int:
        """Return how many tasks can run at once, which changes as machines come and go."""
        there = self.ray.cluster_resources()
        slots = there.get("GPU", 0) if self.on_gpu else there.get("CPU", 0) // self.cores
        return max(1, int(slots))

    def _done(self, refs: list[Any]) -> list[Any]:
        """Wait a while; return tasks that have ended, or raise ClusterError if the cluster has.

        A head that does not answer is asked for nothing: Ray's calls would wait for it.
        """
        now = time.monotonic()
        if not _answers(*self.head):
            if now - self.heard > PATIENCE:
                head = ":".join(map(str, self.head))
                raise ClusterError(f"the cluster at {head} is dead; {GOES_ON}")
            time.sleep(POLL)
            return []
        self.heard, self.slots = now, self._slots()
        try:
            return self.ray.wait(refs, timeout=POLL)[0]
        except self.ray.exceptions.RayError as error:
            raise ClusterError(f"the cluster has ended ({one_line(error)}); {GOES_ON}") from error

    def _answer(self, ref: Any) -> Answer | Exception:
        """Return what a task says, or the error if its workers died; other errors end the run."""
        errors = self.ray.exceptions
        try:
            return self.ray.get(ref)
        except errors.LocalRayletDiedError as error:
            raise ClusterError(f"the cluster has ended; {GOES_ON}") from error
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            raise ClusterError(
                f"a worker fails: {type(cause).__name__}: {one_line(cause)}; {GOES_ON}"
            ) from error
        except errors.RaySystemError as error:
            raise ClusterError(
                f"workers cannot begin ({str(error).strip().splitlines()[-1]}); taichi2dgs "
                f"{__version__} must be installed on each machine"
            ) from error
        except errors.RayError:
            return RuntimeError(f"each of {RETRIES + 1} workers died of it, or was killed")


def _outcomes(group: list[Picture], answer: Answer) -> Iterator[Outcome]:
    """Yield what a task says of each picture; raise what ends the run."""
    by_name = {one.name: one for one in group}
    for name, said in answer.outcomes:
        yield by_name[name], RuntimeError(said) if isinstance(said, str) else Made(said)
    if answer.stop:
        kind, text = answer.stop
        raise WriteError(text) if kind == "WriteError" else ClusterError(text)


def _anywhere(place: Place) -> Place:
    """Return a place as another process finds it, or raise ValueError if none can."""
    if isinstance(place, Folder):
        return replace(place, root=Path(os.path.abspath(place.root)))
    if isinstance(place, Url) and place.url.startswith(f"{OWN}://"):
        raise ValueError(f"{place.url}: is in this process alone; expected a folder or bucket")
    return place
