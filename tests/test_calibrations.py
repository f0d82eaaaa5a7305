"""Searches for a number of Gaussians, and what calibrates them: scripts of benchmarks/."""

import math
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from conftest import environment
from test_benchmarks import SCRIPT

import pipelines
import taichi2dgs
from pipelines.aims import AUTO_PSNR, GAIN, PROBE, probe_signs, signs
from pipelines.encoding import Encoding
from taichi2dgs import FitOptions
from taichi2dgs.storage import files, t2d


@pytest.fixture
def pictures(tmp_path, photograph):
    """A folder of two pictures of 40x40 pixels."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, part in (("a", photograph[:40, :40]), ("b", photograph[56:, 88:])):
        files.write_image(folder / f"{name}.png", part)
    return folder


def run(name: str, *arguments: object) -> subprocess.CompletedProcess:
    command = map(str, [sys.executable, SCRIPT.with_name(f"{name}.py"), *arguments])
    return subprocess.run(list(command), capture_output=True, text=True, env=environment())


def main_of(script, *arguments: object) -> int:
    """Run a script that has been imported, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", list(map(str, [f"{script.__name__}.py", *arguments])))
        return script.main()


def middle(path, side: int) -> torch.Tensor:
    edge = (40 - side) // 2
    return files.read_image(path)[edge : edge + side, edge : edge + side].contiguous()


