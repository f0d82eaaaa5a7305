"""Render a peer's own files, and fit as many Gaussians by `ours` to the same pictures.

    python benchmarks/run_peer_files.py FILES --data FOLDER --steps 200 --seconds 10

FILES is a folder of fits by GaussianImage: `.npz` files of the viewer gaussian_image, or the
method's own `.pth.tar` checkpoints. Each belongs to the picture that has the name of the file or of
its folder: `kodim01.npz` or `kodim01/model_f16.npz`. They are rendered whole, by the sum blend;
Gaussians of which a number is not finite are left out, and counted. A JSON file and a page appear
in --out; each row is measured once for the same file and code, so that a killed run goes on.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import identity, kodak, measure, quality, table
from common.rows import Rows, code_and_device, named
from torch import Tensor
from tqdm import tqdm

import taichi2dgs
from pipelines import baselines
from taichi2dgs import metrics, runtime
from taichi2dgs.exchange import arrays
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import files

ENDINGS = ("npz", "pth.tar")
PEER = "the peer's file"
COLUMNS = {  # means in the page, and their digits
    "psnr": 2, "psnr_8bit": 2, "ms_ssim": 4, "bpp_file": 2, "bpp_float32": 2, "steps": 0,
    "seconds": 1,
}  # fmt: skip
KEYS = ("image", "file", "fit", "made_by")  # what tells rows apart


@measure.script
def main() -> None:
    options = parse()
    folder = options.data or kodak.fetch(len(kodak.DIGESTS))
    pairs = paired(options.files, measure.find_pictures(folder, None))[: options.images]
    quality.check_packages()
    taichi2dgs.init(options.backend)
    about = f"{folder.resolve().name}, {len(pairs)} whole pictures"
    run = measure.describe(about, [folder, options.files])
    rows = Rows(options.out.with_suffix(".json"), run, KEYS)
    budgets = [{"steps": steps} for steps in options.steps]
    budgets += [{"seconds": seconds} for seconds in options.seconds]
    found = [read(path, files.read_image(picture)) for path, picture in pairs]  # all, before fits
    every = tqdm(zip(pairs, found, strict=True), "files", len(pairs), unit="file")
    for (path, picture), (peer, left_out) in every:
        image = files.read_image(picture).to(runtime.device())
        peer = peer.to(image.device)
        common = {"image": picture.stem, "file": identity.digest(path.read_bytes())}
        makers = {PEER: functools.partial(of_peer, path, image, peer, left_out)}
        for budget in budgets:
            makers[f"ours, {named(budget)}"] = functools.partial(ours, image, len(peer), budget)
        for fit, make in makers.items():
            keys = {**common, "fit": fit, "made_by": code_and_device()}
            rows.want([tuple(keys.values())], lambda keys=keys, make=make: [{**keys, **make()}])
    page = as_markdown(rows.run, rows.finish())
    options.out.with_suffix(".md").write_text(page)
    print(page)


@functools.cache
def warm_up(channels: int) -> None:
    """Compile the kernels before anything is timed."""
    baselines.run(measure.ramp(channels), 70, baselines.load("ours"), steps=20)


def paired(folder: Path, pictures: list[Path]) -> list[tuple[Path, Path]]:
    """Return the files of a folder, each with its picture, in the order of the pictures.

    Raises:
        ValueError: there is none, one has no picture, or two have the same.
    """
    by_name, found = {picture.stem: picture for picture in pictures}, {}
    for path in sorted(path for ending in ENDINGS for path in folder.rglob(f"*.{ending}")):
        names = [name for name in (path.name.split(".")[0], path.parent.name) if name in by_name]
        if not names:
            raise ValueError(f"{path}: no picture is named as the file or its folder is")
        if names[0] in found:
            raise ValueError(f"{path}: {names[0]} has {found[names[0]]} already; expected one file")
        found[names[0]] = path
    if not found:
        raise ValueError(f"{folder}: no .npz or .pth.tar files there")
    return [(found[name], by_name[name]) for name in by_name if name in found]


def read(path: Path, image: Tensor) -> tuple[Gaussians, int]:
    """Return the Gaussians of a peer's file of an image, and how many of it are left out.

    Raises:
        ValueError: it is none, or of another size or number of channels; the message names it.
    """
    height, width, channels = image.shape
    made, kind, left_out = arrays.read(str(path), (height, width))
    if kind == "taichi2dgs":
        raise ValueError(f"{path}: a file of this library; expected one of GaussianImage")
    if made.size == (width, width) != (height, width):  # its converter writes the width twice
        half = arrays.HALF
        xy = (made.xy - half) * made.xy.new_tensor([1.0, height / width]) + half
        made = replace(made, xy=xy, size=(height, width))
    if made.size != (height, width) or (len(made) and made.channels != channels):
        raise ValueError(
            f"{path}: {made.size[0]}x{made.size[1]} pixels of {made.channels} channels; expected "
            f"{height}x{width} of {channels}, as the picture has"
        )
    if not len(made):
        raise ValueError(f"{path}: no Gaussian is finite")
    return made, left_out


def of_peer(path: Path, image: Tensor, gaussians: Gaussians, left_out: int) -> dict[str, Any]:
    """Return what a table says of a peer's file."""
    pixels = image.shape[0] * image.shape[1]
    size = round(8 * path.stat().st_size / pixels, 3)
    return {"left_out": left_out, **compared(image, gaussians), "bpp_file": size}


