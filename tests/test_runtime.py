"""Backends: choice, errors, and isolation from the environment. Each case is its own process."""

import collections
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from conftest import environment

TESTS = Path(__file__).resolve().parent


def run(script: str, **variables: str) -> subprocess.CompletedProcess:
    chosen = {k: v for k, v in environment().items() if k != "TAICHI2DGS_BACKEND"} | variables
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=chosen, cwd=TESTS
    )


def test_import_starts_nothing_and_prints_nothing():
    done = run("import taichi2dgs, pipelines; print(taichi2dgs.backend())")
    assert done.stdout == "None\n" and done.stderr == ""


def test_same_backend_twice_is_a_no_op_and_another_an_error():
    done = run("""
import taichi2dgs
print(taichi2dgs.init("cpu"), taichi2dgs.init("cpu"), taichi2dgs.init(), taichi2dgs.init("auto"))
try:
    taichi2dgs.init("vulkan")
except RuntimeError as error:
    print(error)
""")
    assert done.stdout.splitlines() == [
        "cpu cpu cpu cpu",
        "backend 'cpu' already runs in this process; 'vulkan' needs a new one",
    ]


def test_environment_variable_decides_and_is_named_when_wrong():
    assert (
        run("import taichi2dgs as t; print(t.init())", TAICHI2DGS_BACKEND="cpu").stdout == "cpu\n"
    )
    wrong = run("import taichi2dgs as t; t.init()", TAICHI2DGS_BACKEND="abacus")
    assert "ValueError: TAICHI2DGS_BACKEND='abacus' is unknown" in wrong.stderr


def test_missing_backend_is_an_error_that_names_what_is_there():
    missing = "cuda" if sys.platform == "darwin" else "metal"
    done = run(f"import taichi2dgs as t; t.init({missing!r})")
    assert f"backend '{missing}' is not available here; available:" in done.stderr
    assert done.stderr.rstrip().endswith("cpu")


def test_auto_logs_its_choice_and_never_takes_a_software_device():
    done = run(
        "import logging; logging.basicConfig(level=20); import taichi2dgs as t; print(t.init())"
    )
    backend = done.stdout.strip()
    assert f"backend: {backend} (chosen automatically)" in done.stderr
    if "swiftshader" in os.environ.get("VK_DRIVER_FILES", ""):
        assert backend != "vulkan"


def test_taichis_own_variable_does_not_override_the_choice():
    done = run("import taichi2dgs as t; print(t.init('cpu'))", TI_ARCH="vulkan")
    assert done.stdout == "cpu\n"


def test_lazy_start_happens_on_first_use():
    done = run(
        """
import torch, taichi2dgs as t
g = t.Gaussians(torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1), torch.ones(1, 1), (2, 2))
g.render(); print(t.runtime.current())
""",
        TAICHI2DGS_BACKEND="cpu",
    )
    assert done.stdout == "cpu\n"


def test_backward_from_another_thread():
    done = run(
        """
import threading, torch, taichi2dgs as t
def gaussians(color):
    return t.Gaussians(torch.ones(1, 2), torch.zeros(1, 2), torch.zeros(1), color, (2, 2))
colors = [torch.ones(1, 1, requires_grad=True) for _ in range(4)]
def work(color):
    for _ in range(5):
        gaussians(color).render().sum().backward()
threads = [threading.Thread(target=work, args=(color,)) for color in colors]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print(len({float(color.grad) for color in colors}), float(colors[0].grad) > 0)
""",
        TAICHI2DGS_BACKEND="cpu",
    )
    assert done.stdout == "1 True\n", done.stderr


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory from /proc")
def test_memory_does_not_grow_with_renders_and_fits():
    """Taichi 1.7.4 forgets to free arrays of vectors: without help more than 15 MB stay."""
    done = run(
        """
import torch, pipelines, taichi2dgs as t
from pathlib import Path
image = torch.rand(256, 256, 3)
start = pipelines.initialize(image, 10_000, "gradient")
def work():
    color = start.color.clone().requires_grad_()
    t.Gaussians(start.xy, start.log_scale, start.theta, color, start.size).render().sum().backward()
    t.fit(image, start, steps=1, options=t.FitOptions(respawn=0))
def megabytes(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
for _ in range(20): work()
before = megabytes()
for _ in range(20): work()
print(megabytes() - before)
""",
        TAICHI2DGS_BACKEND="cpu",
    )
    assert float(done.stdout) < 15, done.stderr


def test_this_backend_counts_right(backend):
    from taichi2dgs import doctor, runtime

    assert runtime.counts_right()
    works, line = doctor.check(backend)
    assert works and line == "starts and counts right"


def test_doctor_survives_a_backend_that_is_not_there():
    from taichi2dgs import doctor

    works, line = doctor.check("cuda" if sys.platform == "darwin" else "metal")
    assert not works and "not available here" in line


class Program:
    """Stands for Taichi's program, and lists the arrays that it was told to free."""

    def __init__(self) -> None:
        self.freed: list[int] = []

    def delete_ndarray(self, handle: int) -> None:
        self.freed.append(handle)


def test_arrays_are_freed_by_the_program_that_made_them_or_not_at_all(monkeypatch):
    """To Taichi a handle of another program is the address of something else."""
    from taichi2dgs import runtime

    running, other, ended = Program(), Program(), weakref.ref(Program())
    made = [(weakref.ref(running), 1), (weakref.ref(other), 2), (ended, 3)]
    monkeypatch.setattr(runtime, "_dropped", collections.deque(made))
    monkeypatch.setattr(runtime, "program", lambda: running)
    runtime._free_dropped()
    assert running.freed == [1] and other.freed == []
    monkeypatch.setattr(runtime, "_dropped", collections.deque([(ended, 3)]))
    monkeypatch.setattr(runtime, "program", lambda: None)
    runtime._free_dropped()
    assert not runtime._dropped


def test_what_was_compiled_is_kept_by_a_process_that_stops_taichi_and_is_then_killed(tmp_path):
    script = (
        "import os; from taichi2dgs import runtime; runtime.init('cpu'); runtime.counts_right(); "
        "runtime.stop(); print(runtime.current(), runtime.init('cpu'), runtime.counts_right(), "
        "flush=True); os._exit(0)"
    )
    done = run(script, TI_OFFLINE_CACHE="1", TI_OFFLINE_CACHE_FILE_PATH=str(tmp_path))
    assert done.stdout == "None cpu True\n", done.stderr
    assert list(tmp_path.rglob("*.tic"))