def cells(page: str) -> dict[str, list[str]]:
    """The lines of a Markdown table by their first column."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {first: rest for first, *rest in lines}


def test_calibrate_gain_prints_constants_that_foretell_fits(pictures):
    done = run("calibrate_gain", "--data", pictures, "--crop", 32, "--steps", 30, 40)
    assert done.returncode == 0, done.stderr
    lines, page = cells(done.stdout), done.stdout[done.stdout.index("STEEP") :]
    assert list(lines)[2:] == ["0.4", "0.5", "probe", "log slope"]
    found: dict = {}
    exec(page, found)  # as it is to stand in pipelines/aims.py
    assert list(found["GAIN"]) == list(GAIN)
    off = {name: float(own[-1]) for name, own in lines.items() if name in ("0.4", "0.5", "probe")}
    image = middle(pictures / "a.png", 32)
    ends, errors = {}, {name: [] for name in off}
    for each in (8, 4):
        start = pipelines.initialize(image, 32 * 32 // each)
        fit = taichi2dgs.fit(image, start, steps=30, options=FitOptions(report_every=3))
        psnrs = [report.psnr for report in fit.history if report.step % 3 == 0]
        ends[each] = fit.psnr
        for tenths in (4, 5):
            now = psnrs[tenths]
            terms = signs(now, now - psnrs[tenths - 1], 30, each)
            told = now + np.dot(found["GAIN"][tenths / 10], terms)
            errors[str(tenths / 10)].append(told - fit.psnr)
        probe = taichi2dgs.fit(image, start, steps=math.ceil(30 * PROBE)).psnr
        errors["probe"].append(
            probe + np.dot(found["PROBE_GAIN"], probe_signs(30, each)) - fit.psnr
        )
    for name, own in errors.items():
        # A probe of so few steps tells little: 3.4 dB off with today's weights.
        assert max(map(abs, own)) < 3 * off[name] < (15 if name == "probe" else 2), name
    slope = (ends[4] - ends[8]) / math.log(2)
    told = found["STEEP"] * (1 / math.sqrt(8 * 4)) ** found["STEEPER"]
    assert abs(math.log(told / slope)) < 3 * float(lines["log slope"][-1]) < 1, (told, slope)


def test_gains_are_related_to_their_signs(pictures, benchmarks, monkeypatch):
    """Two Gaussians end below the PSNRs that count, but make a slope."""
    script, rows = benchmarks("calibrate_gain"), {}
    monkeypatch.setattr(script, "PIXELS_EACH", (512, 8, 4))
    script.measured(pictures / "a.png", 70, 32, rows)
    image = middle(pictures / "a.png", 32)
    ends, expected = [], {"0.4": [], "0.5": [], "probe": [], "log slope": []}
    for k, each in ((2, 512), (128, 8), (256, 4)):
        start = pipelines.initialize(image, k)
        fit = taichi2dgs.fit(image, start, steps=70, options=FitOptions(report_every=7))
        psnrs = {report.step: report.psnr for report in fit.history}
        ends.append(fit.psnr)
        if k > 2:
            for name, step in (("0.4", 28), ("0.5", 35)):
                terms = signs(psnrs[step], psnrs[step] - psnrs[step - 7], 70, each)
                expected[name].append([fit.psnr - psnrs[step], *terms])
            probe = taichi2dgs.fit(image, start, steps=11).psnr
            expected["probe"].append([fit.psnr - probe, *probe_signs(70, each)])
    for low, high, factor, density in ((0, 1, 64, 1 / 64), (1, 2, 2, 1 / math.sqrt(32))):
        slope = (ends[high] - ends[low]) / math.log(factor)
        expected["log slope"].append([math.log(slope), 1.0, math.log(density)])
    assert ends[0] < 25 < ends[1] and set(rows) == set(expected)
    for name, own in expected.items():
        np.testing.assert_allclose(rows[name], own, atol=1e-3, err_msg=name)


def test_constants_are_found_from_what_they_foretell(benchmarks):
    """What gains are made of is known here, so that nothing is off."""
    generator = np.random.default_rng(0)
    weights = {"0.4": np.arange(1.0, 8.0), "0.5": np.arange(-3.0, 4.0), "probe": np.arange(4.0)}
    weights["log slope"] = np.array([math.log(20.0), 0.25])
    rows = {}
    for name in reversed(weights):
        terms = generator.normal(size=(12, len(weights[name])))
        rows[name] = np.column_stack([terms @ weights[name], terms])
    page = benchmarks("calibrate_gain").report(rows)
    assert "STEEP, STEEPER = 20.0, 0.25\n" in page
    assert "    0.4: (1.000, 2.000, 3.000, 4.000, 5.000, 6.000, 7.000),\n    0.5: (-3.000, " in page
    assert page.endswith("PROBE_GAIN = (0.000, 1.000, 2.000, 3.000)")
    for name, own in rows.items():
        assert cells(page)[name] == [f"{own[:, 0].mean():.2f}", "0.00"]


def test_too_few_fits_tell_no_constants(benchmarks):
    script = benchmarks("calibrate_gain")
    alike = np.ones((20, 8))  # all of one number of steps, and one of Gaussians
    for rows, count in (({}, 0), ({"0.4": alike[:6]}, 6), ({"0.4": alike}, 20)):
        with pytest.raises(ValueError, match=f"^0.4: {count} fits ended between 25 and 55 dB, too"):
            script.report(rows)


def test_run_search_says_what_searches_end_with(pictures, tmp_path):
    out = tmp_path / "new/searches.md"
    done = run("run_search", "--data", pictures, "--crop", 24, "--steps", 20, "--psnr", 30, 30,
               "--bytes", 1000, "--out", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert out.read_text().strip() == done.stdout.strip()
    lines = cells(done.stdout)
    kinds: dict[str, Any] = {"k": "auto", "target_psnr": 30.0, "target_bytes": 1000}
    assert list(lines)[2:] == [f"{name}={value}" for name, value in kinds.items()]
    for name, value in kinds.items():
        count, *line, off, within, better, least = lines[f"{name}={value}"]
        k, budgets, most, seconds = map(float, line)
        ks, used, offs, gains, good = [], [], [], [], 0
        for path in sorted(pictures.iterdir()):
            image = middle(path, 24)
            seen: list[int] = []
            made = Encoding(**{name: value}, steps=20).run(
                image,
                lambda _, report: seen.append(report.step),  # noqa: B023
            )
            ks.append(len(made.gaussians))
            ends = np.flatnonzero(np.diff([*seen, -1]) < 0)  # of the fits of a search
            used.append(sum(seen[end] for end in ends) / 20)
            if name == "target_bytes":
                offs.append(100 * (1 - len(t2d.encode(made.gaussians)) / value))
                good += 0 <= offs[-1] <= 4.5
            else:
                offs.append(abs(made.psnr - (AUTO_PSNR if name == "k" else value)))
                good += offs[-1] <= 0.5
            gains.append(made.psnr - Encoding(k=ks[-1], steps=20).run(image).psnr)
        assert (int(count), int(within)) == (2, good) and seconds > 0
        assert k == pytest.approx(np.mean(ks), abs=0.51)
        assert (budgets, most) == pytest.approx((np.mean(used), max(used)), abs=0.0051)
        figure, unit = off.split()
        assert unit == ("%" if name == "target_bytes" else "dB")
        assert float(figure) == pytest.approx(np.mean(offs), abs=0.051)
        assert float(better) == pytest.approx(np.mean(gains), abs=0.02)
        assert float(least) == pytest.approx(min(gains), abs=0.02)


def test_a_search_that_ends_early_has_written_its_table(pictures, tmp_path, benchmarks, capsys):
    (pictures / "b.png").write_bytes(b"nothing")
    out = tmp_path / "searches.md"
    assert main_of(benchmarks("run_search"), "--data", pictures, "--crop", 24, "--steps", 2,
                   "--psnr", "--bytes", "--out", out) == 2  # fmt: skip
    assert "b.png: not a readable picture" in capsys.readouterr().err
    lines = cells(out.read_text())
    assert list(lines)[2:] == ["k=auto"] and lines["k=auto"][0] == "1"
    assert lines["k=auto"][2] == "1.00"  # so short a fit has no probe


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("calibrate_gain", ["--images", 0], "--images 0: expected 1 or more"),
        ("calibrate_gain", ["--images", -1], "--images -1: expected 1 or more"),
        ("calibrate_gain", ["--crop", 0], "a centre crop of 0x0 pixels; expected a side of 1"),
        ("calibrate_gain", ["--steps", 30, 0], "--steps 0: expected a multiple of 10"),
        ("calibrate_gain", ["--steps", 30, 45], "--steps 45: expected a multiple of 10"),
        ("calibrate_gain", ["--steps", 20, 30], "--steps 20 30: expected two different numbers"),
        ("run_search", ["--images", 0], "--images 0: expected 1 or more"),
        ("run_search", ["--crop", -4], "a centre crop of -4x-4 pixels; expected a side of 1"),
        ("run_search", ["--steps", 0], "--steps 0: expected 1 or more"),
        ("run_search", ["--psnr", 30, 0, "--data", "."], "target_psnr=0.0; expected a positive"),
        ("run_search", ["--bytes", 0, "--data", "."], "target_bytes=0; expected a positive"),
        ("run_search", ["--data", "nowhere"], "--data nowhere: no pictures there"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line_before_any_fit(
    pictures, benchmarks, monkeypatch, capsys, name, arguments, expected
):
    def fit(*arguments, **more):
        raise AssertionError("a fit has begun")

    monkeypatch.setattr(taichi2dgs, "fit", fit)
    monkeypatch.setattr(Encoding, "_fit", fit)
    assert main_of(benchmarks(name), "--data", pictures, *arguments) == 2
    printed = capsys.readouterr()
    (line,) = re.findall(r"\S+: error: .*", printed.err)
    assert line.startswith(f"{name}: error: {expected}") and not printed.out
