"""Editing: what each method promises, for any Gaussians."""

import math

import numpy as np
import pytest
import torch
from conftest import scatter
from hypothesis import given, settings
from hypothesis import strategies as st

from taichi2dgs import Gaussians
from taichi2dgs.rendering import reference

numbers = st.floats(-3, 3, allow_subnormal=False)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def gaussians(draw, least=0):
    """Random Gaussians, in a picture of any shape."""
    return scatter(
        draw(st.integers(least, 40)),
        draw(sizes),
        channels=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 1000)),
        dtype=torch.float64,
    )


@st.composite
def matrices(draw):
    """Affine maps that can be undone."""
    a, b, c, d = (draw(numbers) for _ in range(4))
    if abs(a * d - b * c) < 0.05:
        a, b, c, d = 1.0 + abs(a), b, 0.0, 1.0
    return torch.tensor([[a, b, 5 * draw(numbers)], [c, d, 5 * draw(numbers)]]).double()


def covariance(g: Gaussians) -> torch.Tensor:
    cos, sin = g.theta.cos(), g.theta.sin()
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return rotation @ torch.diag_embed((2 * g.log_scale).exp()) @ rotation.mT


@settings(max_examples=60, deadline=None)
@given(g=gaussians(), matrix=matrices())
def test_transform_is_exact_and_can_be_undone(g, matrix):
    moved, linear = g.transform(matrix), matrix[:, :2]
    torch.testing.assert_close(moved.xy, g.xy @ linear.T + matrix[:, 2])
    torch.testing.assert_close(covariance(moved), linear @ covariance(g) @ linear.T)
    back = linear.inverse()
    again = moved.transform(torch.cat([back, -(back @ matrix[:, 2:])], 1))
    torch.testing.assert_close(again.xy, g.xy)
    torch.testing.assert_close(covariance(again), covariance(g), rtol=1e-6, atol=1e-6)
    assert again.size == g.size and torch.equal(again.color, g.color)


@settings(max_examples=30, deadline=None)
@given(g=gaussians(least=1), quarter=st.integers(0, 3), down=st.integers(-9, 9))
def test_a_render_follows_its_transform(g, quarter, down):
    """Quarter turns and whole steps move pixels to pixels; no Gaussian leaves the picture."""
    cos, sin = round(math.cos(quarter * math.pi / 2)), round(math.sin(quarter * math.pi / 2))
    height, width = g.size
    corner = {0: (0, 0), 1: (height, 0), 2: (width, height), 3: (0, width)}[quarter]
    turned = (width, height) if quarter % 2 else (height, width)
    down = max(-turned[0], min(down, turned[0]))  # a step beyond the picture shows nothing
    matrix = [[cos, -sin, corner[0]], [sin, cos, corner[1] + down]]
    shifted = torch.zeros(*turned, g.channels, dtype=torch.float64)
    whole = torch.rot90(reference.render(g, top_k=64, cutoff=8.0), -quarter)
    rows = slice(max(0, down), min(turned[0], turned[0] + down))
    source = slice(max(0, -down), min(turned[0], turned[0] - down))
    got = reference.render(g.transform(matrix, turned), top_k=64, cutoff=8.0)
    shifted[rows] = whole[source]
    torch.testing.assert_close(got[rows], shifted[rows], rtol=1e-6, atol=1e-8)


@settings(max_examples=60, deadline=None)
@given(g=gaussians(), box=st.tuples(*[st.integers(-5, 45)] * 4))
def test_a_box_and_its_mask_select_the_same_and_split_the_rest(g, box):
    top, left, rows, columns = box
    mask = torch.zeros(g.size, dtype=torch.bool)
    if rows > 0 and columns > 0:
        mask[max(0, top) : max(0, top + rows), max(0, left) : max(0, left + columns)] = True
    x, y = g.xy.unbind(1)
    on = g._map(lambda t: t[(x >= 0) & (y >= 0) & (x < g.size[1]) & (y < g.size[0])])
    chosen, others = on.select(mask), on.select(~mask)
    assert torch.equal(on.select(box).packed(), chosen.packed())
    assert len(g.select(mask.numpy())) == len(chosen) and len(chosen) + len(others) == len(on)
    together = chosen.concat(others).packed()
    assert torch.equal(together.sort(0).values, on.packed().sort(0).values)


