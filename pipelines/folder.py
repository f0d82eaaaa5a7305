"""Encoding many pictures: a folder in, a folder out, over as many machines as there are."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from pipelines.encoding import Encoding
from pipelines.training.images import SUFFIXES
from taichi2dgs import files
from taichi2dgs.fit import FitResult

FAILURES = (ValueError, RuntimeError, OSError, MemoryError, ArithmeticError)
WHOLE = (1, 1)


def encode_folder(
    source: Path, out: Path, encoding: Encoding, shard: tuple[int, int] = WHOLE, quiet: bool = False
) -> int:
    """Encode every picture of a folder that has no .t2d file yet.

    Files appear complete or not at all, so what is there is finished, and a run that was stopped
    goes on. A picture that fails is named and skipped.

    Args:
        source: folder of pictures.
        out: folder of .t2d files, made if it is not there; NAME.png becomes NAME.t2d.
        encoding: how.
        shard: (i, n): of the pictures in order of their names, every n-th from the i-th.
        quiet: no progress bar.

    Returns:
        0; 1 if a picture failed; 130 after Ctrl-C.

    Raises:
        ValueError: there are no pictures, two would become one file, or `out` cannot be made.
    """
    targets = targets_of(source, out)
    mine = list(targets.items())[shard[0] - 1 :: shard[1]]
    todo = [(path, target) for path, target in mine if not target.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{out}: cannot be made ({files.one_line(error)})") from error
    failed = encoded = code = 0
    bar = tqdm(total=len(mine), initial=len(mine) - len(todo), unit="picture", disable=quiet)
    with bar:
        for path, target in todo:
            try:
                result = encode_file(path, target, encoding)
                bar.set_postfix_str(f"{path.name} {result.history[-1].psnr:.2f} dB")
                encoded += 1
            except FAILURES as error:
                text = files.one_line(error)
                line = text if str(path) in text else f"{path}: {text}"
                tqdm.write(f"taichi2dgs: skipped: {line}", file=sys.stderr)
                failed, code = failed + 1, 1
            except KeyboardInterrupt:
                code = 130
                break
            bar.update()
    print(f"{out}: {encoded} encoded, {len(mine) - len(todo)} were there, {failed} failed")
    return code


def targets_of(source: Path, out: Path) -> dict[Path, Path]:
    """Return the .t2d file that each picture of a folder becomes, in order of their names."""
    paths = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{source}: no pictures there")
    targets: dict[Path, Path] = {}
    for path in paths:
        target = out / f"{path.stem}.t2d"
        if target in targets.values():
            raise ValueError(f"{source}: two pictures would become {target}; rename one")
        targets[path] = target
    return targets


def encode_file(path: Path, target: Path, encoding: Encoding) -> FitResult:
    """Encode one picture file and save it; nothing is saved of it if Ctrl-C comes before."""
    image = files.read_image(path)
    result = encoding.run(image)
    encoding.save(target, result.gaussians, image)
    return result
