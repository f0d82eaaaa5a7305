"""Colours by conjugate gradients, against dense least squares."""

from dataclasses import replace

import pytest
import torch

import taichi2dgs as t2
from taichi2dgs.fitting.colors import solve_colors


def scene(n=60, size=(20, 37), channels=3, blend="normalized"):
    """Random Gaussians, and a picture that they cannot make."""
    generator = torch.Generator().manual_seed(n)
    gaussians = t2.Gaussians(
        xy=torch.rand(n, 2, generator=generator) * torch.tensor([size[1], size[0]]),
        log_scale=torch.rand(n, 2, generator=generator) * 1.5 - 0.5,
        theta=torch.rand(n, generator=generator) * 3,
        color=torch.rand(n, channels, generator=generator),
        size=size,
        settings=t2.RenderSettings(blend=blend),
    )
    return torch.rand(*size, channels, generator=generator), gaussians


def error(image, gaussians) -> float:
    return float((gaussians.render() - image).square().mean())


def best(image, gaussians) -> float:
    """The least error that colours can reach, by a dense solver in double precision."""
    rows = []
    for one in torch.eye(len(gaussians), dtype=torch.float64):
        rows.append(replace(gaussians, color=one[:, None].float()).render().double().flatten())
    matrix, target = torch.stack(rows, 1), image.double().reshape(-1, image.shape[2])
    found = torch.linalg.lstsq(matrix, target, driver="gelsd").solution
    return float((matrix @ found - target).square().mean())


@pytest.mark.parametrize("blend", ["normalized", "sum"])
@pytest.mark.parametrize("channels", [1, 3])
def test_many_steps_reach_the_least_squares(channels, blend):
    image, gaussians = scene(channels=channels, blend=blend)
    solved = solve_colors(image, gaussians, steps=100)
    assert error(image, solved) == pytest.approx(best(image, gaussians), rel=1e-3)
    for name in ("xy", "log_scale", "theta"):
        assert torch.equal(getattr(solved, name), getattr(gaussians, name))


def test_every_step_lowers_the_error_and_the_first_does_most():
    image, gaussians = scene()
    errors = [error(image, solve_colors(image, gaussians, steps)) for steps in range(6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == error(image, gaussians)
    assert errors[0] - errors[1] > 0.7 * (errors[0] - best(image, gaussians))


def test_what_nobody_sees_stays_as_it_is():
    image, gaussians = scene(n=8)
    away = replace(gaussians, xy=gaussians.xy - 1000)
    assert torch.equal(solve_colors(image, away).color, gaussians.color)


def test_bad_arguments_are_named():
    image, gaussians = scene(n=8)
    with pytest.raises(ValueError, match="image has shape"):
        solve_colors(image[1:], gaussians)
    with pytest.raises(ValueError, match="steps=-1"):
        solve_colors(image, gaussians, steps=-1)
