"""Textures that wrap around, and mip chains."""

import dataclasses
import math

import pytest
import torch
from conftest import scatter
from test_render import compare_renders

import pipelines
import taichi2dgs
from taichi2dgs import FitOptions, Gaussians, RenderSettings, fit, fit_batch, metrics, render_mips
from taichi2dgs.fitting import between
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.rendering import reference
from taichi2dgs.storage import t2d

TILE = RenderSettings(tile=True)


def waves(height: int, width: int) -> torch.Tensor:
    """A texture that wraps around, and has nothing to mark its edges."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = 2 * math.pi * (x + 0.5) / width, 2 * math.pi * (y + 0.5) / height
    parts = [(3 * x + y).sin(), (2 * y - x).cos() * (4 * x).sin(), (x + 5 * y).cos()]
    return torch.stack(parts, 2) * 0.4 + 0.5


@pytest.mark.parametrize("blend", ["normalized", "sum"])
@pytest.mark.parametrize(
    "arguments",
    [{}, {"size": (50, 61), "crop": (7, 9, 30, 41)}, {"size": (11, 7)}, {"size": (1, 1)},
     {"size": (11, 7), "antialias": False}],
    ids=lambda given: "-".join(map(str, given.get("size", ["own"]))),
)  # fmt: skip
def test_matches_the_reference_in_image_and_gradients(arguments, blend):
    """Few Gaussians, all among the nearest; centres also lie far outside, and supports are wide."""
    g = scatter(7, (23, 37), log_scale=(0.0, 1.9), margin=1.4)
    compare_renders(g, tile=True, blend=blend, top_k=64, **arguments)


def test_matches_the_reference_where_the_nearest_are_chosen():
    g = scatter(200, (23, 37))
    image = g.render(tile=True)
    expected = reference.render(g.to(dtype=torch.float64), tile=True)
    wrong = (image - expected).abs().amax(2) > 1e-4  # where rounding decides which is the tenth
    assert float(wrong.float().mean()) < 0.01


def test_a_shifted_texture_is_the_same_texture_rolled():
    g = scatter(150, (24, 40)).replace(settings=TILE)
    moved = g.replace(xy=g.xy + torch.tensor([93.0, -79.0]))
    difference = (moved.render() - g.render().roll((-79, 93), (0, 1))).abs().amax(2)
    assert float((difference > 1e-4).float().mean()) < 0.01
    assert float((g.render(tile=False) - g.render()).abs().max()) > 0.1


def test_a_crop_is_a_part_of_the_whole_bit_for_bit():
    g = scatter(150, (24, 40)).replace(settings=TILE)
    whole = g.render(scale=1.7)
    assert torch.equal(g.render(scale=1.7, crop=(5, 6, 30, 31)), whole[5:35, 6:37])


@pytest.mark.parametrize("options", [{}, {"loss": "l1"}, {"settings": RenderSettings(blend="sum")}])
def test_a_step_takes_the_gradient_that_autograd_finds(options):
    settings = dataclasses.replace(options.get("settings", TILE), tile=True, top_k=64)
    size, image = (23, 37), torch.rand(23, 37, 3, generator=torch.Generator().manual_seed(3))
    start = scatter(6, size, log_scale=(0.0, 1.7), margin=1.1).replace(settings=settings)
    chosen = {"loss": "l2"} | options | {"settings": settings, "beta1": 0.0}
    engine = Engine(
        [Picture(image, start.packed())], FitOptions(growing_memory=False, respawn=0, **chosen)
    )
    engine.step(1, 1.0)
    while not engine.poll():
        engine.step(1, 1.0)
    found = engine.state()[0][1]
    leaf = start.packed().double().requires_grad_()
    error = reference.render(Gaussians.from_packed(leaf, size, settings)) - image
    (error.abs() if chosen["loss"] == "l1" else error.square() / 2).sum().backward()
    assert leaf.grad is not None
    scale = leaf.grad.abs().amax(0).clamp(min=1e-3)
    assert float(((found - leaf.grad).abs() / scale).max()) < 1e-4
    costs, (residual,) = engine.removal()
    assert torch.isfinite(costs).all() and residual.shape == image.shape


def test_gaussians_that_no_pixel_sees_stay():
    """The records of their copies are not written, whatever was there before."""
    start = scatter(4, (16, 24)).replace(settings=TILE)
    start.xy[2], start.log_scale[2] = torch.tensor([5.0, 7.0]), -9.0
    engine = Engine([Picture(waves(16, 24), start.packed())], FitOptions(settings=TILE))
    engine.work.records.fill(math.nan)
    engine.step(1, 1.0)
    assert engine.poll() and torch.equal(engine.params[2], start.packed()[2])
    assert not torch.equal(engine.params[1], start.packed()[1])


def test_a_fitted_texture_has_no_seam():
    """Errors in the outer two pixels and inside are alike; without `tile` the outer are larger."""
    image = waves(40, 56)
    start = pipelines.initialize(image, 120, "gradient")
    edge = torch.ones(40, 56)
    edge[2:-2, 2:-2] = 0
    found = {}
    for tile in (True, False):
        options = FitOptions(settings=RenderSettings(tile=tile))
        g = fit(image, start, steps=150, options=options).gaussians
        assert g.settings.tile is tile
        render = g.render()
        found[tile] = [metrics.psnr(render, image, weight=w) for w in (edge, 1 - edge)]
        step = (render[:, 0] - render[:, -1]) - (image[:, 0] - image[:, -1])
        found[tile].append(float(step.square().mean()))
    assert found[True][0] > found[True][1] - 1.5
    assert found[True][0] > found[False][0] + 1


def test_a_fit_reports_what_render_shows_and_repeats_bit_for_bit():
    image = waves(37, 53)
    start = pipelines.initialize(image, 100, "gradient").replace(settings=TILE)
    first, again = (fit(image, start, steps=30, options=FitOptions(reselect=4)) for _ in range(2))
    assert torch.equal(first.gaussians.packed(), again.gaussians.packed())
    every = fit(image, start, steps=30)  # as copies may change places, every step selects
    assert torch.equal(first.gaussians.packed(), every.gaussians.packed())
    found = metrics.psnr(first.gaussians.render(), image)
    assert first.psnr == pytest.approx(found, abs=1e-3)
    assert first.psnr > first.history[0].psnr + 5


def test_textures_of_several_sizes_fit_in_a_batch_as_alone():
    images = [waves(37, 53), waves(16, 16), waves(40, 24)]
    starts = [pipelines.initialize(one, 60, "gradient").replace(settings=TILE) for one in images]
    both = fit_batch(images, starts, steps=12)
    for image, start, result in zip(images, starts, both, strict=True):
        alone = fit(image, start, steps=12)
        assert torch.equal(result.gaussians.packed(), alone.gaussians.packed())
        assert [one.psnr for one in result.history] == [one.psnr for one in alone.history]


def test_what_lies_between_pixels_wraps_around_too():
    image = waves(24, 36)
    rolled = Picture(image.roll((7, 5), (0, 1)), torch.zeros(1, 8), tile=True).phases
    for one, other in zip(between.phases(image, tile=True), rolled, strict=True):
        torch.testing.assert_close(one.roll((7, 5), (0, 1)), other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("quality", ["lossless", "high", "small"])
def test_the_file_remembers_it(quality, tmp_path):
    g = scatter(90, (24, 40)).replace(settings=RenderSettings(blend="sum", tile=True))
    again = t2d.decode(t2d.encode(g, quality)).gaussians
    assert again.settings == g.settings
    plain, tiled = (t2d.encode(g.replace(settings=RenderSettings(tile=t))) for t in (False, True))
    assert len(plain) == len(tiled) and (plain[25], tiled[25]) == (0, 2)


def test_encode_makes_textures():
    image = waves(24, 36)
    g = taichi2dgs.encode(image, 60, steps=20, start="gradient", tile=True)
    assert g.settings == TILE and g.render().shape == image.shape
    still = taichi2dgs.encode(image, 60, steps=0, start="gradient", tile=True)
    assert still.settings == TILE
    with pytest.raises(ValueError, match="tile='yes'; expected True or False"):
        taichi2dgs.encode(image, 60, steps=1, tile="yes")
    with pytest.raises(ValueError, match="tile=1; expected True or False"):
        g.render(tile=1)


def test_a_mip_chain_has_every_halving_as_render_makes_it():
    g = scatter(80, (37, 20))
    levels = render_mips(g)
    assert [tuple(one.shape[:2]) for one in levels] == [
        (37, 20), (18, 10), (9, 5), (4, 2), (2, 1), (1, 1)
    ]  # fmt: skip
    for level in levels:
        assert torch.equal(level, g.render(tuple(level.shape[:2])))
    assert len(render_mips(g, 2)) == 2 and len(render_mips(g[:1].replace(size=(1, 1)))) == 1
    texture = render_mips(g, tile=True)
    assert torch.equal(texture[3], g.render((4, 2), tile=True))
    assert not torch.equal(texture[3], levels[3])
    for wrong in (0, 7, 1.5, "all"):
        with pytest.raises(ValueError, match="levels="):
            render_mips(g, wrong)


def test_the_smallest_mip_of_a_texture_is_its_mean():
    image = waves(32, 32)
    g = fit(image, pipelines.initialize(image, 200, "gradient"), steps=60,
            options=FitOptions(settings=TILE)).gaussians  # fmt: skip
    smallest = render_mips(g)[-1]
    assert float((smallest - image.mean((0, 1))).abs().max()) < 0.02
