"""The data type: validation, conversion."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from conftest import scatter

from taichi2dgs import Gaussians, RenderSettings, metrics
from taichi2dgs.checks import whole


def test_length_channels_and_conversion():
    g = scatter(5, (8, 9), channels=4)
    assert len(g) == 5 and g.channels == 4 and g.size == (8, 9)
    double = g.to(dtype=torch.float64)
    assert double.theta.dtype == torch.float64 and double.to("cpu").xy.device.type == "cpu"
    again = Gaussians.from_packed(g.packed(), g.size)
    assert all(torch.equal(getattr(g, n), getattr(again, n)) for n in ("xy", "theta", "color"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xy": torch.zeros(5, 3)}, r"xy has shape \[5, 3\]; expected \[5, 2\]"),
        ({"log_scale": torch.zeros(4, 2)}, r"log_scale has shape \[4, 2\]; expected \[5, 2\]"),
        ({"theta": torch.zeros(5, 1)}, r"theta has shape \[5, 1\]; expected \[5\]"),
        ({"color": torch.zeros(5)}, "color has shape"),
        ({"color": torch.zeros(5, 0)}, "color has 0 channels"),
        ({"color": torch.zeros(5, 17)}, "color has 17 channels; expected 1 to 16"),
        ({"theta": torch.zeros(5, dtype=torch.float64)}, "theta is torch.float64"),
        ({"xy": torch.zeros(5, 2, dtype=torch.int64)}, "xy is torch.int64; expected float32"),
        ({"xy": [[0.0, 0.0]]}, "xy is a list; expected a dense torch tensor"),
        ({"theta": torch.tensor([0, 0, torch.nan, 0, 0])}, "theta is not finite at Gaussian 2"),
        ({"log_scale": torch.full((5, 2), torch.inf)}, "log_scale is not finite at Gaussian 0"),
        ({"size": (0, 4)}, r"size=\(0, 4\); expected two positive"),
        ({"size": (4,)}, "size="),
        ({"size": None}, "size=None"),
        ({"size": (math.inf, 4)}, r"size=\(inf, 4\); expected two positive"),
        ({"size": (4, math.nan)}, "size="),
        ({"size": (4.5, 4)}, "size="),
        ({"size": "48"}, "size='48'"),
        ({"size": (10**400, 4)}, "size="),
        (
            {"xy": torch.zeros(5, 2).to_sparse()},
            "xy is a torch.sparse_coo tensor; expected",
        ),
        ({"color": torch.zeros(5, 3, device="meta")}, "color is a meta tensor"),
        ({"xy": torch.zeros(5, 2, dtype=torch.bfloat16)}, "xy is torch.bfloat16"),
        ({"settings": "sum"}, "settings='sum'"),
    ],
)
def test_bad_fields_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(scatter(5, (8, 8)), **change)


def test_gaussians_may_be_compared_and_are_equal_to_themselves_alone():
    g = scatter(5, (8, 8))
    assert g == g and g != scatter(5, (8, 8)) and g != "g" and len({g, g}) == 1


@pytest.mark.parametrize("size", [(np.int64(8), np.int32(9)), torch.tensor([8, 9]), (8.0, 9.0)])
def test_sizes_are_whole_numbers_whatever_made_them(size):
    g = dataclasses.replace(scatter(5, (4, 4)), size=size)
    assert g.size == (8, 9) and all(type(extent) is int for extent in g.size)
    assert g.render(size=np.array([4, 5]), crop=(np.int64(0), 0, 2, 3)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.to("abacus"), "device='abacus', dtype=None: "),
        (lambda g: g.to(3.5), "device=3.5"),
        (lambda g: g.to(dtype=torch.float16), "xy is torch.float16; expected float32 or float64"),
        (lambda g: Gaussians.from_packed([[1.0]], (8, 8)), "params is a list"),
        (lambda g: Gaussians.from_packed(torch.zeros(8), (8, 8)), r"params has shape \[8\]"),
        (lambda g: Gaussians.from_packed(torch.zeros(2, 5), (8, 8)), r"params has shape \[2, 5\]"),
        (lambda g: g.render(crop=(0.9, 0, 4, 4)), r"crop=\(0.9, 0, 4, 4\); expected .top, left"),
        (lambda g: g.render(crop=(0, 0, math.inf, 4)), "crop="),
        (lambda g: g.render(crop=5), "crop=5"),
        (lambda g: g.render(size=(math.inf, 4)), "size="),
        (lambda g: g.render(top_k="ten"), "top_k='ten'"),
        (lambda g: g.render(cutoff="wide"), "cutoff='wide'; expected 0 < cutoff <= 12"),
        (lambda g: g.render(eps=1j), "eps=1j; expected a number of at least"),
        (lambda g: g.render(blend=3), "blend=3; expected one of normalized, sum"),
        (lambda g: g.render(blend=["sum"]), "blend="),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(scatter(5, (8, 8)))


def test_psnr():
    reference = torch.full((4, 4, 3), 0.5)
    assert metrics.psnr(reference, reference) == float("inf")
    assert metrics.psnr(reference + 0.1, reference) == pytest.approx(20, abs=1e-3)
    assert metrics.psnr(torch.full((1, 1, 1), 7.0), torch.ones(1, 1, 1)) == float("inf")
    # 0.5019 rounds to 128/255, which is off from 0.5 by 0.5/255.
    rounded = metrics.psnr(torch.full((1, 1, 1), 0.5019), torch.full((1, 1, 1), 0.5), rounded=True)
    assert rounded == pytest.approx(54.15, abs=0.01)
    with pytest.raises(ValueError, match="shape"):
        metrics.psnr(reference, reference[:2])


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3)])
def test_a_whole_number_is_one_whatever_made_it(value):
    assert type(whole(value, "k", 3, 3)) is int and whole(value, "k", 1) == 3
    assert RenderSettings(top_k=value) == RenderSettings(top_k=3)


@pytest.mark.parametrize("value", [True, np.bool_(True), 2.0, "2", None, [2], 0, 10, 10**400])
def test_what_is_no_whole_number_in_range_is_named(value):
    with pytest.raises(ValueError, match=r"^k=.*; expected a whole number in 1\.\.9$"):
        whole(value, "k", 1, 9)


def some(n: int = 5, channels: int = 3) -> Gaussians:
    generator = torch.Generator().manual_seed(n)
    numbers = torch.rand(n, 5 + channels, generator=generator)
    return Gaussians.from_packed(numbers, (6, 7), RenderSettings(top_k=3))


def test_gaussians_are_shown_in_one_line():
    assert repr(some()) == "Gaussians(5; 6x7; 3 channels; cpu)"
    assert repr(some(1, 1)) == "Gaussians(1; 6x7; 1 channel; cpu)"
    many = Gaussians.from_packed(torch.zeros(50_000, 8), (512, 512))
    assert repr(many).startswith("Gaussians(50,000; 512x512")


@pytest.mark.parametrize(
    "index",
    [
        slice(1, 4),
        slice(None, None, 2),
        slice(-2, None),
        [4, 0, 4],
        np.array([1, 2]),
        torch.tensor([True, False, True, False, True]),
        np.array([False] * 5),
        torch.tensor([-1]),
    ],
)
def test_some_of_the_gaussians_are_taken_as_rows_of_a_tensor_are(index):
    g, key = some(), index if isinstance(index, slice) else torch.as_tensor(index)
    part = g[index]
    assert torch.equal(part.packed(), g.packed()[key])
    assert part.size == g.size and part.settings == g.settings


@pytest.mark.parametrize(
    "index", [3, "a", [5], [-6], [0.5], torch.ones(4, dtype=torch.bool), None, slice("a"), [[1]]]
)
def test_what_chooses_no_gaussians_is_named(index):
    with pytest.raises(ValueError, match=r"index.*; expected a slice, booleans"):
        some()[index]


def test_fields_are_replaced_and_the_rest_stays():
    g = some()
    changed = g.replace(color=g.color[:, :1])
    assert changed.settings == g.settings and changed.channels == 1 and changed.xy is g.xy
    with pytest.raises(ValueError, match="colour: Gaussians have no such field; expected xy"):
        g.replace(colour=g.color)
    with pytest.raises(ValueError, match="theta has shape"):
        g.replace(theta=g.xy)


def test_covariances_turn_with_theta_and_grow_with_scale():
    g = Gaussians(
        torch.zeros(1, 2),
        torch.tensor([[math.log(3), 0.0]]),
        torch.tensor([math.pi / 2]),
        torch.zeros(1, 1),
        (4, 4),
    )
    expected = torch.tensor([[[1.0, 0.0], [0.0, 9.0]]])
    torch.testing.assert_close(g.covariance(), expected, atol=1e-5, rtol=0)


def test_a_scale_is_a_size_in_other_words():
    g = some()
    assert torch.equal(g.render(scale=3), g.render(size=(18, 21)))
    assert g.render(scale=0.01).shape == (1, 1, 3)
    with pytest.raises(ValueError, match=r"size=\(6, 7\) and scale=2 are given"):
        g.render((6, 7), scale=2)
    for scale in (0, -1, math.nan, math.inf, "twice", True):
        with pytest.raises(ValueError, match="scale="):
            g.render(scale=scale)
