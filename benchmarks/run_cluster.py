"""A folder of pictures through a Ray cluster of this machine, one of whose workers is killed.

Two processes with --shard make the same files for comparison: in the same time, as near as may be.

python benchmarks/run_cluster.py --count 200 --size 128 --k 2000 --steps 200
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import measure
from PIL import Image

COMMAND = [sys.executable, "-m", "pipelines.cli", "encode"]
KILLED_AFTER = 0.3  # of the pictures


@measure.script
def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        make_pictures(here / "in", options.count, options.size)
        given = [str(here / "in"), "-k", str(options.k), "--steps", str(options.steps), "-q"]
        encoded("first", [[*given, "--out", str(here / "first"), "--shard", f"1/{options.count}"]])
        shards = [[*given, "--out", str(here / "shards"), "--shard", f"{n}/2"] for n in (1, 2)]
        alone = encoded("two processes with --shard", shards)
        ray = [*given, "--out", str(here / "ray"), "--ray", "local"]
        whole = encoded("Ray", [ray])
        killed = [*given, "--out", str(here / "killed"), "--ray", "local"]
        hurt = encoded("Ray, a worker killed", [killed], here / "killed", options.count)
        for name in ("ray", "killed"):
            check(here / "shards", here / name, options.count)
        print(f"overhead of Ray {whole / alone - 1:+.1%}, with the worker {hurt / alone - 1:+.1%}")


def make_pictures(folder: Path, count: int, size: int) -> None:
    """Write smooth pictures of random colours."""
    folder.mkdir()
    for n in range(count):
        colors = np.random.default_rng(n).integers(0, 256, (9, 9, 3), np.uint8)
        picture = Image.fromarray(colors).resize((size, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"{n:04}.png")


def encoded(
    label: str, commands: list[list[str]], out: Path | None = None, count: int = 0
) -> float:
    """Run commands side by side; return the seconds until the last ends.

    Args:
        label: of what is printed.
        commands: their arguments.
        out: folder of files; if given, a worker is killed in the course of the run.
        count: of the pictures.
    """
    began = time.perf_counter()
    running = [
        subprocess.Popen([*COMMAND, *one], stdout=subprocess.PIPE, text=True) for one in commands
    ]
    while out and len(list(out.glob("[!.]*.t2d"))) < KILLED_AFTER * count:
        time.sleep(0.1)
    if out:
        victim = workers()[0]
        os.kill(victim, signal.SIGKILL)
        print(f"  killed worker {victim} after {time.perf_counter() - began:.1f} s", flush=True)
    said = [process.communicate()[0].strip() for process in running]
    seconds = time.perf_counter() - began
    for line in said:
        print("  " + line.replace(tempfile.gettempdir(), ""))
    print(f"{label}: {seconds:.1f} s", flush=True)
    return seconds


def workers() -> list[int]:
    """Return the processes below this one that Ray has started for tasks (Linux)."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    rows = re.findall(r"^\s*(\d+)\s+(\d+)\s+(.*)$", listed, flags=re.M)
    mine, size = {os.getpid()}, 0
    while size < len(mine):
        size = len(mine)
        mine |= {int(pid) for pid, parent, _ in rows if int(parent) in mine}
    return [int(pid) for pid, _, name in rows if int(pid) in mine and name.startswith("ray::work")]


def check(expected: Path, found: Path, count: int) -> None:
    """Raise ValueError unless a folder has all files, of the same bytes, and nothing else."""
    names = sorted(path.name for path in expected.glob("*.t2d"))
    others = sorted(path.name for path in found.glob("[!.]*"))
    same = [name for name in names if (expected / name).read_bytes() == (found / name).read_bytes()]
    if not len(names) == len(same) == count or names != others:
        raise ValueError(f"{found}: {len(same)} of {count} files are those of --shard")
    print(f"{found.name}: {count} files, each with the bytes of --shard")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="of pictures (200)")
    parser.add_argument("--size", type=int, default=128, help="of each in pixels, squared (128)")
    parser.add_argument("--k", type=int, default=2000, help="Gaussians of each (2000)")
    parser.add_argument("--steps", type=int, default=200, help="of a fit (200)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
