"""Options that several commands have, and how their texts are read."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.defaults import (
    AUTO,
    COARSE,
    LONG,
    QUALITY,
    REFINE,
    REFINE_HIGH,
    REFINE_SHARE,
    SECONDS,
    START,
    K,
)
from pipelines.starts.names import STARTS
from taichi2dgs.settings import BACKENDS, DTYPES, LOSSES, QUALITIES, SETS

if TYPE_CHECKING:  # what takes seconds to import is imported where it runs
    from pipelines.encoding import Encoding
    from pipelines.layout import Layout

T2D = "t2d"  # the format of a folder of files, one for each picture


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add --backend."""
    parser.add_argument("--backend", metavar="NAME", help=f"{', '.join(BACKENDS)} (auto)")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add --quiet. Where the output is no terminal, bars are quiet anyway: see `hidden`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def add_page(parser: argparse.ArgumentParser) -> None:
    """Add what the local server of the page needs to know."""
    parser.add_argument("--port", type=int, default=0, help="of the local server (any free one)")
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, and open nothing"
    )


def hidden(quiet: bool) -> bool | None:
    """Return tqdm's `disable`: None shows a bar on a terminal only."""
    return True if quiet else None


def add_encoding(parser: argparse.ArgumentParser) -> None:
    """Add what `encoding` reads: how a picture becomes Gaussians."""
    number = parser.add_mutually_exclusive_group()
    number.add_argument("-k", type=count, help=f"number of Gaussians ({K}), or {AUTO}, by detail")
    number.add_argument(
        "--target-psnr", type=float, metavar="DB", help="find the k that ends there"
    )
    number.add_argument("--target-bytes", type=int, metavar="N", help="find the k of such a file")
    parser.add_argument("--quality", default=QUALITY, help=f"{', '.join(QUALITIES)} ({QUALITY})")
    parser.add_argument(
        "--refine", type=int, metavar="STEPS",
        help=f"after the fit, while rounding (for {' and '.join(COARSE)} {REFINE}, or "
        f"{REFINE_SHARE:g} of the fit's if that is more; for high {REFINE_HIGH}, "
        f"but none after a fit of fewer than {LONG})",
    )  # fmt: skip
    parser.add_argument(
        "--progressive", action="store_true", help="the first quarter of a file shows the picture"
    )
    parser.add_argument("--seconds", type=float, help=f"budget of a fit in seconds ({SECONDS:g})")
    parser.add_argument("--steps", type=int, help="budget in iterations")
    parser.add_argument(
        "--start", "--init", default=START, choices=STARTS, help=f"what a fit begins from ({START})"
    )
    parser.add_argument("--weights", metavar="RUN", help="networks from a training of your own")
    parser.add_argument("--seed", type=int, default=0, help="seed of the start (0)")
    parser.add_argument("--config", metavar="YAML", help="fit options: a file, or the shipped adam")
    parser.add_argument(
        "--linear", action="store_true", help="fit colours as linear light, which the file holds"
    )
    parser.add_argument("--loss", choices=LOSSES, help=f"of a pixel ({LOSSES[0]})")
    parser.add_argument(
        "--between",
        type=float,
        metavar="SHARE",
        help="share of steps that look between pixels, for pictures to enlarge, such as 0.03 (0)",
    )


def encoding(options: argparse.Namespace) -> Encoding:
    """Return how a picture is encoded, as the options say."""
    from pipelines import configuration
    from pipelines.encoding import Encoding

    fit_options = configuration.fit_options(options.config)
    if options.loss is not None:
        fit_options = replace(fit_options, loss=options.loss)
    if options.between is not None:
        fit_options = replace(fit_options, between=options.between)
    return Encoding(
        k=options.k,
        target_psnr=options.target_psnr,
        target_bytes=options.target_bytes,
        quality=options.quality,
        refine=options.refine,
        progressive=options.progressive,
        steps=options.steps,
        seconds=options.seconds,
        start=options.start,
        seed=options.seed,
        weights=options.weights,
        options=fit_options,
        linear=options.linear,
    )


def add_set(parser: argparse.ArgumentParser) -> None:
    """Add what `layout` reads: how a folder becomes a data set."""
    parser.add_argument(
        "--format", choices=(T2D, *SETS), default=T2D,
        help=f"of a folder: a file for each picture ({T2D}), or arrays to train on",
    )  # fmt: skip
    parser.add_argument("--dtype", choices=DTYPES, help=f"of such arrays ({DTYPES[0]})")
    parser.add_argument(
        "--channels",
        type=int,
        metavar="1|2|3|4",
        help="of their pictures, 2 and 4 with opacity (3)",
    )
    parser.add_argument(
        "--shard-size", type=int, metavar="N", help="pictures in a file of them (as fit in 64 MiB)"
    )


def layout(options: argparse.Namespace) -> Layout | None:
    """Return the layout of a data set, as the options say; None for a folder of .t2d files."""
    given = {name: getattr(options, name) for name in ("dtype", "channels", "shard_size")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.format != T2D:
        from pipelines.layout import Layout

        return Layout(options.format, **given)
    for name in given:
        option = f"--{name.replace('_', '-')}"
        raise ValueError(f"{option} with --format {T2D}; expected one of {', '.join(SETS)}")
    return None


def count(text: str) -> int | str:
    """Read a number of Gaussians, or "auto"."""
    if text == AUTO or re.fullmatch(r"[+-]?\d+", text):
        return text if text == AUTO else int(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number or {AUTO}")


def positive(text: str) -> int:
    """Read a whole number from 1."""
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number from 1")
    return int(text)


def shard(text: str) -> tuple[int, int]:
    """Read I/N, the I-th of N parts."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N with 1 <= I <= N, such as 1/8")
    return int(match[1]), int(match[2])


def size(text: str) -> tuple[int, int]:
    """Read HxW, a height and a width in pixels."""
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}; expected HxW, such as 1080x1920")
    return int(match[1]), int(match[2])


def crop(text: str) -> tuple[int, int, int, int]:
    """Read TOP,LEFT,HxW, a rectangle of pixels."""
    match = re.fullmatch(r"(\d+),(\d+),(.+)", text)
    try:
        height, width = size(match[3] if match else "")
    except argparse.ArgumentTypeError:
        expected = "TOP,LEFT,HxW, such as 0,128,512x512"
        raise argparse.ArgumentTypeError(f"{text!r}; expected {expected}") from None
    assert match
    return int(match[1]), int(match[2]), height, width
