"""Shared fixtures. TAICHI2DGS_BACKEND picks the backend; without it the suite runs on the CPU."""

import contextlib
import ctypes
import importlib
import os
import signal
import sys
from pathlib import Path

import hypothesis
import pytest
import torch

os.environ.setdefault("TAICHI2DGS_BACKEND", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")  # which opens no windows

import pipelines
import taichi2dgs
from pipelines.baselines import method
from taichi2dgs import Gaussians, runtime
from taichi2dgs.fitting import budget
from taichi2dgs.fitting.engine import Engine

# Every run tries the same examples. There is no deadline, since kernels may have to compile.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# A shell that starts the suite in the background makes it and its children ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def environment() -> dict[str, str]:
    """Variables of a process that is to find the package under test from any directory."""
    places = [str(Path(taichi2dgs.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}


@pytest.fixture(scope="session", autouse=True)
def backend() -> str:
    """The backend that this run tests."""
    return taichi2dgs.init()


@pytest.fixture
def emulated_cuda(backend) -> ctypes.CDLL:
    """The CUDA driver of tests/cudaless, on which the suite runs."""
    try:
        driver = ctypes.CDLL("libcuda.so")
        assert backend == "cuda" and driver.fakecuda_live_bytes
    except (OSError, AttributeError, AssertionError):
        pytest.skip("needs the emulated CUDA driver, see tests/cudaless")
    return driver


@pytest.fixture
def needs_double(backend):
    if backend not in runtime.DOUBLE:
        pytest.skip(f"backend {backend} has no float64")


@pytest.fixture(scope="session")
def kodak() -> list[Path]:
    """The 24 Kodak images."""
    found = sorted((DATA / "kodak").glob("kodim*.png"))
    if not found:
        pytest.skip(f"no Kodak images in {DATA / 'kodak'}")
    return found


@pytest.fixture(scope="session")
def photograph() -> torch.Tensor:
    """A 96x128 part of the sample photograph. [H, W, 3]"""
    pytest.importorskip("skimage", reason="needs the extra 'demo' for a photograph")
    return taichi2dgs.read_image("sample:astronaut")[20:116, 160:288].contiguous()


@pytest.fixture
def full_disk():
    """A context in which no file can have more than 4,096 bytes, as if the disk were full."""
    resource = pytest.importorskip("resource", reason="POSIX limits")

    @contextlib.contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def fitted(photograph) -> taichi2dgs.FitResult:
    """2,000 Gaussians after 60 steps on the photograph; tests share it, and must not change it."""
    start = pipelines.initialize(photograph, 2000, "gradient")
    return taichi2dgs.fit(photograph, start, steps=60)


class Watch:
    """A clock in place of the module `time`, which moves by what is said to take time."""

    STEP, COMPILING = 0.01, 3.0  # seconds

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def watch(monkeypatch) -> Watch:
    """The clock of fits: 10 ms a step and 3 s for what compiles, however busy the machine is."""
    watch = Watch()
    launch, advance = Engine._launch, method._Run._advance

    def launched(self, number, *arguments, **more):
        launch(self, number, *arguments, **more)
        watch.sleep(Watch.STEP if number else Watch.COMPILING)

    def advanced(self):
        advance(self)
        watch.sleep(Watch.STEP)

    monkeypatch.setattr(budget, "time", watch)
    monkeypatch.setattr(Engine, "_launch", launched)
    monkeypatch.setattr(method._Run, "_advance", advanced)
    return watch


@pytest.fixture(scope="session")
def benchmarks():
    """A function that imports a module of benchmarks/ by its name."""
    folder = str(Path(__file__).resolve().parents[1] / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


def scatter(
    n: int,
    size: tuple[int, int],
    *,
    channels: int = 3,
    log_scale: tuple[float, float] = (-0.7, 1.6),
    margin: float = 0.2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Gaussians:
    """Random Gaussians over an image and `margin` times its size around it."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    extent = torch.tensor([size[1], size[0]], dtype=torch.float64)
    low, high = log_scale
    return Gaussians(
        xy=((uniform(n, 2) * (1 + 2 * margin) - margin) * extent).to(dtype),
        log_scale=(uniform(n, 2) * (high - low) + low).to(dtype),
        theta=((uniform(n) - 0.5) * 20).to(dtype),
        color=(uniform(n, channels) * 1.4 - 0.2).to(dtype),
        size=size,
    )
