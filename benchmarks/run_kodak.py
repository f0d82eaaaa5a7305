"""Fit centre crops by every method at every k, and write the table of PSNRs and times.

    python benchmarks/run_kodak.py --methods ours ours-gradient --k 10000 50000

--data FOLDER takes pictures from there; without it Kodak's 24 are downloaded, once. A method is one
of configs/baselines, or a file like them. A JSON file with every fit and a Markdown table appear in
--out; both carry machine, backend, versions, commit and command. Compiling is not on the clock; a
short fit before the first of each kind warms up. A run that is killed goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from common import fits, kodak, measure, table

import taichi2dgs
from taichi2dgs.storage import files


@measure.script
def main() -> None:
    options = parse()
    count = len(kodak.DIGESTS) if options.images is None else options.images
    folder = options.data or kodak.fetch(count)
    pictures = {folder.resolve().name: measure.find_pictures(folder, options.images)}
    taichi2dgs.init(options.backend)
    run = measure.describe(f"{options.crop}x{options.crop} centre crops", [folder])
    run, rows = fits.measure_all(
        pictures,
        lambda path: measure.centre_crop(files.read_image(path), options.crop),
        run,
        options,
    )
    page = table.as_markdown(run, rows)
    options.out.with_suffix(".md").write_text(page)
    print(page)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, help="folder of pictures (Kodak, downloaded)")
    parser.add_argument("--crop", type=int, default=512, help="side of the centre crop (512)")
    measure.add_options(parser, "kodak")
    return measure.parsed(parser)


if __name__ == "__main__":
    sys.exit(main())
