"""Rates of files and of picture codecs, as benchmarks/run_rate.py measures them."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import environment
from test_benchmarks import SCRIPT
from test_figures import main, names_of, texts_of, touching

from taichi2dgs.storage import files


def test_run_rate_compares_files_with_picture_codecs_and_goes_on(tmp_path, photograph):
    for name, left in (("a", 0), ("b", 60)):
        files.write_image(tmp_path / f"{name}.png", photograph[:60, left : left + 60])
    command = [sys.executable, SCRIPT.with_name("run_rate.py"), "--data", tmp_path, "--k", 400, 40,
               "--steps", 5, "--refine", 4, "--presets", "lossless", "small",
               "--codecs", "JPEG", "WebP", "--out", tmp_path / "rate"]  # fmt: skip
    found = []
    for count in (1, 2):
        done = subprocess.run(
            [*map(str, command), "--images", str(count)],
            capture_output=True,
            text=True,
            env=environment(),
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads((tmp_path / "rate.json").read_text())["rows"])
    first, both = found
    assert len(both) == 2 * len(first) and all(row in both for row in first)  # with their seconds
    assert {row["image"] for row in first} == {"a"} and {row["image"] for row in both} == {"a", "b"}
    ours = [row for row in first if row["codec"].startswith(".t2d")]
    assert [(row["codec"], row["setting"]) for row in ours] == [
        (".t2d lossless, 5 steps", 400),
        (".t2d small, 5 steps", 400),
        (".t2d lossless, 5 steps", 40),
        (".t2d small, 5 steps", 40),
    ]
    assert abs(ours[0]["psnr"] - ours[0]["unsaved"]) < 1e-6 and ours[0]["bytes"] > ours[1]["bytes"]
    webp = [row for row in first if row["codec"] == "WebP"]
    assert [row["bytes"] for row in webp] == sorted(row["bytes"] for row in webp)
    assert webp[-1]["psnr"] > 35 and all(row["decode_s"] > 0 for row in first)
    assert "| .t2d small, 5 steps | 400 | 4 | 2 | " in done.stdout
    assert "| Cool-chic 5 | 0.482 | 34.52 | " in done.stdout
    assert re.search(r"\| WebP \| \+0.0 % \| - \| 2 \| ", done.stdout)
    assert files.read_image(tmp_path / "rate.webp").shape[1] > 400


def test_rates_are_compared_at_equal_quality(benchmarks):
    """Logarithms of rates that are linear in quality have differences known without a computer."""
    rates = benchmarks("common.rates")
    reference = [(math.exp(0.1 * psnr - 4), psnr) for psnr in (26.0, 29.0, 33.0, 38.0)]
    half = [(rate / 2, psnr) for rate, psnr in reference]
    assert rates.bd_rate(half, reference) == pytest.approx(-50)
    assert rates.bd_rate(reference, half) == pytest.approx(100)
    steeper = [(math.exp(0.2 * psnr - 7), psnr) for psnr in (30.0, 31.0, 36.0, 40.0)]
    mean = 0.1 * (30 + 38) / 2 - 3  # over the qualities that both have
    assert rates.bd_rate(steeper, reference) == pytest.approx(100 * math.expm1(mean))
    assert rates.bd_rate([(0.1, 50.0), (0.2, 60.0)], reference) is None
    assert rates.at([(0.25, 30.0), (1.0, 34.0)], 0.5) == pytest.approx(32)
    assert rates.at(reference, 0.01) is None and rates.at([], 1.0) is None
    assert rates.rising([(1.0, 30.0), (2.0, 29.0), (3.0, 31.0)]) == [(1.0, 30.0), (3.0, 31.0)]


def test_codecs_write_more_bytes_for_better_pictures(benchmarks, photograph):
    pixels = (photograph * 255).round().to(torch.uint8).numpy()
    for codec in benchmarks("common.codecs").available():
        small, large = (codec.encode(pixels, s) for s in (codec.settings[0], codec.settings[-1]))
        assert len(small) < len(large), codec.name
        errors = [np.abs(codec.decode(one) - pixels.astype(float)).mean() for one in (small, large)]
        assert codec.decode(large).shape == pixels.shape and errors[1] < errors[0] / 3, codec.name


def rows_of_rates(counts: tuple[int, ...]) -> list[dict]:
    """Rows of WebP and JPEG, and of two presets after two budgets, of which `small` is better."""
    codecs = {"WebP": 2.0, "JPEG": -2.0}
    rows = [
        {"codec": codec, "image": "a", "setting": rate, "bpp": rate, "psnr": 28 + gain + 4 * rate}
        for codec, gain in codecs.items()
        for rate in (0.1, 0.5, 1.5)
    ]
    for preset, bits, gain in (("high", 52, -1.0), ("small", 33, 0.0)):
        for budget, more in (("10 s", 0.0), ("60 s", 0.5)):
            for k in counts:
                rate = k * bits / 393_216
                psnr = 28 + gain + more + 4 * rate
                rows.append({"codec": f".t2d {preset}, {budget}", "image": "a", "setting": k,
                             "bpp": rate, "psnr": psnr})  # fmt: skip
    return rows


def test_numbers_of_gaussians_are_marked_on_the_curve_of_files(benchmarks):
    plot = benchmarks("common.rate_plot")
    counts = (900, 1_600, 3_000, 5_500, 10_000, 18_000)
    run = {"pictures": "kodak, 24 full frames", "machine": "A(R) Processor, 2 cores"}
    figure = plot.draw(run, rows_of_rates(counts))
    (axis,) = figure.axes
    title, about = axis.get_title(loc="left"), axis.texts
    assert title.startswith("Files of Gaussians beside picture codecs")
    assert any("kodak, 24 full frames; " in text.get_text() for text in about)
    named = [name for name in names_of(axis) if not name.startswith("_")]
    assert named == [".t2d small, 60 s", ".t2d small, 10 s", "WebP", "JPEG"]
    marked = {text.get_text(): text for text in axis.texts if text.get_visible()}
    curve = axis.lines[0].get_xydata().tolist()
    for k in counts:
        mark = marked["k = 900" if k == 900 else f"{k:,}"]
        assert list(mark.xy) in curve and mark.xy[0] == pytest.approx(k * 33 / 393_216)
        assert mark.get_color() == axis.lines[0].get_color()
    assert touching(figure) == []


def test_a_number_that_has_no_room_is_not_written(benchmarks):
    run = {"pictures": "kodak, 24 full frames", "machine": "A"}
    figure = benchmarks("common.rate_plot").draw(run, rows_of_rates((900, 950, 9_000)))
    written = [text.get_text() for text in texts_of(figure)]
    assert "k = 900" in written and "950" not in written and "9,000" in written
    assert touching(figure) == []


def test_the_curves_are_drawn_from_the_file_of_the_script(tmp_path, benchmarks, monkeypatch):
    run = {"pictures": "kodak, 24 full frames", "machine": "A"}
    table = tmp_path / "rate.json"
    table.write_text(json.dumps({**run, "rows": rows_of_rates((900, 9_000))}))
    arguments = ("--figures", "rate", "--table", table, "--out", tmp_path)
    assert main(monkeypatch, benchmarks, *arguments) == 0
    assert files.read_image(tmp_path / "rate.webp").shape[1] > 1000
