"""run_kodak.py: what it writes, reuses and refuses."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import environment

import pipelines
from taichi2dgs.storage import files, t2d

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "run_kodak.py"


def run_kodak(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )


def test_run_kodak_writes_json_and_markdown(tmp_path, photograph):
    for number in (1, 2):
        files.write_image(
            tmp_path / f"kodim{number:02d}.png", photograph[:40, 8 * number :][:, :44]
        )
    options = (
        "--data",
        tmp_path,
        "--k",
        90,
        60,
        "--methods",
        "ours-gradient",
        "image-gs-gradient",
        "--steps",
        30,
        "--crop",
        32,
        "--out",
        tmp_path / "out/table",
    )
    done = run_kodak(*options)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "out/table.json"
    result = json.loads(path.read_text())
    assert [row["image"] for row in result["rows"]] == ["kodim01", "kodim02"] * 4
    for row in result["rows"]:
        assert list(row["psnr_at"]) == ["0", "25"] and row["steps"] == 30
        assert row["psnr_at"]["0"] < row["psnr_at"]["25"] <= row["psnr"] + 0.2
        assert 50 < row["peak_mib"] < 5000
        # Reports of a fused fit are too rare to tell its PSNR after so many seconds.
        assert not row["psnr_within"] or row["method"] == "image-gs-gradient"
    table = (tmp_path / "out/table.md").read_text()
    assert table.strip() == done.stdout.strip() and "| kodim02 | " in table
    assert (
        "| 60 (30) | image-gs-gradient | " in table and str(tmp_path) not in table.split("--out")[0]
    )

    path.write_text(json.dumps({**result, "rows": result["rows"][:-1]}))  # a killed run
    again = run_kodak(*options)
    assert again.returncode == 0, again.stderr
    rows = json.loads(path.read_text())["rows"]
    assert rows[:-1] == result["rows"][:-1] and rows[-1]["psnr"] == result["rows"][-1]["psnr"]


def test_run_kodak_measures_starts_alone_and_seconds(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:40, :40])
    done = run_kodak(
        "--data", tmp_path, "--k", 50, "--methods", "ours-random", "--sampler", "distinct",
        "systematic", "--steps", 0, "--out", tmp_path / "table",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "| 50 | ours-random, systematic | " in done.stdout
    done = run_kodak("--data", tmp_path, "--k", 50, "--seconds", 1, "--out", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert "| 1 s | " in done.stdout and "| 50 | ours | " in done.stdout


def rows_of_both_kinds(folder: Path, image: torch.Tensor, *budgets: object) -> list[dict]:
    """Rows of a method whose rates go by the budget, and of one whose rates do not."""
    files.write_image(folder / "a.png", image)
    done = run_kodak(
        "--data", folder, "--k", 50, "--methods", "ours-random", "gaussianimage-rs", *budgets,
        "--out", folder / "both",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "both.json").read_text())["rows"]


def test_run_kodak_measures_steps_and_seconds_in_one_run(tmp_path, photograph):
    budgets = ("--steps", 3, "--seconds", 1, 0.2)
    for row in rows_of_both_kinds(tmp_path, photograph[:40, :40], *budgets):
        assert row["steps"] == 3 and list(row["psnr_within"]) == ["0.2", "1"]
        assert row["psnr_within"]["1"] > row["psnr"]  # a second has room for more than 3 steps


def test_the_end_of_starts_and_seconds_is_that_of_the_longest_fit(tmp_path, photograph):
    budgets = ("--steps", 0, "--seconds", 0.2, 0.5)
    for row in rows_of_both_kinds(tmp_path, photograph[:40, :40], *budgets):
        assert list(row["psnr_at"]) == ["0"] and row["steps"] > 0
        assert row["psnr"] == pytest.approx(row["psnr_within"]["0.5"], abs=0.1)
        assert row["psnr"] > row["psnr_at"]["0"]


def test_run_kodak_names_an_empty_folder(tmp_path):
    done = run_kodak("--data", tmp_path)
    assert done.returncode == 2 and str(tmp_path) in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--images", 0), "--images 0: expected 1 or more"),
        (("--methods", "ours-gradient", "nobody"), "nobody: no such file or configuration"),
        (("--methods", "gaussianimage-rs", "--sampler", "systematic"), "--sampler systematic"),
    ],
)
def test_run_kodak_finds_bad_input_before_it_fits(tmp_path, photograph, options, message):
    files.write_image(tmp_path / "a.png", photograph[:40, :40])
    done = run_kodak("--data", tmp_path, *options, "--out", tmp_path / "table")
    assert done.returncode == 2 and message in done.stderr, done.stderr
    assert not (tmp_path / "table.json").exists()


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_commit_is_told_with_what_differs_from_it(tmp_path, benchmarks):
    identity = benchmarks("common.identity")
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    for path in (tmp_path / "engine.py", results / "kodak.json"):
        path.write_text("1\n")
    assert identity.commit(tmp_path).startswith("version ")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    clean = identity.commit(tmp_path)
    assert "dirty" not in clean
    (results / "kodak.json").write_text("2\n")  # as a killed script leaves it
    assert identity.commit(tmp_path) == clean
    (tmp_path / "engine.py").write_text("2\n")
    first = identity.commit(tmp_path)
    (tmp_path / "engine.py").write_text("3\n")
    second = identity.commit(tmp_path)
    assert len({clean, first, second}) == 3 and first.startswith(f"{clean}-dirty-")


def test_an_installed_copy_that_differs_is_refused(tmp_path, benchmarks, monkeypatch):
    identity = benchmarks("common.identity")
    for name in ("nets", "pipelines", "taichi2dgs"):
        shutil.copytree(identity.ROOT / name, tmp_path / name)
        package = sys.modules[name]
        monkeypatch.setattr(package, "__file__", str(tmp_path / name / "__init__.py"))
    shutil.copytree(identity.ROOT / "configs", tmp_path / "pipelines/configs")
    assert identity.measured_package() == "installed, the same as the checkout's"
    assert identity.measured_package(tmp_path) == "of the checkout"
    for file in ("taichi2dgs/fit.py", "pipelines/configs/position.yaml", "nets/more.py"):
        path = tmp_path / file
        before = path.read_bytes() if path.exists() else None
        path.write_text("changed\n")
        with pytest.raises(ValueError, match=rf"{path.name} differs from .*; expected this"):
            identity.measured_package()
        path.unlink() if before is None else path.write_bytes(before)
    assert identity.measured_package().startswith("installed")


def test_a_script_refuses_a_copy_that_differs(benchmarks, monkeypatch, capsys):
    measure = benchmarks("common.measure")

    def other() -> str:
        raise ValueError("fit.py differs")

    monkeypatch.setattr(measure, "measured_package", other)
    assert measure.script(lambda: pytest.fail("it measures"))() == 2
    assert "error: fit.py differs" in capsys.readouterr().err


def test_rows_of_a_method_of_ones_own_are_of_its_content(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:24, :24])
    method = tmp_path / "mine.yaml"
    for start, reused in (("random", False), ("random", True), ("gradient", False)):
        method.write_text(f"start: {start}\nfused: true\nabout: mine\n")
        before = (tmp_path / "t.json").read_text() if (tmp_path / "t.json").exists() else ""
        done = run_kodak(
            "--data",
            tmp_path,
            "--k",
            30,
            "--methods",
            method,
            "--steps",
            1,
            "--out",
            tmp_path / "t",
        )
        assert done.returncode == 0, done.stderr
        assert ((tmp_path / "t.json").read_text() == before) == reused


def test_the_busiest_square_holds_the_detail(benchmarks):
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    image = torch.full((80, 120, 3), 0.5)
    image[42:56, 83:97] = torch.rand(14, 14, 3, generator=torch.Generator().manual_seed(0))
    top, left, height, width = benchmarks("common.regions").busiest(image)
    assert (height, width) == (20, 20) and 36 < top < 44 and 77 < left < 85


def test_likeness_and_files_are_measured(benchmarks, photograph):
    quality = benchmarks("common.quality")
    noise = torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    worse = (photograph + 0.05 * noise).clamp(0, 1)
    small = torch.nn.functional.interpolate(worse.permute(2, 0, 1)[None], scale_factor=2)[0]
    equal, other = (quality.similarities(one, photograph) for one in (photograph, worse))
    assert equal == {"ssim": 1.0, "ms_ssim": None, "flip": 0.0}
    assert other["ssim"] < 0.99 and other["flip"] > 0.01
    large = photograph.repeat(2, 2, 1)
    assert quality.similarities(small.permute(1, 2, 0), large)["ms_ssim"] is not None
    made = pipelines.initialize(photograph, 200, "gradient")
    found, pixels = quality.of_files(made), photograph[..., 0].numel()
    assert found["bpp_float32"] == round(200 * 8 * 32 / pixels, 3)
    assert found["bpp_high"] == round(8 * len(t2d.encode(made, "high")) / pixels, 3)
    assert 0 < found["decode_seconds"] < 5
    made.color[3] = float("nan")
    assert quality.of_files(made)["bpp_high"] is None
    assert quality.similarities(photograph[..., :1], photograph[..., :1])["flip"] is None
