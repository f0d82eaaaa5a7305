"""The scripts beside run_kodak.py: other data, searches, speed and costs."""

import ast
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import environment
from PIL import Image
from test_benchmarks import SCRIPT

import pipelines
from nets import weights
from pipelines import baselines
from taichi2dgs import runtime
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.fit import FitOptions
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.kernels import step
from taichi2dgs.storage import files


@pytest.fixture(scope="module")
def kodak(benchmarks):
    return benchmarks("common.kodak")


def test_kodak_is_fetched_once_and_checked(tmp_path, kodak, photograph):
    originals = Path(__file__).resolve().parents[2] / "shared/data/kodak"
    if not originals.exists():
        pytest.skip(f"no photographs in {originals}")
    folder = kodak.fetch(2, tmp_path / "cache", originals.as_uri())
    assert sorted(path.name for path in folder.iterdir()) == ["kodim01.png", "kodim02.png"]
    assert kodak.fetch(2, tmp_path / "cache", "file:///nowhere") == folder


def test_a_picture_that_cannot_be_had_is_named(tmp_path, kodak, photograph):
    with pytest.raises(ValueError, match=r"has no kodim01.png, and file:.* expected --data FOLDER"):
        kodak.fetch(1, tmp_path / "cache", (tmp_path / "nothing").as_uri())
    files.write_image(tmp_path / "kodim01.png", photograph)
    with pytest.raises(ValueError, match=r"kodim01.png: its pixels hash to .* expected a002"):
        kodak.fetch(1, tmp_path / "cache", tmp_path.as_uri())
    (tmp_path / "kodim01.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"kodim01.png: not a picture"):
        kodak.fetch(1, tmp_path / "cache", tmp_path.as_uri())
    assert not list((tmp_path / "cache").iterdir())


def test_run_datasets_has_a_line_for_each_folder(tmp_path, photograph):
    for name, width in (("wide", 120), ("narrow", 60)):
        (tmp_path / name).mkdir()
        files.write_image(tmp_path / name / "a.png", photograph[:50, :width])
    command = [sys.executable, SCRIPT.with_name("run_datasets.py"), "--data", tmp_path / "wide",
               tmp_path / "narrow", "--k", 60, "--methods", "ours-random", "--steps", 3,
               "--out", tmp_path / "table"]  # fmt: skip
    for more, sizes in ((["--side", 40], [[40, 40]] * 2), (["--native"], [[50, 120], [50, 60]])):
        done = subprocess.run(
            list(map(str, command + more)), capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stderr
        rows = json.loads((tmp_path / "table.json").read_text())["rows"]
        assert [row["size"] for row in rows] == sizes
        assert "others publish" not in done.stdout
        assert "| 1 of wide | 60 | " in done.stdout and "| 1 of narrow | 60 | " in done.stdout


def test_figures_of_others_are_beside_whole_frames_with_as_many_gaussians(benchmarks):
    beside = benchmarks("common.published").beside
    row = {"dataset": "kodak", "method": "ours", "sampler": "default", "k": 10_000}
    rows = [
        row | {"psnr_at": {"0": 28.0}, "psnr_within": {"10": 35.0, "60": 36.5}},
        row | {"psnr_at": {"0": 29.0}, "psnr_within": {"10": 37.0, "60": 37.5}},
    ]
    found = beside(rows, has_starts=True)
    assert "| no fit | 10 s | 60 s |\n" in found
    assert "| GaussianImage | 10,000 | 32.50 | 50,000 iterations | a GPU | 2 | " in found
    assert "| 340 s | a GPU | 2 | 28.50 | 36.00 | 37.00 |" in found.replace("iterations, ", "| ")
    assert "70,000" not in found
    assert "| a GPU | 2 | - | 36.00 | 37.00 |" in beside(rows, has_starts=False)
    for other in ({"dataset": "art"}, {"method": "x"}, {"sampler": "distinct"}, {"k": 9}):
        assert beside([rows[0] | other], has_starts=True) == ""


def test_run_datasets_has_figures_of_others_beside_whole_frames(tmp_path, photograph):
    (tmp_path / "kodak").mkdir()
    files.write_image(tmp_path / "kodak/a.png", photograph[:80, :100])
    command = [sys.executable, SCRIPT.with_name("run_datasets.py"), "--data", tmp_path / "kodak",
               "--native", "--k", 5000, "--steps", 0, "--out", tmp_path / "table"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    line = "| GaussianImage++ | 5,000 | 31.83 | 50,000 iterations | a GPU | 1 | "
    assert line in done.stdout and line in (tmp_path / "table.md").read_text()


def test_run_datasets_needs_folders_of_different_names(tmp_path):
    (tmp_path / "a").mkdir()
    done = subprocess.run(
        [sys.executable, SCRIPT.with_name("run_datasets.py"), "--data", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 2 and "expected different names" in done.stderr


def test_run_prior_compares_weights_and_goes_on(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:48, :70])
    for crop, k, count in ((40, 20_000, 122), (0, 90, 90)):
        command = [sys.executable, SCRIPT.with_name("run_prior.py"), "--data", tmp_path, "--k", k,
                   "--weights", "shipped", weights.SHIPPED, "--steps", 3, "--crop", crop,
                   "--out", tmp_path / "table"]  # fmt: skip
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stderr
        first, second = json.loads((tmp_path / "table.json").read_text())["rows"]
        assert first["psnr"] == second["psnr"] and first["gaussians"] == count
        psnr = list(first["psnr"].values())
        assert list(first["psnr"]) == [
            "start",
            "colours, 1",
            "colours, 2",
            "colours, 3",
            "colours, 4",
            "3",
        ]
        assert psnr[:4] == sorted(psnr[:4]) and psnr[0] < psnr[4]
        assert 0.8 < first["entropy"] < 1
        assert f", 1 | {k:,} | weights | " in done.stdout


def test_learning_curves_are_drawn_from_logs(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    (tmp_path / "run").mkdir()
    log = tmp_path / "run/log.csv"
    command = [sys.executable, SCRIPT.with_name("figures.py"), "--figures", "learning", "--table",
               log, "--out", tmp_path]  # fmt: skip
    log.write_text("epoch,loss,valid_loss,valid_psnr\n0,nan,1.0,20\n1,0.9,0.8,22.5\n")
    for content, expected in (("", 0), ("epoch,loss\n0,nan\n", 2)):
        if content:
            log.write_text(content)
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=environment()
        )
        assert done.returncode == expected, done.stderr
    assert "expected the log.csv of a training" in done.stderr
    assert files.read_image(tmp_path / "learning.webp").shape[1] > 400


def test_tune_writes_a_method_that_does_better(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:40, :40])
    command = [
        sys.executable,
        SCRIPT.with_name("tune.py"),
        "--data",
        tmp_path,
        "--steps",
        10,
        "--methods",
        "gaussianimage-rs",
        "--out",
        tmp_path,
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    found = baselines.load(str(tmp_path / "gaussianimage-rs-tuned.yaml"))
    published = baselines.load("gaussianimage-rs")
    assert found.about.endswith("best settings that tune.py found")
    assert (found.start, found.clamp, found.optimizer) == ("gaussianimage-rs", True, "adan")
    psnrs = [
        baselines.run(photograph[:40, :40], 305, method, steps=10).history[-1].psnr
        for method in (published, found)
    ]
    assert psnrs[1] > psnrs[0] + 0.05


def test_calibrate_count_prints_the_constants(tmp_path, photograph):
    for name, part in (("a", photograph[:48, :48]), ("b", photograph[48:, 80:])):
        files.write_image(tmp_path / f"{name}.png", part)
    command = [
        sys.executable,
        SCRIPT.with_name("calibrate_count.py"),
        "--data",
        tmp_path,
        "--steps",
        3,
    ]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert "| a | " in done.stdout and "DENSITY, POWER, SLOPE = " in done.stdout


def test_run_speed_measures_every_size(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph)
    command = [sys.executable, SCRIPT.with_name("run_speed.py"), "--image", tmp_path / "a.png",
               "--sizes", 256, "40x56", "--k", 2000, "--steps", 3, "--repeats", 2,
               "--out", tmp_path / "out/speed"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    assert "no time per stage" not in done.stderr
    page = (tmp_path / "out/speed.md").read_text()
    assert page.strip() == done.stdout.strip() and "40x56" in page
    result = json.loads((tmp_path / "out/speed.json").read_text())
    small, large = result["rows"]
    assert (small["size"], large["size"]) == ([40, 56], [256, 256])
    assert (small["gaussians"], large["gaussians"]) == (17, 500)
    least = 4 * (3 * 8 * 500 + 3 * 256 * 256)  # bytes of parameters, two moments and the target
    assert small["state_bytes"] < least < large["state_bytes"] < 100 * least
    for row in result["rows"]:
        assert all(len(row[f"{name}_ms"]) == 2 for name in ("step", "render", "numpy"))
        assert all(time > 0 for name in ("step", "render", "numpy") for time in row[f"{name}_ms"])
    if result["backend"] in ("cpu", "cuda"):
        times = large["stages_ms"]
        assert 6 <= large["launches"] <= 20 and {"project", "scan", "fill"} <= set(times)
        assert min(times.values()) > 0  # which is the longest depends on what else runs
    assert abs(result["torch"]["psnr"] - large["psnr"]) < 0.02  # both round to 0.01
    assert len(result["torch"]["step_ms"]) == 2


def test_the_yardstick_makes_the_steps_of_the_engine(benchmarks, photograph):
    image = photograph[:50, :70].contiguous()
    start, options = pipelines.initialize(image, 300), FitOptions(growing_memory=False, respawn=0)
    options = replace(options, settings=start.settings)
    engine = Engine([Picture(image, start.packed())], options)
    alone = benchmarks("common.torch_step").TorchFit(image, start.packed(), options)
    for number in range(1, 6):
        psnr = alone.step(1.0)
        engine.step(number, 1.0)
        (fused,) = engine.psnrs()
        assert psnr == pytest.approx(fused, abs=1e-3)  # 3e-7 was seen with random Gaussians
        # Adam makes a whole step of a gradient that is as good as 0, whatever its sign.
        same = (alone.params - engine.params).abs() < 1e-4  # 7e-6 was seen with random Gaussians
        assert same.float().mean() > 0.99
    assert engine.poll() and engine.done == 5


def test_stages_are_told_apart_by_the_order_of_loops(benchmarks):
    stages = benchmarks("common.stages")
    loops = stages.GPU if runtime.is_gpu() else stages.CORES
    records = [("k_serial", 1.0)] + [("k_range_for", 10.0) for _ in loops] + [("k_serial", 1.0)]
    times = stages.stages_of(records)
    assert times["project"] == 11 and times["fill"] == 10
    assert times["gather and Adam"] == 1 + 10 * loops.count("gather and Adam")
    with pytest.raises(ValueError, match=r"loops: .*k_serial.*; expected"):
        stages.stages_of(records[:-2])


def test_the_step_of_gpus_has_the_stages_that_are_named(benchmarks):
    source = ast.parse(Path(step.__file__).read_text())
    kernels = [node for node in ast.walk(source) if getattr(node, "name", None) == "step"]
    loops = [node for node in kernels[0].body if isinstance(node, ast.For)]
    assert len(loops) == len(benchmarks("common.stages").GPU)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so")
def test_peak_memory_counts_without_what_earlier_work_has_freed(benchmarks):
    costs = benchmarks("common.costs")
    pieces = [torch.ones(2**13) for _ in range(2**13)]  # 256 MiB
    high, few = costs.peak_mib(), pieces[::256]
    del pieces
    costs.reset_peak()
    assert len(few) == 32 and costs.peak_mib() < high - 200


def test_run_zoom_compares_shares_and_draws_them(tmp_path, photograph):
    (tmp_path / "pictures").mkdir()
    files.write_image(tmp_path / "pictures/a.png", photograph[:40, :40])
    command = [sys.executable, SCRIPT.with_name("run_zoom.py"), "--data", tmp_path / "pictures",
               "--side", 40, "--k", 60, "--steps", 4, "--shares", 0, 0.5,
               "--out", tmp_path / "out/zoom.md"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/zoom.md").read_text()
    assert "| 0 | " in page and "| 0.5 | " in page and "Lanczos' filter has" in page
    for name in ("zoom.webp", "zoom_4x.webp"):
        assert Image.open(tmp_path / "out" / name).size[0] > 100


def test_run_tiles_compares_edges_and_draws_seams(tmp_path, photograph):
    (tmp_path / "pictures").mkdir()
    files.write_image(tmp_path / "pictures/a.png", photograph[:70, :70])
    command = [sys.executable, SCRIPT.with_name("run_tiles.py"), "--data", tmp_path / "pictures",
               "--side", 70, "--k", 60, "--steps", 4,
               "--out", tmp_path / "out/tiles.md"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/tiles.md").read_text()
    assert "| with `--tile` | " in page and "| without | " in page
    assert Image.open(tmp_path / "out/tiles.webp").size == (768, 256)


def test_run_batch_compares_a_loop_with_one_fit(tmp_path, photograph):
    (tmp_path / "pictures").mkdir()
    files.write_image(tmp_path / "pictures/a.png", photograph[:40, :40])
    command = [sys.executable, SCRIPT.with_name("run_batch.py"), "--data", tmp_path / "pictures",
               "--cases", "3,16,20", "--steps", 4, "--repeats", 1,
               "--out", tmp_path / "out/batch.md"]  # fmt: skip
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/batch.md").read_text()
    assert "| 3 | 16x16 | 20 | " in page and page.rstrip().endswith("| yes |")


def test_run_options_measures_each_row_once(tmp_path, photograph):
    (tmp_path / "pictures").mkdir()
    for name in "abc":
        files.write_image(tmp_path / f"pictures/{name}.png", photograph[:40, :48])
    command = [sys.executable, SCRIPT.with_name("run_options.py"), "--data", tmp_path / "pictures",
               "--every", 2, "--k", 30, "--start", "gradient", "--options", "textbook", "default",
               "--out", tmp_path / "out/options", "--steps"]  # fmt: skip
    before: list[dict] = []
    for steps in ([4], [4, 8]):
        done = subprocess.run(
            list(map(str, [*command, *steps])), capture_output=True, text=True, env=environment()
        )
        assert done.returncode == 0, done.stderr
        rows = json.loads((tmp_path / "out/options.json").read_text())["rows"]
        assert [row["image"] for row in rows] == ["a"] * 2 * len(steps) + ["c"] * 2 * len(steps)
        assert all(row in rows for row in before)  # seconds, too
        before = rows
    page = (tmp_path / "out/options.md").read_text()
    assert "| 2 | 30 | gradient | 4 steps | " in page and "| 2 | 30 | gradient | 8 steps | " in page
    of_steps = Image.open(tmp_path / "out/options.webp").size[0]
    more = [*command, 4, "--seconds", 0.1]
    done = subprocess.run(list(map(str, more)), capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out/options.md").read_text()
    assert "| 4 steps | " in page and "| 0.1 s | " in page and "| 8 steps | " not in page
    assert Image.open(tmp_path / "out/options.webp").size[0] > 1.8 * of_steps  # a panel for each
