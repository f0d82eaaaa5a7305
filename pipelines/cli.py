"""The command line. Each command is a module of `pipelines.commands`, imported when asked for."""

from __future__ import annotations

import argparse
import importlib
import io
import keyword
import os
import sys

from pipelines.defaults import FAILURES
from taichi2dgs import __version__

COMMANDS = {
    "encode": "fit Gaussians to a picture, or to every picture of a folder",
    "render": "render Gaussians to a picture",
    "info": "say what a .t2d file holds and what it costs",
    "view": "look at a .t2d file, or at a fit of a picture, in the browser",
    "draw": "draw Gaussians as ellipses, dots or a heatmap",
    "export": "write splats for 3D viewers, or arrays of NumPy",
    "import": "read Gaussians from files of others",
    "train": "train the networks of the prior",
    "doctor": "say what works on this machine",
}
BROKEN_PIPE = 141  # the code that shells give to a program that SIGPIPE has ended


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, 1 if some pictures of a folder failed, 2 after an
    error, 130 after Ctrl-C, or 141 if what reads the output has ended."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a letter gets its code
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = parser(arguments[0] if arguments else None).parse_args(arguments)
        code = options.run(options)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # What is left in the buffer is written when Python ends, and would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except FAILURES as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"taichi2dgs: error: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("taichi2dgs: interrupted", file=sys.stderr)
        return 130


def parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands, of which the chosen one brings its options."""
    whole = argparse.ArgumentParser(
        prog="taichi2dgs", description="Pictures as two-dimensional Gaussians."
    )
    whole.add_argument("--version", action="version", version=f"taichi2dgs {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            own = f"{name}_" if keyword.iskeyword(name) else name
            module = importlib.import_module(f"pipelines.commands.{own}")
            module.add_options(command)
            if hasattr(module, "run"):  # else each of its stages has its own
                command.set_defaults(run=module.run)
    return whole


if __name__ == "__main__":
    sys.exit(main())
