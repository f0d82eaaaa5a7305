"""The examples run as they stand, and make what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import environment

import taichi2dgs
from taichi2dgs import metrics

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(autouse=True)
def on_cpu(backend):
    """Their pictures are too large for a software GPU, and other tests cover what they use."""
    if backend != "cpu":
        pytest.skip("examples are run on CPU")


def run(name: str, *arguments: object, folder: Path | None = None) -> str:
    pytest.importorskip("skimage", reason="needs the sample photograph")
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        cwd=folder or arguments[0],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_object_is_moved(tmp_path):
    assert "Gaussians are the badge" in run("move_object.py", tmp_path, 10_000, 20)
    before, moved = (taichi2dgs.read_image(tmp_path / f"{n}.png") for n in ("before", "moved"))
    # The badge is blue on orange: blue leaves the one place, and comes to the other.
    old, new = (slice(354, 414), slice(141, 201)), (slice(285, 315), slice(303, 333))
    assert float((before[old][..., 2] - moved[old][..., 2]).mean()) > 0.15
    assert float((before[old][..., 0] - moved[old][..., 0]).mean()) < -0.1
    reduced = before[old].reshape(30, 2, 30, 2, 3).mean((1, 3)).mean((0, 1))
    assert torch.allclose(moved[new].mean((0, 1)), reduced, atol=0.12)
    # Elsewhere only large Gaussians that reached there change something: 53.7 dB was seen.
    assert metrics.psnr(moved[:240], before[:240]) > 45
    assert len(taichi2dgs.load(tmp_path / "moved.t2d")) > 9000


def test_digits_are_told_apart_from_pixels_and_from_gaussians(tmp_path):
    pytest.importorskip("sklearn", reason="needs scikit-learn's digits")
    said = run("digits.py", 8, 6, folder=tmp_path)
    right = dict(re.findall(r"^(\w+): ([\d.]+)% right", said, flags=re.M))
    assert float(right["pixels"]) > 85 and float(right["Gaussians"]) > 50, said  # by chance 10


def test_the_tour(tmp_path):
    assert "5000 Gaussians of (256, 256)" in run("tour.py", tmp_path)
    shapes = {
        "tour-large.png": (400, 400, 3), "tour-thumbnail.png": (48, 48, 3),
        "tour-jagged.png": (48, 48, 3), "tour-pair.jpg": (256, 512, 3),
    }  # fmt: skip
    for name, shape in shapes.items():
        assert taichi2dgs.read_image(tmp_path / name).shape == shape
    pair = taichi2dgs.read_image(tmp_path / "tour-pair.jpg")
    original = taichi2dgs.read_image("sample:astronaut")[:256, 128:384]
    assert metrics.psnr(pair[:, :240], original[:, :240]) > 28
    sepia = torch.tensor([[0.39, 0.77, 0.19], [0.35, 0.69, 0.17], [0.27, 0.53, 0.13]])
    mirrored = (original.flip(1) @ sepia.T).clamp(0, 1)
    assert metrics.psnr(pair[:, 272:], mirrored[:, 16:]) > 28
