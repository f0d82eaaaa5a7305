"""The projection of centres to a heatmap."""

import pytest
import torch

from pipelines.starts.projection import count, project


def test_equals_the_sum_of_gaussian_bumps():
    xy = torch.tensor([[3.2, 4.9], [3.9, 4.1], [20.5, 9.5], [8.0, 1.0]])
    rows, columns = torch.arange(15.0)[:, None], torch.arange(31.0)[None]
    expected = sum(
        torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 1.5**2))
        for x, y in xy.floor().tolist()
    )
    heat = project(xy, (15, 31), 1.5)
    assert heat.shape == (15, 31) and float(heat.max()) == 1
    # The blur is cut at four standard deviations, where a Gaussian has fallen to 3e-4.
    torch.testing.assert_close(heat, expected / expected.max(), atol=1e-3, rtol=0)


def test_without_blur_it_counts():
    xy = torch.tensor([[0.0, 0.0], [0.9, 0.9], [1.0, 0.0], [-0.1, 0.0], [2.0, 0.0], [0.0, 2.0]])
    expected = torch.tensor([[2.0, 1.0], [0.0, 0.0]])
    assert torch.equal(count(xy, (2, 2)), expected)
    assert torch.equal(project(xy, (2, 2), 0), expected / 2)


def test_nothing_inside_is_all_zero():
    assert not project(torch.tensor([[-5.0, 3.0]]), (4, 4)).any()
    assert not project(torch.zeros(0, 2), (4, 4)).any()


def test_centres_nowhere_do_not_count():
    far = [torch.nan, torch.inf, -torch.inf, 1e30, -1e30]
    xy = torch.tensor([[x, 0.5] for x in far] + [[0.5, y] for y in far] + [[1.5, 0.5]])
    assert count(xy, (2, 2)).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("xy", "sigma", "name"),
    [
        (torch.zeros(3), 1, "xy"),
        (torch.zeros(3, 2), -1, "sigma"),
        ([[1, 2]], 1, "xy is a list"),
        (torch.zeros(3, 2), "1", "sigma='1'"),
        (torch.zeros(3, 2), torch.nan, "sigma=nan"),
    ],
)
def test_bad_arguments_are_named(xy, sigma, name):
    with pytest.raises(ValueError, match=name):
        project(xy, (4, 4), sigma)
