"""Compare weights of the prior: PSNR before a fit, with colours solved, and after fits.

    python benchmarks/run_prior.py --data kodak art textures --weights shipped RUN --k 10000 50000

Pictures are cut to the centre square of --crop pixels, and k counts per 512x512 of them; --crop 0
takes them whole, with k Gaussians each. Every number of steps is a fit of its own, whose rates fall
to its end, from a start that is drawn for it. The entropy is that of the heatmap, 1 for a flat one
(the paper's Figure 5). A run that is killed goes on where it was.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import measure, table
from common.identity import RESULTS
from common.rows import Rows, digest_of
from torch import Tensor
from tqdm import tqdm

import taichi2dgs
from nets.unet import count_of
from nets.weights import NETS, file, folder_of, load
from pipelines.starts import prior
from pipelines.starts.named import initialize
from taichi2dgs import metrics
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.storage import files

BY = ("dataset", "k", "weights")
KEYS = ("image", *BY, "made_by")  # what tells rows apart
SOLVED = (1, 2, 3, 4)  # steps of `solve_colors`


@measure.script
def main() -> None:
    options = parse()
    pictures = {
        folder.resolve().name: measure.find_pictures(folder, options.images)
        for folder in options.data
    }
    taichi2dgs.init(options.backend)
    about = f"{options.crop}x{options.crop} centre crops" if options.crop else "Whole pictures"
    run = measure.describe(about, options.data)
    run["steps"], folders = options.steps, {name: folder_of(name) for name in options.weights}
    nets = {name: [file(net, folder).stem for net in NETS] for name, folder in folders.items()}
    made_by = {name: digest_of({**run, "weights": own}) for name, own in nets.items()}
    rows = Rows(options.out.with_suffix(".json"), {**run, "weights": nets}, KEYS)
    kinds = [
        (path, dataset, k, name)
        for dataset in pictures
        for k in options.k
        for path in pictures[dataset]
        for name in folders
    ]
    for path, dataset, k, name in tqdm(kinds, "pictures"):
        key = (path.stem, dataset, k, name, made_by[name])

        def made(path=path, k=k, name=name, key=key) -> Iterator[dict]:
            image = measure.centre_crop(files.read_image(path)[..., :3], options.crop or None)
            count = count_of(k, image.shape[0] * image.shape[1]) if options.crop else k
            told = dict(zip(KEYS, key, strict=True))
            yield told | measured(image, count, folders[name], options.steps)

        rows.want([key], made)
    page = as_markdown(rows.run, rows.finish())
    options.out.with_suffix(".md").write_text(page)
    print(page)


def measured(image: Tensor, k: int, folder: Path, steps: list[int]) -> dict[str, Any]:
    """Return the PSNR of one picture's start, as it is and after all that may follow it."""
    batch = image.permute(2, 0, 1)[None]
    share = prior.heatmaps(load("position", folder), batch, [k])[0].double()
    share = share / share.sum()
    start = initialize(image, k, weights=folder, steps=0)
    psnr = {"start": metrics.psnr(start.render(), image)}
    for number in SOLVED:
        solved = solve_colors(image, start, number)
        psnr[f"colours, {number}"] = metrics.psnr(solved.render(), image)
    for number in steps:
        start = initialize(image, k, weights=folder, steps=number)
        psnr[str(number)] = taichi2dgs.fit(image, start, steps=number).psnr
    entropy = -float((share * share.clamp(min=1e-30).log()).sum()) / math.log(share.numel())
    return {"gaussians": k, "entropy": round(entropy, 5)} | {
        "psnr": {name: round(float(value), 3) for name, value in psnr.items()}
    }


def as_markdown(run: dict[str, Any], rows: list[dict]) -> str:
    """Return a page: what was compared, and a line of means for each kind."""
    names = list(rows[0]["psnr"])
    lines = [["pictures", "k", "weights", "entropy", *names]]
    for group in table.grouped(rows, BY):
        means = [statistics.mean(row["psnr"][name] for row in group) for name in names]
        first, entropy = group[0], statistics.mean(row["entropy"] for row in group)
        what = [f"{first['dataset']}, {len(group)}", f"{first['k']:,}", Path(first["weights"]).name]
        lines.append([*what, f"{entropy:.4f}", *(f"{mean:.2f}" for mean in means)])
    weights = "\n".join(f"- {Path(n).name}: {', '.join(w)}" for n, w in run["weights"].items())
    return (
        f"{run['pictures']}: mean PSNR in dB of the start by the networks alone, with so many\n"
        "steps of `solve_colors`, and after fits of so many steps.\n\n"
        f"{table.about_run(run)}\n{weights}\n\n{table.pipes(lines)}\n"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0], epilog="See the top of this file."
    )
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of pictures")
    parser.add_argument("--weights", nargs="+", default=["shipped"], metavar="RUN",
                        help="folders of both networks, or shipped")  # fmt: skip
    parser.add_argument("--k", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--crop", type=int, default=512, help="side of the centre crop (512)")
    parser.add_argument("--steps", type=int, nargs="*", default=[25, 50, 100, 200, 1000],
                        help="of fits (25 50 100 200 1000)")  # fmt: skip
    parser.add_argument("--images", type=int, help="how many of each folder, from the first (all)")
    parser.add_argument("--backend", help="cuda, vulkan, metal, opengl, cpu or auto")
    parser.add_argument("--out", type=Path, default=RESULTS / "prior", help="(results/prior)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
