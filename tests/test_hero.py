"""The picture at the top of the README."""

from pathlib import Path

import numpy as np
import pytest

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


def test_it_is_a_row_of_three_pictures(hero, photograph):
    figure = hero.draw_hero(photograph[:40, :40].contiguous(), 60, 2)
    assert [axis.get_title()[:6] for axis in figure.axes] == ["photog", "60 Gau", "render"]
    height, width = pixels_of(figure).shape[:2]
    assert 2.5 < width / height < 3
