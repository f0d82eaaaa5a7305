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

from taichi2dgs.storage import files


def test_run_rate_compares_files_with_picture_codecs_and_goes_on(tmp_path, photograph):
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
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
