"""Both stages of training, through the command line: they learn, resume exactly, and scale out."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import environment

from nets import weights
from taichi2dgs.storage import files

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "smoke.yaml"
COMMAND = [sys.executable, "-m", "pipelines.cli", "train"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder laid out as DIV2K is, with twelve small parts of photographs to train on."""
    pictures = pytest.importorskip("skimage.data", reason="needs the extra 'demo' for photographs")
    folder = tmp_path_factory.mktemp("data")
    sources = [pictures.astronaut(), pictures.coffee(), pictures.chelsea()]
    for name, count, shift in (("DIV2K_train_HR", 12, 0), ("DIV2K_valid_HR", 3, 45)):
        (folder / name).mkdir()
        for index in range(count):
            source = sources[index % 3]
            row = 25 * index % (source.shape[0] - 100)
            part = torch.from_numpy(source[row : row + 96, 150 + shift : 260 + shift] / 255)
            files.write_image(folder / name / f"{index:04d}.png", part)
    return folder


def train(
    stage: str, data: Path, out: Path, *more: object, run=None
) -> subprocess.CompletedProcess:
    command = [*(run or COMMAND), stage, "--data", data, "--config", CONFIG, "--out", out, *more]
    return subprocess.run(
        list(map(str, command)), env=environment(), capture_output=True, text=True
    )


def log(out: Path) -> list[dict[str, str]]:
    with open(out / "log.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def state(out: Path) -> dict:
    return torch.load(out / "checkpoint.pt", weights_only=True)["net"]


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory) -> Path:
    """The folder of one finished run of each stage."""
    folder = tmp_path_factory.mktemp("runs")
    for stage, more in (("position", ()), ("attributes", ("--position", folder / "position"))):
        done = train(stage, data, folder / stage, *more)
        assert done.returncode == 0, done.stderr
        assert re.search(rf"{stage}-[0-9a-f]{{8}}\.pt: 0\.\d MB, card in", done.stdout)
    return folder


def test_training_lowers_the_validation_loss(runs):
    for stage, rounds in (("position", ("0", "1")), ("attributes", (None,))):
        for number in rounds:  # each round has targets of its own
            losses = [float(r["valid_loss"]) for r in log(runs / stage) if r.get("round") == number]
            assert losses[-1] < losses[0], (stage, number)


def test_a_run_leaves_panels_log_and_usable_weights(runs):
    assert list(log(runs / "position")[0]) == ["round", "epoch", "loss", "valid_loss", "change"]
    assert len(list((runs / "position").glob("panel-*.png"))) == len(log(runs / "position"))
    assert len(list((runs / "attributes").glob("panel-*.png"))) == len(log(runs / "attributes"))
    panel = files.read_image(next((runs / "attributes").glob("panel-*.png")))
    assert panel.shape == (2 * 64, 4 * 64, 3)
    for name in weights.NETS:  # Stage II's folder serves as --weights
        weights.load(name, runs / "attributes")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.skipif(os.environ["TAICHI2DGS_BACKEND"] != "cpu", reason="exact on CPU only")
@pytest.mark.parametrize("stage", ["position", "attributes"])
def test_a_killed_run_resumes_exactly(stage, data, runs, tmp_path):
    more = ["--position", runs / "position"] if stage == "attributes" else []
    command = [*COMMAND, stage, "--data", data, "--config", CONFIG, "--out", tmp_path, *more]
    process = subprocess.Popen(
        list(map(str, command)),
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    rows = 6 if stage == "position" else 2
    deadline = time.monotonic() + 120
    while not ((tmp_path / "log.csv").exists() and len(log(tmp_path)) >= rows):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(log(tmp_path)) < len(log(runs / stage))
    done = train(stage, data, tmp_path, *more)
    assert done.returncode == 0, done.stderr
    assert log(tmp_path) == log(runs / stage)
    expected, found = state(runs / stage), state(tmp_path)
    assert all(torch.equal(expected[key], found[key]) for key in expected)


BOTH = """
import sys, torch
from pipelines import cli
from pipelines.training.stage import Stage

def run(stage, whole=Stage.run):
    made = whole(stage)
    torch.save(stage.net.state_dict(), stage.folder.path / f"rank{stage.processes.rank}.pt")
    return made

Stage.run = run
sys.exit(cli.main(["train", *sys.argv[1:]]))
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
@pytest.mark.skipif(os.environ["TAICHI2DGS_BACKEND"] != "cpu", reason="tested on CPU")
def test_two_processes_train_one_network(data, runs, tmp_path):
    config, script = tmp_path / "smoke.yaml", tmp_path / "both.py"
    script.write_text(BOTH)
    config.write_text(CONFIG.read_text().replace("valid_images: 2", "valid_images: 1"))
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        script,
    ]
    for stage, more in (("position", ()), ("attributes", ("--position", runs / "position"))):
        out = tmp_path / stage
        done = train(stage, data, out, *more, "--config", config, "-q", run=torchrun)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.strip().splitlines()) == 1  # only the first process prints
        first, second = (torch.load(out / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
        for name in first:  # each process has learnt from its half of the crops
            assert torch.equal(first[name], second[name]), (stage, name)
    rows = log(tmp_path / "position")
    # Epochs of one round: another round has other targets.
    assert float(rows[2]["valid_loss"]) < float(rows[0]["valid_loss"])
    assert rows[0]["valid_loss"] == log(runs / "position")[0]["valid_loss"]  # of both halves
    assert float(log(tmp_path / "attributes")[0]["valid_loss"]) == pytest.approx(1, abs=0.1)


def test_another_configuration_does_not_resume(data, runs, tmp_path):
    config = tmp_path / "other.yaml"
    config.write_text(CONFIG.read_text().replace("steps: 5", "steps: 6"))
    done = train("position", data, runs / "position", "--config", config)
    assert done.returncode == 2
    assert "checkpoint.pt: made with another steps; expected steps=5" in done.stderr


def test_a_checkpoint_that_does_not_know_a_setting_has_its_default(data, runs, tmp_path):
    state = torch.load(runs / "position/checkpoint.pt", weights_only=True)
    del state["config"]["respawn"]
    torch.save(state, tmp_path / "checkpoint.pt")
    done = train("position", data, tmp_path)
    assert done.returncode == 0 and "position-" in done.stdout, done.stderr


def test_a_damaged_checkpoint_is_named(data, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    done = train("position", data, tmp_path)
    assert done.returncode == 2 and "not a readable checkpoint; delete it" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("crops: 16", "crop_count: 16"), "unknown: crop_count in position"),
        (
            ("crops: 16", "crops: sixteen"),
            "position.crops='sixteen'; expected a whole number of 1 or",
        ),
        (("position:", "positions:"), "no section 'position' with settings"),
    ],
)
def test_bad_configurations_are_named(data, tmp_path, change, message):
    config = tmp_path / "bad.yaml"
    config.write_text(CONFIG.read_text().replace(*change))
    done = train("position", data, tmp_path / "run", "--config", config)
    assert done.returncode == 2 and message in done.stderr and "bad.yaml" in done.stderr