@settings(max_examples=40, deadline=None)
@given(g=gaussians(), parts=st.integers(1, 4))
def test_concat_puts_parts_together(g, parts):
    pieces = [g._map(lambda t, i=i: t[i::parts]) for i in range(parts)]
    whole = pieces[0].concat(*pieces[1:])
    assert len(whole) == len(g) and whole.size == g.size
    image, expected = (reference.render(one, blend="sum") for one in (whole, g))
    torch.testing.assert_close(image, expected)  # a sum does not depend on the order


@settings(max_examples=40, deadline=None)
@given(g=gaussians(), seed=st.integers(0, 99))
def test_recolor_changes_the_render_in_the_same_way(g, seed):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(3, g.channels, generator=generator, dtype=torch.float64)
    expected = reference.render(g) @ matrix.T
    torch.testing.assert_close(reference.render(g.recolor(matrix)), expected)
    brighter = g.recolor(torch.cat([torch.eye(g.channels).double(), torch.ones(g.channels, 1)], 1))
    torch.testing.assert_close(brighter.color, g.color + 1)


@settings(max_examples=25, deadline=None)
@given(g=gaussians(), size=sizes, blend=st.sampled_from(["normalized", "sum"]))
def test_a_render_is_finite_and_of_its_size(g, size, blend):
    image = g.to(dtype=torch.float32).render(size=size, blend=blend)
    assert image.shape == (*size, g.channels) and bool(torch.isfinite(image).all())
    if blend == "normalized" and len(g):  # a mean of colours and of black
        assert float(image.max()) <= max(0.0, float(g.color.max())) + 1e-4
        assert float(image.min()) >= min(0.0, float(g.color.min())) - 1e-4


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda g: g.select((1, 2, 3)), "region=.*expected .top, left, height, width. or a mask"),
        (lambda g: g.select("all"), "region='all'"),
        (lambda g: g.select(torch.ones(4, 4, dtype=torch.bool)), r"region is .* \[4, 4\]"),
        (lambda g: g.select(torch.ones(8, 9)), "region is torch.float32"),
        (lambda g: g.select((0, 0, 10**400, 1)), "region="),
        (lambda g: g.select(("0", "0", "4", "4")), "region="),
        (lambda g: g.select(np.array(["a"])), "region="),
        (lambda g: g.transform([[10**400, 0, 0], [0, 1, 0]]), "matrix="),
        (lambda g: g.transform([[1, 0, 0], [0, 1, 0]], size=(math.inf, 3)), "size="),
        (lambda g: g.transform([[1, 0], [0, 1]]), r"matrix has shape \[2, 2\]; expected \[2, 3\]"),
        (lambda g: g.transform([[1, 1, 0], [1, 1, 0]]), "squashes the plane"),
        (lambda g: g.transform([[1, 0, math.nan], [0, 1, 0]]), "expected finite numbers"),
        (lambda g: g.transform("turn"), "matrix='turn'; expected rows of numbers"),
        (lambda g: g.transform([[1, 0, 0], [0, 1, 0]], size=(0, 3)), "size="),
        (lambda g: g.recolor(torch.eye(2)), r"expected \[C, 3 or 4\]"),
        (lambda g: g.recolor(torch.zeros(17, 3)), "color has 17 channels"),
        (lambda g: g.concat(scatter(2, (8, 9), channels=1)), "has channels 1; expected 3"),
        (lambda g: g.concat(scatter(2, (8, 8))), r"has size \(8, 8\)"),
        (lambda g: g.concat(g.to(dtype=torch.float64)), "is torch.float64 on cpu"),
        (lambda g: g.concat(g, "h"), r"others\[1\] is a str; expected Gaussians"),
    ],
)
def test_bad_arguments_are_named(edit, message):
    with pytest.raises(ValueError, match=message):
        edit(scatter(5, (8, 9)))


def test_a_region_of_objects_is_named_in_one_line():
    with pytest.raises(ValueError, match="region=") as caught:
        scatter(3, (9, 12)).select(np.zeros((2, 3), dtype=object))
    assert "\n" not in str(caught.value)
