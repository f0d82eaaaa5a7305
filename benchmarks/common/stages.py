"""Where the time of a fit step goes, by Taichi's profiler, which runs in a process of its own.

The profiler slows what it watches, and Taichi must be started with it, so the states to measure go
to a child in files. Only CPU and CUDA have one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from taichi2dgs import runtime
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.fit import FitOptions
from taichi2dgs.fitting.picture import Picture

BACKENDS = ("cpu", "cuda")
STEPS = 5
# The parallel loops of a step in order: of kernels/cores.py, and of kernels/step.py.
CORES = ("project", "scan", "fill", "walk", "gather and Adam", "gather and Adam")
GPU = ("project", "scan", "scan", "fill", "sort", "mark", "push", "gather and Adam")


def measure(states: list[Path], backend: str) -> list[dict] | None:
    """Return the launches of a step and the median milliseconds of each of its stages, by state.

    Args:
        states: files of `engine_of`.
        backend: that runs.

    Returns:
        None where the backend has no profiler, or it fails, which it says.
    """
    if backend not in BACKENDS:
        return None
    command = [sys.executable, __file__, backend, *map(str, states)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"TI_KERNEL_PROFILER": "1"}
    )
    if done.returncode:
        print(f"no time per stage: {done.stderr.strip()}", file=sys.stderr)
        return None
    return json.loads(done.stdout)


def engine_of(state: dict) -> Engine:
    """Return an engine in a saved state: its target [H, W, C], params [N, 5 + C] and settings."""
    return Engine(
        [Picture(state["target"], state["params"])],
        FitOptions(settings=state["settings"], respawn=0),
    )


def profile(engine: Engine) -> dict:
    """Make steps that move nothing, and read the profiler's record of each loop."""
    profiler = runtime.ti.profiler
    engine.step(engine.done + 1, 0.0)  # allocates what is missing for gradients
    engine.poll()
    runtime.sync()
    profiler.clear_kernel_profiler_info()
    for number in range(STEPS):
        engine.step(engine.done + 1 + number, 0.0)
    program = runtime.ti.lang.impl.get_runtime().prog
    program.sync_kernel_profiler()
    program.update_kernel_profiler()
    records = program.get_kernel_profiler_records()
    launches = len(records) // STEPS
    steps = [records[n * launches : (n + 1) * launches] for n in range(STEPS)]
    times = [stages_of([(record.name, record.kernel_time) for record in step]) for step in steps]
    median = {name: statistics.median(step[name] for step in times) for name in times[0]}
    return {"launches": launches, "stages_ms": {k: round(v, 4) for k, v in median.items()}}


def stages_of(records: list[tuple[str, float]]) -> dict[str, float]:
    """Add up the loops of one step by stage; what is not a loop belongs to the next one.

    Args:
        records: the name and the milliseconds of each launch.

    Raises:
        ValueError: the kernel has other loops than `CORES` or `GPU` says.
    """
    loops = GPU if runtime.is_gpu() else CORES
    found = sum("serial" not in name for name, _ in records)
    if found != len(loops):
        names = [name for name, _ in records]
        raise ValueError(f"a step has {found} loops: {names}; expected {len(loops)}: {loops}")
    times: dict[str, float] = dict.fromkeys(loops, 0.0)
    index = 0
    for name, milliseconds in records:
        times[loops[min(index, len(loops) - 1)]] += milliseconds
        index += "serial" not in name
    return times


def main() -> int:
    backend, *states = sys.argv[1:]
    runtime.init(backend)
    loaded = (torch.load(state, weights_only=False) for state in states)
    print(json.dumps([profile(engine_of(state)) for state in loaded]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
