"""The command line: encode, render, train, info, view, doctor."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from nets.weights import SHIPPED
from pipelines import configuration, info, viewing
from pipelines.encoding import AUTO, REFINE, REFINED, SECONDS, Encoding, K
from pipelines.folder import FAILURES, WHOLE, encode_folder
from pipelines.inits import DEFAULT, INITS
from taichi2dgs import FitInterrupted, FitResult, Report, doctor, files, pictures, runtime, t2d
from taichi2dgs.refine import STAGES
from taichi2dgs.render import render

SAMPLE = "sample:astronaut"
BROKEN_PIPE = 141  # as shells have it for what SIGPIPE ends


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, 1 if some pictures of a folder failed, 2 after an
    error, 130 after Ctrl-C, or 141 if what reads the output has ended."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot show is no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = _parser().parse_args(arguments)
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


def _encode(options: argparse.Namespace) -> int:
    encoding = Encoding(
        k=options.k, target_psnr=options.target_psnr, target_bytes=options.target_bytes,
        quality=options.quality, refine=options.refine, steps=options.steps,
        seconds=options.seconds, init=options.init, seed=options.seed, weights=options.weights,
        options=configuration.fit_options(options.config),
    )  # fmt: skip
    if Path(options.image).is_dir():
        return _encode_folder(options, encoding)
    for name, given in (("--shard", options.shard != WHOLE), ("--recursive", options.recursive)):
        if given:
            raise ValueError(f"{name}: {options.image} is not a folder of pictures")
    if options.output is None and files.is_stream(options.image):
        raise ValueError(f"{options.image}: a pipe has no name; expected -o OUT.t2d too")
    out = options.output or Path(options.image.removeprefix("sample:")).stem + ".t2d"
    if Path(out).suffix != ".t2d":
        raise ValueError(f"{out}: Gaussians are saved as .t2d")
    image = files.read_image(options.image)
    files.check_writable(out)
    runtime.init(options.backend)
    result, complete = _fit_and_save(out, image, encoding, options.quiet)
    if result is None:
        return 130
    last = result.history[-1]
    print(
        f"{out}: {len(result.gaussians)} Gaussians, PSNR {last.psnr:.2f} dB, "
        f"{last.step} iterations, {last.seconds:.1f} s, backend {runtime.current()}"
    )
    return 0 if complete else 130


def _fit_and_save(
    out: str, image: Tensor, encoding: Encoding, quiet: bool
) -> tuple[FitResult | None, bool]:
    """Return the fit that is saved, if any is, and whether Ctrl-C did not come."""
    result = None
    try:
        with _FitBar(encoding, quiet) as bar:
            result = encoding.run(image, bar.show)
        hidden = quiet or not encoding.refine_steps
        with tqdm(total=STAGES, desc="refine", unit="stage", disable=hidden) as bar:
            encoding.save(out, result.gaussians, image, lambda _: bar.update())
        return result, True
    except KeyboardInterrupt as stop:
        result = stop.result if isinstance(stop, FitInterrupted) else result
        if result is None:
            raise
    try:
        encoding.save_unrefined(out, result.gaussians)
    except ValueError as error:
        print(f"taichi2dgs: interrupted; nothing is saved: {error}", file=sys.stderr)
        return None, False
    print("taichi2dgs: interrupted; what was there is saved", file=sys.stderr)
    return result, False


def _encode_folder(options: argparse.Namespace, encoding: Encoding) -> int:
    if options.output is None:
        raise ValueError(f"{options.image} is a folder; expected --out DIR too")
    runtime.init(options.backend)
    return encode_folder(
        Path(options.image), Path(options.output), encoding, options.shard, options.quiet,
        options.recursive,
    )  # fmt: skip


def _render(options: argparse.Namespace) -> int:
    pictures.format_of(options.output)
    gaussians = t2d.load(options.gaussians)
    files.check_writable(options.output)
    runtime.init(options.backend)
    started = time.perf_counter()
    image = render(gaussians, options.size, options.crop, antialias=not options.alias)
    files.write_image(options.output, image)
    print(
        f"{options.output}: {image.shape[0]}x{image.shape[1]}, {len(gaussians)} Gaussians, "
        f"{time.perf_counter() - started:.2f} s, backend {runtime.current()}"
    )
    return 0


def _train_position(options: argparse.Namespace) -> int:
    from pipelines.training.position import PositionConfig, PositionStage

    return _train(options, PositionStage, PositionConfig)


def _train_attributes(options: argparse.Namespace) -> int:
    from pipelines.training.attributes import AttributesConfig, AttributesStage

    return _train(options, AttributesStage, AttributesConfig, position=options.position)


def _train(options: argparse.Namespace, stage: type, config_class: type, **more: Any) -> int:
    from pipelines.training.loop import Processes

    config = configuration.stage(options.config, stage.name, config_class)
    group = Processes()  # picks the GPU that this process sees, so before a backend starts
    runtime.init(options.backend)
    with group as processes:
        made = stage(
            options.data, options.valid, options.out, config, processes, options.quiet, **more
        ).run()
    if made is not None:  # the first process of several
        print(f"{made}: {made.stat().st_size / 1e6:.1f} MB, card in {made.stem}.json")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    for name, version in doctor.versions().items():
        print(f"{name:10} {version}")
    print()
    healthy = 0
    for backend in runtime.BACKENDS[1:]:
        works, line = doctor.check(backend)
        healthy += works
        print(f"{backend:10} {'ok ' if works else '-- '} {line}", flush=True)
    return 0 if healthy else 2


class _FitBar:
    """A progress bar of steps or of seconds, or of what runs out first, with the PSNR.

    Until the first report, the start is made and kernels are compiled, and it says so.
    """

    def __init__(self, encoding: Encoding, quiet: bool) -> None:
        self.steps, self.seconds = encoding.steps, encoding.seconds
        unit = "s" if self.steps is None else "its"
        form = "{desc} {percentage:3.0f}%|{bar}| "
        if self.steps is None or self.seconds is None:
            form += "{n:.4g}/{total:.4g} " + unit
        self.bar = tqdm(
            total=self.seconds if self.steps is None else self.steps, disable=quiet,
            bar_format=form + "{postfix}", desc="encode: start, and compiling",
        )  # fmt: skip

    def show(self, k: int, report: Report) -> None:
        parts = [
            done / most
            for done, most in ((report.step, self.steps), (report.seconds, self.seconds))
            if most
        ]
        self.bar.n = min(max(parts, default=1.0), 1.0) * self.bar.total
        self.bar.set_description_str(f"encode, {k} Gaussians", refresh=False)
        self.bar.set_postfix_str(f"PSNR {report.psnr:.2f} dB, step {report.step}")

    def __enter__(self) -> _FitBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taichi2dgs", description="Pictures as two-dimensional Gaussians."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    encode = commands.add_parser("encode", help="fit Gaussians to a picture")
    encode.set_defaults(run=_encode)
    encode.add_argument(
        "image", nargs="?", default=SAMPLE, help=f"a picture, or a folder of them ({SAMPLE})"
    )
    count = encode.add_mutually_exclusive_group()
    count.add_argument("-k", type=_count, help=f"number of Gaussians ({K}), or {AUTO}, by detail")
    count.add_argument("--target-psnr", type=float, metavar="DB", help="find the k that ends there")
    count.add_argument("--target-bytes", type=int, metavar="N", help="find the k of such a file")
    encode.add_argument("--quality", default="high", help=f"{', '.join(t2d.QUALITIES)} (high)")
    encode.add_argument("--refine", type=int, metavar="STEPS", help="after the fit, while rounding "
                        f"({REFINE} for {' and '.join(REFINED)}, else 0)")  # fmt: skip
    encode.add_argument("--seconds", type=float, help=f"budget of a fit in seconds ({SECONDS:g})")
    encode.add_argument("--steps", type=int, help="budget in iterations")
    encode.add_argument("--init", default=DEFAULT, choices=INITS, help=f"start ({DEFAULT})")
    encode.add_argument("--weights", metavar="RUN", help="networks from a training of your own")
    encode.add_argument("--seed", type=int, default=0, help="seed of the start (0)")
    encode.add_argument(
        "--config",
        metavar="YAML",
        help="fit options: a file, or the shipped adam",
    )
    encode.add_argument(
        "-o", "--output", "--out", metavar="OUT.t2d",
        help="default: IMAGE's name .t2d; of a folder, the folder of files; those there are kept",
    )  # fmt: skip
    encode.add_argument(
        "--shard", type=_shard, default=WHOLE, metavar="I/N", help="the I-th of N parts of a folder"
    )
    encode.add_argument(
        "--recursive", action="store_true", help="pictures in subfolders of a folder, too"
    )
    encode.add_argument("-q", "--quiet", action="store_true", help="no progress bar")

    show = commands.add_parser("render", help="render Gaussians to a picture")
    show.set_defaults(run=_render)
    show.add_argument("gaussians", metavar="FILE.t2d")
    show.add_argument("-o", "--output", required=True, metavar="OUT.png")
    show.add_argument("--size", type=_size, metavar="HxW", help="default: the picture's own")
    show.add_argument(
        "--crop", type=_crop, metavar="TOP,LEFT,HxW", help="part of that size to render"
    )
    show.add_argument(
        "--alias", action="store_true", help="below the picture's size, sample instead of averaging"
    )

    train = commands.add_parser("train", help="train the networks of the prior")
    stages = train.add_subparsers(required=True, metavar="STAGE")
    position = stages.add_parser("position", help="Stage I: where Gaussians go")
    position.set_defaults(run=_train_position)
    attributes = stages.add_parser("attributes", help="Stage II: what they look like")
    attributes.set_defaults(run=_train_attributes)
    attributes.add_argument(
        "--position", metavar="RUN", default=SHIPPED, help="folder of Stage I (shipped weights)"
    )
    for command, name in ((position, "position"), (attributes, "attributes")):
        command.add_argument("--data", required=True, metavar="DIR", help="images to train on")
        command.add_argument("--valid", metavar="DIR", help="to validate on (part of --data)")
        command.add_argument("--config", default=name, metavar="YAML", help=f"({name})")
        command.add_argument("--out", required=True, metavar="RUN", help="folder; a run resumes")
        command.add_argument("-q", "--quiet", action="store_true", help="no progress bars")

    for command in (encode, show, position, attributes):
        command.add_argument(
            "--backend", metavar="NAME", help=f"{', '.join(runtime.BACKENDS)} (auto)"
        )
    info.add_parser(commands)
    viewing.add_parser(commands)
    check = commands.add_parser("doctor", help="say what works on this machine")
    check.set_defaults(run=_doctor)
    return parser


def _count(text: str) -> int | str:
    if text == AUTO or re.fullmatch(r"[+-]?\d+", text):
        return text if text == AUTO else int(text)
    raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number or {AUTO}")


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r}; expected I/N with 1 <= I <= N, such as 1/8")
    return int(match[1]), int(match[2])


def _crop(text: str) -> tuple[int, int, int, int]:
    match = re.fullmatch(r"(\d+),(\d+),([1-9]\d*)[xX]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}; expected TOP,LEFT,HxW, such as 0,128,512x512")
    top, left, height, width = (int(number) for number in match.groups())
    return top, left, height, width


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}; expected HxW, such as 1080x1920")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    sys.exit(main())