def ours(image: Tensor, k: int, budget: dict[str, Any]) -> dict[str, Any]:
    """Fit k Gaussians to an image, and return what a table says of them."""
    warm_up(image.shape[2])
    made = baselines.run(image, k, baselines.load("ours"), **budget)
    found = compared(image, made.gaussians)
    spent = {"steps": made.steps, "seconds": round(made.seconds, 2)}
    return {"left_out": 0, **found, "bpp_file": found["bpp_high"], **spent}


def compared(image: Tensor, gaussians: Gaussians) -> dict[str, Any]:
    out = gaussians.render()
    return {
        "gaussians": len(gaussians),
        "psnr": round(metrics.psnr(out, image), 3),
        "psnr_8bit": round(metrics.psnr(out, image, rounded=True), 3),
        "ms_ssim": quality.ms_ssim(out, image),
        **quality.of_files(gaussians),
    }


def as_markdown(run: dict[str, Any], rows: list[dict]) -> str:
    """Return a page: a line for the files and one for each budget, and every picture."""
    groups = table.grouped(rows, ("fit",))
    lines = [["pictures", "of", "Gaussians", "left out", "PSNR", "8 bits", "MS-SSIM",
              "bits a pixel", "as float32", "steps", "s"]]  # fmt: skip
    for group in groups:
        means = [
            table.mean([row.get(name) for row in group], digits) for name, digits in COLUMNS.items()
        ]
        count = statistics.fmean(row["gaussians"] for row in group)
        lost = sum(row["left_out"] for row in group)
        lines.append([str(len(group)), group[0]["fit"], f"{count:,.0f}", f"{lost:,}", *means])
    every = [["image", "Gaussians", "left out", *(group[0]["fit"] for group in groups)]]
    for each in table.grouped(rows, ("image",)):
        psnrs = [f"{row['psnr']:.2f}" for row in each]
        every.append(
            [each[0]["image"], f"{each[0]['gaussians']:,}", f"{each[0]['left_out']:,}", *psnrs]
        )
    return (
        f"{run['pictures']}: a peer's own files beside `ours` with as many Gaussians. The files\n"
        "are the peer's, fits by GaussianImage that were made elsewhere, in steps and seconds\n"
        "that they do not tell; they are rendered here by the sum blend, without Gaussians that\n"
        "are not finite. Mean PSNR in dB of the clamped render, also rounded to 8 bits; bits a\n"
        "pixel of the peer's files as they are, and of ours as .t2d files of quality high.\n"
        "Starting is not in the seconds.\n\n"
        f"{table.about_run(run)}\n\n{table.pipes(lines)}\n\n"
        f"Every picture, PSNR in dB:\n\n{table.pipes(every)}\n"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("files", type=Path, help="folder of the peer's files")
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--images", type=int, help="how many, from the first (all)")
    parser.add_argument("--steps", type=int, nargs="*", default=[200], help="of our fits (200)")
    parser.add_argument("--seconds", type=float, nargs="*", default=[10], help="of more fits (10)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument(
        "--out", type=Path, default=measure.RESULTS / "peer_files", help="(results/peer_files)"
    )
    options = parser.parse_args()
    if options.images is not None and options.images < 1:
        raise ValueError(f"--images {options.images}: expected 1 or more")
    return options


if __name__ == "__main__":
    sys.exit(main())
