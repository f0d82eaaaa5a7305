"""The page shows the first of several maps, and light as sRGB, as Python does."""

import dataclasses

import numpy as np
import pytest
import torch
from test_viewer import MEAN, browser, drawn, expected, photo_like, show, tab, until  # noqa: F401

from taichi2dgs import Map
from taichi2dgs.storage import maps, t2d
from taichi2dgs.viewing import page

MOST = 3  # of 255: where it is dark, sRGB's curve is steep; 1 was seen


@pytest.mark.parametrize(
    "kinds, note",
    [
        ([Map("", 3, "linear")], ""),
        ([Map("", 4, "linear")], ""),
        ([Map("", 3, "pq", 32, 0, 30)], "Light beyond the white of sRGB is cut."),
        ([Map("color", 3), Map("height", 1, "data")], "Of the maps color, height the first"),
        ([Map("light", 1, "linear"), Map("n", 3, "data")], "Of the maps light, n the first"),
        ([Map("packed", 4, "data")], "Its last channel is not shown."),
    ],
    ids=lambda value: value[0].kind if isinstance(value, list) else "",
)
def test_the_first_map_is_drawn_as_python_shows_it(tab, tmp_path, kinds, note):  # noqa: F811
    g = photo_like(sum(one.channels for one in kinds))
    g = dataclasses.replace(g, color=g.color.clamp(0, 1), maps=tuple(kinds))
    data = t2d.encode(g, "lossless")
    show(tab, {"g.t2d": data}, tmp_path)
    seen = maps.displayed(g.render().clamp(0, 1), g.maps)
    difference = np.abs(drawn(tab, 1, (0, 0, *g.size)) - expected(seen))
    assert difference.max() <= MOST and difference.mean() <= 2 * MEAN
    assert note in tab.inner_text("#notes")
    assert "Maps" in tab.inner_text("#numbers")


def test_the_psnr_is_that_of_the_map_that_is_shown(tab, tmp_path):  # noqa: F811
    g = photo_like(4)
    g = dataclasses.replace(g, maps=(Map("color", 3), Map("height", 1, "data")))
    seen = g.render()[..., :3].clamp(0, 1)
    original = page.picture(torch.as_tensor(seen), "a")
    show(tab, {"g.t2d": t2d.encode(g, "lossless"), "a.png": original}, tmp_path)
    until(tab, "/dB/.test(document.querySelector('#numbers').innerText)")
    text = tab.inner_text("#numbers")
    assert "Infinity dB" in text or float(text.split("PSNR")[1].split()[0]) > 55
