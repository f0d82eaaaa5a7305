"""Fits of many pictures by many methods: the rows of a table, each measured once."""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from tqdm import tqdm

from common import costs, quality, rows
from common.identity import METHODS, ROOT, digest
from common.measure import find_pictures, wait
from pipelines import baselines, configuration
from pipelines.baselines.starts import PEERS, begin
from taichi2dgs import metrics, runtime

# Iterations that tables report, where a fit makes them.
STEPS = (0, 25, 50, 100, 200, 500, 1000, 3000, 5000, 50_000)
SECONDS = (1, 2, 5, 10, 30)
KINDS = ("dataset", "k", "method", "sampler")  # what tells one kind of fit from another


class Fit(NamedTuple):
    """What tells one row from another: the name of a picture, and what `KINDS` has."""

    image: str
    dataset: str
    k: int
    method: str
    sampler: str


def measure_all(
    pictures: dict[str, list[Path]],
    prepare: Callable[[Path], Tensor],
    run: dict[str, Any],
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[dict]]:
    """Measure every picture in every kind of fit, but those that an earlier run has measured.

    A picture has all kinds of fits before the next one begins, and a run that is stopped returns
    the pictures that have them: fewer pictures, but no method that lacks one.

    Args:
        pictures: of each dataset.
        prepare: reads a picture as it is to be fitted. [H, W, C]
        run: see `measure.describe`.
        options: of the command line.

    Returns:
        What was run, which says how many pictures of how many there are, and the rows.

    Raises:
        KeyboardInterrupt: Ctrl-C came before any picture had all kinds.
    """
    run = {**run, "budget": [options.steps, options.seconds], "config": options.config}
    methods = {
        (Path(name).stem, sampler): method_of(name, sampler, options.config)
        for name, sampler in itertools.product(options.methods, options.sampler)
    }
    made_by = {
        Path(name).stem: rows.digest_of({**run, "files": digests_of(name, options.config)})
        for name in options.methods
    }
    table = rows.Rows(options.out.with_suffix(".json"), run, (*Fit._fields, "made_by"))
    quality.check_packages()
    kinds = [(k, *method) for k in options.k for method in methods]
    read, warm = functools.lru_cache(1)(prepare), set()

    def made(path: Path, fit: Fit) -> Iterator[dict]:
        image, method = read(path).to(runtime.device()), methods[fit.method, fit.sampler]
        if (fit.method, fit.sampler) not in warm:
            baselines.run(image, fit.k, method, steps=2)
            warm.add((fit.method, fit.sampler))
        row = measure(image, fit.k, method, options)
        bar.set_postfix_str(f"{fit.k} {fit.method} {fit.image} {row['psnr']:.2f} dB")
        yield {**fit._asdict(), "made_by": made_by[fit.method], **row}

    def key(fit: Fit) -> tuple:
        return (*fit, made_by[fit.method])

    fits = [(path, Fit(path.stem, name, *k)) for name, path in in_turn(pictures) for k in kinds]
    bar = tqdm(fits, "fits", unit="fit")
    with rows.stopping(bar):
        for path, fit in bar:
            table.want([key(fit)], functools.partial(made, path, fit))
    asked, said = finished(pictures, kinds, lambda fit: not table.lacks([key(fit)]))
    found = table.finish(map(key, asked), pictures=f"{run['pictures']}, pictures {said}")
    return table.run, found


def digests_of(method: str, config: str | None) -> list[str]:
    """Return the digests of a method's file, and of a configuration's that is not shipped."""
    shipped = ROOT / METHODS / f"{method}.yaml"
    paths = [Path(method) if Path(method).is_file() else shipped, Path(config or "")]
    return [digest(path.read_bytes()) for path in paths if path.is_file()]


def in_turn(pictures: dict[str, list[Path]]) -> list[tuple[str, Path]]:
    """Return the first picture of each dataset, then the second of each, and so on."""
    return [
        (dataset, path)
        for paths in itertools.zip_longest(*pictures.values())
        for dataset, path in zip(pictures, paths, strict=True)
        if path is not None
    ]


def finished(
    pictures: dict[str, list[Path]],
    kinds: list[tuple[int, str, str]],
    is_known: Callable[[Fit], bool],
) -> tuple[list[Fit], str]:
    """Return the fits of the pictures that have every kind, and say how many of how many these are.

    Raises:
        KeyboardInterrupt: there is none.
    """
    found, counts = [], []
    for dataset, paths in pictures.items():
        names = [p.stem for p in paths if all(is_known(Fit(p.stem, dataset, *k)) for k in kinds)]
        found += [Fit(name, dataset, *kind) for kind in kinds for name in names]
        counts.append(f"{len(names)} of {len(find_pictures(paths[0].parent, None))} of {dataset}")
    if not found:
        raise KeyboardInterrupt
    return found, ", ".join(counts)


def method_of(name: str, sampler: str, config: str | None) -> baselines.Method:
    method = baselines.load(name)
    if sampler != "default":
        if method.start in PEERS:
            raise ValueError(f"--sampler {sampler}: {name} has its own way to start")
        method = replace(method, sampler=sampler)
    options = configuration.load(config) if config and method.fused else {}
    return replace(method, fit={**options, **method.fit})  # what makes a method itself stays


def measure(
    image: Tensor, k: int, method: baselines.Method, options: argparse.Namespace
) -> dict[str, Any]:
    """Fit one picture, and return the row of its table.

    Its end is that of the fit of so many steps; with none, of the longest one in seconds.
    """
    start_seconds = costs.seconds_of(
        lambda: begin(image, k, method.start, sampler=method.sampler), wait=wait
    )
    fit = functools.partial(baselines.run, image, k, method)
    costs.reset_peak()
    in_steps = longest = None if options.steps is None else fit(steps=options.steps)
    own = {}  # PSNR of fits that end at each budget, or of one fit within it
    budgets = sorted(options.seconds or [])
    for at in budgets if method.ends_at_budget else budgets[-1:]:
        if method.ends_at_budget or longest is None or longest.history[-1].seconds < at:
            longest = fit(seconds=at)
            own[at] = longest.history[-1].psnr
    assert longest is not None  # the command line asks for steps or seconds
    peak = costs.peak_mib()
    result = in_steps if in_steps and options.steps else longest
    last = result.history[-1]
    final = result.gaussians.render()
    if not method.ends_at_budget:  # rates do not go by it, and reports are as close as 2 %
        own = {
            at: [r.psnr for r in longest.history if r.seconds <= at][-1]
            for at in sorted({*SECONDS, *budgets})
            if at <= longest.history[-1].seconds * 1.02
        }
    return {
        "size": [*image.shape[:2]],
        "gaussians": len(result.gaussians),
        "psnr_at": {
            str(report.step): round(report.psnr, 3)
            for report in (in_steps or longest).history
            if report.step in STEPS
        },
        "psnr_within": {f"{at:g}": round(psnr, 3) for at, psnr in own.items()},
        "psnr": round(last.psnr, 3),
        "psnr_8bit": round(metrics.psnr(final, image, rounded=True), 3),
        **quality.similarities(final, image),
        **quality.of_files(result.gaussians),
        "steps": last.step,
        "start_seconds": round(start_seconds, 3),
        "ms_per_iteration": round(1000 * last.seconds / max(1, last.step), 2),
        "peak_mib": round(peak),
        "render_fps": round(1 / costs.seconds_of(result.gaussians.render, wait=wait), 1),
    }
