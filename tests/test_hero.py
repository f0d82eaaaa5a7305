"""The picture at the top of the README."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from taichi2dgs import Gaussians

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def hero(monkeypatch):
    pytest.importorskip("matplotlib", reason="needs the extra 'bench'")
    monkeypatch.syspath_prepend(BENCHMARKS)
    from common import hero

    return hero


def pixels_of(figure) -> np.ndarray:
    """Draw a figure. [H, W, 3]"""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def test_ellipses_lie_where_gaussians_do(hero):
    from matplotlib.figure import Figure

    theta = 0.5
    gaussians = Gaussians(
        xy=torch.tensor([[20.0, 24.0]]),
        log_scale=torch.tensor([[10.0, 2.0]]).log(),
        theta=torch.tensor([theta]),
        color=torch.tensor([[1.0, 0.0, 0.0]]),
        size=(40, 50),
    )
    figure = Figure(figsize=(5, 4), dpi=100)
    hero.draw_ellipses(figure.add_axes((0, 0, 1, 1)), gaussians)
    pixels = pixels_of(figure)

    def at(x: float, y: float) -> list[int]:
        return pixels[round(10 * y), round(10 * x)].tolist()

    along, down = 8 * math.cos(theta), 8 * math.sin(theta)
    assert at(20, 24) == at(20 + along, 24 + down) == at(20 - along, 24 - down) == [255, 0, 0]
    assert at(20 + along, 24 - down) == at(20 - along, 24 + down) == [255, 255, 255]


def test_it_is_a_row_of_three_pictures(hero, photograph):
    figure = hero.draw_hero(photograph[:40, :40].contiguous(), 60, 2)
    assert [axis.get_title()[:6] for axis in figure.axes] == ["photog", "60 Gau", "render"]
    height, width = pixels_of(figure).shape[:2]
    assert 2.5 < width / height < 3
