"""Make every page of `results/` that compares methods, all of one commit.

    python benchmarks/all.py --hours 8 --kodak DIR --art DIR --textures DIR --photographs DIR
    python benchmarks/all.py --list --kodak DIR --art DIR --textures DIR --photographs DIR

Pages are made one after the other, in the order of --list, and share the hours: what one leaves
over goes to the others. Each is a command of its own that goes on from the rows that the same code
has measured already, and that is stopped when its share is over, or by Ctrl-C: its page then has
fewer pictures, which its first line says, and every method. Run this again, and they go on there. A
page whose command fails is said at the end, and does not keep the others from being made.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from common import measure
from tqdm import tqdm

OURS = "ours ours-gradient ours-dithered"
ENGINE = "ours-autograd ours-textbook ours-no-respawn ours"  # from the slowest to what we ship
ABLATIONS = (
    "ours ours-no-respawn ours-no-memory ours-kept-selection ours-solved "
    "ours-no-attributes ours-no-position ours-random"
)
PEERS = (
    "instant-gi fast-2dgs-published fast-2dgs-published-tuned "
    "gaussianimage-cholesky gaussianimage-cholesky-tuned gaussianimage-rs gaussianimage-rs-tuned "
    "image-gs-gradient image-gs-gradient-tuned image-gs-saliency image-gs-saliency-tuned"
)
BEST = "ours instant-gi fast-2dgs-published-tuned gaussianimage-rs-tuned image-gs-gradient-tuned"
PATIENCE = 120  # seconds that a command that is stopped has to write its page

# What answers which question: the name of the page, and the script with its options.
PAGES = {
    "starts": "run_kodak.py --data {kodak} --k 10000 50000 100000 --steps 200 "
    "--methods ours ours-gradient",
    "seconds": f"run_kodak.py --data {{kodak}} --seconds 1 2 5 10 30 --methods {OURS} {PEERS}",
    "seconds_counts": "run_kodak.py --data {kodak} --k 10000 100000 --seconds 1 2 5 10 "
    f"--methods {OURS} {PEERS}",
    "frames": "run_datasets.py --data {kodak} --native --k 5000 10000 28000 37000 52000 70000 "
    "--steps 0 --seconds 10 60",
    "other_sets": "run_datasets.py --data {kodak} {photographs} {art} {textures} --steps 0 "
    f"--seconds 1 10 --methods {BEST}",
    "ablations": f"run_kodak.py --data {{kodak}} --steps 200 --seconds 1 10 --methods {ABLATIONS}",
    "engine": f"run_kodak.py --data {{kodak}} --steps 200 --seconds 1 10 --methods {ENGINE}",
    "rate": "run_rate.py --data {kodak} --seconds 10 60",
    "iterations": "run_kodak.py --data {kodak} --images 6 --k 10000 --steps 5000 --methods ours "
    "fast-2dgs-published fast-2dgs-published-tuned image-gs-gradient image-gs-gradient-tuned",
    "iterations_gaussianimage": "run_kodak.py --data {kodak} --images 2 --k 10000 --steps 50000 "
    "--methods gaussianimage-cholesky gaussianimage-rs",
}
SETS = ("kodak", "photographs", "art", "textures")


@measure.script
def main() -> None:
    options = parse()
    commands = {name: command_of(name, options) for name in options.pages}
    if options.list:
        for command in commands.values():
            print(shlex.join(["python", *command[1:]]))
        return
    heed_signals()
    ends, codes = time.monotonic() + 3600 * options.hours, {}
    for name, command in tqdm(commands.items(), "pages", unit="page"):
        share = (ends - time.monotonic()) / (len(commands) - len(codes))
        codes[name] = run(command, share)
    short = [name for name, code in codes.items() if code is None]
    failed = [name for name, code in codes.items() if code]
    over = f"--hours {options.hours:g} were too few for all pictures of {', '.join(short)}: the "
    said = [
        *([over + "same command goes on there"] if short else []),
        *([f"not made: {', '.join(failed)}; what they said is above"] if failed else []),
    ]
    if said:
        raise ValueError("; ".join(said))


def heed_signals() -> None:
    """Let whatever ends this stop the command that runs, which then writes its page.

    A shell that starts this in the background lets it and its children ignore Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):  # the latter where there are terminals that close
        if (number := getattr(signal, name, None)) and signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def command_of(name: str, options: argparse.Namespace) -> list[str]:
    """Return the command that makes a page; ValueError if it needs a set that is absent."""
    script, *arguments = shlex.split(PAGES[name])
    needed = [one for one in SETS if f"{{{one}}}" in arguments]
    if absent := [f"--{one}" for one in needed if getattr(options, one) is None]:
        raise ValueError(f"the page {name!r} needs {', '.join(absent)}; expected a folder of each")
    folders = {f"{{{one}}}": str(getattr(options, one)) for one in needed}
    arguments = [folders.get(argument, argument) for argument in arguments]
    extra = ["--backend", options.backend, "--out", str(options.out / name)]
    return [sys.executable, str(Path(__file__).with_name(script)), *arguments, *extra]


def run(command: list[str], seconds: float) -> int | None:
    """Run a command and return its exit code, or None if the seconds did not suffice."""
    if seconds <= 0:
        return None
    # A terminal sends Ctrl-C to a session: in one of its own, the command has it once, from `stop`.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(seconds)
        return None
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """Send Ctrl-C to a process that still runs, and wait for its page.

    It is killed if none comes in time, or if another Ctrl-C does. Windows has no page of it.
    """
    if process.poll() is not None:
        return
    if os.name == "nt":  # which sends no Ctrl-C to a process alone
        process.terminate()
    else:
        process.send_signal(signal.SIGINT)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    for name in SETS:
        parser.add_argument(f"--{name}", type=Path, help="folder of pictures")
    parser.add_argument("--hours", type=float, default=8, help="that it may take (8)")
    parser.add_argument(
        "--pages", nargs="+", default=list(PAGES), choices=list(PAGES), help="(all of them)"
    )
    parser.add_argument("--list", action="store_true", help="print the commands, and run none")
    parser.add_argument("--backend", default="cpu", help="cuda, vulkan, metal, opengl or (cpu)")
    parser.add_argument("--out", type=Path, default=measure.RESULTS, help="(results)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
