"""Weights of pixels, and losses: what a fit makes less, and what of it is reported."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from conftest import scatter
from PIL import Image

import pipelines
import taichi2dgs
from taichi2dgs import FitOptions, Gaussians, RenderSettings, fit, fit_batch, metrics
from taichi2dgs.fitting import between, respawn
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.kernels.residual import SOFT
from taichi2dgs.rendering import reference
from taichi2dgs.settings import LOSSES
from taichi2dgs.storage.maps import Stack
from taichi2dgs.storage.stacks import as_stack

SIZE = (24, 31)
PICTURE = torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(0))
STAY = FitOptions(respawn=0, growing_memory=False)


def weights(size=SIZE, seed: int = 1) -> torch.Tensor:
    """Random weights, of which a quarter is 0."""
    values = torch.rand(*size, generator=torch.Generator().manual_seed(seed))
    return (values - 0.25).clamp(min=0)


def left(size=SIZE) -> torch.Tensor:
    """Only the left half counts."""
    mask = torch.zeros(size)
    mask[:, : size[1] // 2] = 1
    return mask


def loss_by_torch(error: torch.Tensor, loss: str) -> torch.Tensor:
    if loss == "l2":
        return error.square() / 2
    return error.abs() if loss == "l1" else (error.square() + SOFT**2).sqrt()


def gradient_of_a_step(start, image, weight, options) -> torch.Tensor:
    """With no memory of its own, Adam's average of a first step is the gradient."""
    options = dataclasses.replace(options, beta1=0.0, settings=start.settings)
    from taichi2dgs.fitting.engine import Engine
    from taichi2dgs.fitting.picture import Picture

    engine = Engine([Picture(image, start.packed(), weight=weight)], options)
    engine.step(1, 1.0)
    while not engine.poll():
        engine.step(1, 1.0)
    return engine.state()[0][1]


@pytest.mark.parametrize("blend", ["normalized", "sum"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weight", [None, weights()], ids=["alike", "weighted"])
def test_a_step_takes_the_gradient_that_autograd_finds(weight, loss, blend):
    """Residuals near 0 have a slope of either sign in l1: observed 1e-6 of the largest."""
    start = scatter(60, SIZE).replace(settings=RenderSettings(blend=blend))
    options = dataclasses.replace(STAY, loss=loss)
    found = gradient_of_a_step(start, PICTURE, weight, options)
    leaf = start.packed().double().requires_grad_()
    out = reference.render(Gaussians.from_packed(leaf, SIZE, start.settings))
    counted = torch.ones(SIZE) if weight is None else weight
    (loss_by_torch(out - PICTURE, loss) * counted.double()[..., None]).sum().backward()
    assert leaf.grad is not None
    scale = leaf.grad.abs().amax(0).clamp(min=1e-3)
    assert float(((found - leaf.grad).abs() / scale).max()) < 1e-4


def test_what_pixels_of_weight_0_show_changes_nothing():
    mask, other = left(), PICTURE.clone()
    other[mask == 0] = 0.123
    start = pipelines.initialize(PICTURE, 80, "gradient", weight=mask)
    options = FitOptions(between=0.2, loss="charbonnier")
    one, two = (fit(image, start, steps=40, weight=mask, options=options)
                for image in (PICTURE, other))  # fmt: skip
    assert torch.equal(one.gaussians.packed(), two.gaussians.packed())
    assert [a.psnr for a in one.history] == [b.psnr for b in two.history]


def test_weights_of_one_are_none_and_only_their_ratios_matter():
    start = pipelines.initialize(PICTURE, 80, "gradient")
    plain = fit(PICTURE, start, steps=20)
    for value in (1.0, 1e-20, 7e30):
        same = fit(PICTURE, start, steps=20, weight=torch.full(SIZE, value))
        torch.testing.assert_close(same.gaussians.packed(), plain.gaussians.packed())
        assert same.psnr == pytest.approx(plain.psnr, abs=1e-4)


def test_reports_are_of_the_weighted_psnr_and_what_counts_more_gets_better(photograph):
    image, start = photograph[:48, :64].contiguous(), None
    mask = left((48, 64)) * 0.99 + 0.01
    start = pipelines.initialize(image, 150, "gradient", weight=mask)
    result = fit(image, start, steps=60, weight=mask)
    render = result.gaussians.render()
    assert result.psnr == pytest.approx(metrics.psnr(render, image, weight=mask), abs=1e-3)
    plain = fit(image, pipelines.initialize(image, 150, "gradient"), steps=60).gaussians.render()
    half = slice(0, 32)
    gained = metrics.psnr(render[:, half], image[:, half])
    assert gained > metrics.psnr(plain[:, half], image[:, half]) + 1


@pytest.mark.parametrize("start", ["gradient", "random", "prior-no-attributes"])
@pytest.mark.parametrize("k", [50, 372, 900])
def test_a_start_spends_nothing_where_the_weight_is_0(start, k):
    mask = left()
    g = pipelines.initialize(PICTURE, k, start, weight=mask)
    assert len(g) == k and float(g.xy[:, 0].max()) <= SIZE[1] // 2
    for sampler in pipelines.starts.sampling.METHODS:
        g = pipelines.initialize(PICTURE, k, "gradient", weight=mask, sampler=sampler)
        assert len(g) == k and float(g.xy[:, 0].max()) <= SIZE[1] // 2


@pytest.mark.parametrize("blend", ["normalized", "sum"])
def test_respawning_goes_where_pixels_count(blend):
    mask = left()
    start = scatter(60, SIZE).replace(settings=RenderSettings(blend=blend))
    from taichi2dgs.fitting.engine import Engine
    from taichi2dgs.fitting.picture import Picture

    options = FitOptions(settings=start.settings)
    engine = Engine([Picture(PICTURE, start.packed(), weight=mask)], options)
    costs, (residual,) = engine.removal()
    rendered = start.render()
    expected = rendered.clamp(0, 1) - PICTURE
    torch.testing.assert_close(residual.cpu(), expected, atol=1e-5, rtol=0)
    for n in (3, 17, 41):
        others = torch.arange(60) != n
        settings = dataclasses.replace(start.settings, top_k=64)
        # Of few Gaussians all are among the nearest, where those left are not joined by others.
        if blend == "sum":
            without = start[others].replace(settings=settings).render().clamp(0, 1) - PICTURE
            grown = (without.square() - expected.square()).sum(2) * mask
            assert float(costs[n]) == pytest.approx(float(grown.sum()), rel=1e-3, abs=1e-4)
    assert engine.respawn([0.3]) > 0
    moved = (engine.params - start.packed())[:, :2].abs().amax(1) > 0
    assert float(engine.params[moved, 0].max()) < SIZE[1] // 2


def test_nothing_moves_to_pixels_that_do_not_count_though_the_picture_would_be_better_off():
    costs, residual = torch.full((500,), -1.0), torch.zeros(*SIZE, 3)
    rows, values = respawn.moves(costs, PICTURE, residual, 1.0, "sum", 0.4, left())
    assert len(rows) == SIZE[0] * (SIZE[1] // 2) and float(values[:, 0].max()) < SIZE[1] // 2


def test_the_worst_pixels_are_looked_for_where_they_count():
    errors = torch.ones(16, 16)
    errors[:, 4:] = -1.0
    values, places = respawn.worst_pixels(errors, 8)
    assert len(places) == 8 and bool((places % 16 < 4).all()) and bool((values == 1).all())


def test_a_batch_has_weights_of_each_picture():
    masks = [left(), None]
    starts = [pipelines.initialize(PICTURE, 80, "gradient", seed=n) for n in range(2)]
    both = fit_batch([PICTURE, PICTURE], starts, steps=20, weight=masks)
    alone = [
        fit(PICTURE, start, steps=20, weight=m) for start, m in zip(starts, masks, strict=True)
    ]
    assert torch.equal(both[0].gaussians.packed(), alone[0].gaussians.packed())
    torch.testing.assert_close(both[1].gaussians.packed(), alone[1].gaussians.packed())
    assert both[0].psnr == alone[0].psnr and both[1].psnr == pytest.approx(alone[1].psnr, abs=1e-4)


def test_encode_batch_takes_weights_and_wraps_around():
    masks = [left(), None]
    given = {"steps": 3, "start": "random", "tile": True}
    found = taichi2dgs.encode_batch([PICTURE, PICTURE], 40, weight=masks, **given)
    for made, mask in zip(found, masks, strict=True):
        alone = taichi2dgs.encode(PICTURE, 40, weight=mask, **given)
        torch.testing.assert_close(made.packed(), alone.packed())
        assert made.settings.tile
    with pytest.raises(ValueError, match=r"images\[1\]: weight has 3x3 pixels"):
        taichi2dgs.encode_batch([PICTURE, PICTURE], 40, weight=[None, torch.ones(3, 3)])
    with pytest.raises(ValueError, match="weight has 1 items; expected 2"):
        taichi2dgs.encode_batch([PICTURE, PICTURE], 40, weight=[None])
    with pytest.raises(ValueError, match="tile=1; expected True or False"):
        taichi2dgs.encode_batch([PICTURE], 40, tile=1)


def test_colours_are_solved_by_weights():
    mask = left()
    start = pipelines.initialize(PICTURE, 80, "gradient")
    errors = []
    for steps in (0, 1, 2, 6):
        g = solve_colors(PICTURE, start, steps, weight=mask)
        errors.append(((g.render() - PICTURE).square() * mask[..., None]).sum())
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < ((solve_colors(PICTURE, start, 6).render() - PICTURE).square()
                        * mask[..., None]).sum()  # fmt: skip


def test_what_lies_between_pixels_counts_where_none_of_its_pixels_is_masked():
    weight = torch.ones(9, 20)
    weight[:, 12:] = 0
    inner = between.inner_weight(weight)
    assert bool((inner[:, :9] == 1).all()) and bool((inner[:, 9:] == 0).all())


def test_a_stack_carries_weights_to_every_part_of_an_encoding(photograph):
    image = photograph[:32, :40].contiguous()
    mask = left((32, 40))
    stack = as_stack(image, weight=mask)
    assert torch.equal(stack.linear().weight, mask)
    for more in ({"k": 60}, {"k": "auto"}, {"target_psnr": 25.0}, {"target_bytes": 900}):
        encoding = pipelines.Encoding(steps=20, start="gradient", **more)
        result = encoding.run(stack)
        found = metrics.psnr(result.gaussians.render(), image, weight=mask)
        assert result.psnr == pytest.approx(found, abs=1e-3)
        assert len(result.gaussians) <= 32 * 20  # one for each pixel that counts
    same = taichi2dgs.encode(image, 60, steps=20, start="gradient", weight=mask)
    by_stack = pipelines.Encoding(60, steps=20, start="gradient").run(stack).gaussians
    assert torch.equal(same.packed(), by_stack.packed())
    still = taichi2dgs.encode(image, 60, steps=0, start="gradient", weight=mask)
    assert float(still.xy[:, 0].max()) <= 20


def test_a_mask_may_be_a_file_or_a_picture_of_any_kind(tmp_path):
    levels = (weights() * 255).round().byte().numpy()
    Image.fromarray(levels).save(tmp_path / "grey.png")
    Image.fromarray(levels).convert("RGBA").save(tmp_path / "rgba.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    expected = torch.from_numpy(levels / levels.max()).float()
    for given in (tmp_path / "grey.png", str(tmp_path / "rgba.png"), tmp_path / "deep.png",
                  Image.fromarray(levels), levels, levels.astype(float)):  # fmt: skip
        found = as_stack(PICTURE, weight=given).weight
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert as_stack(PICTURE, weight=levels > 99).weight.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.ones(3, 4), "weight has 3x4 pixels; expected 24x31, as the image"),
        (torch.zeros(SIZE), "weight is 0 everywhere"),
        (-torch.ones(SIZE), "weight has numbers from -1 to -1; expected 0 or more"),
        (torch.full(SIZE, math.nan), "weight has numbers from nan"),
        (torch.full(SIZE, math.inf), "weight has numbers from inf"),
        (torch.ones(*SIZE, 3), r"weight is torch.float32 \[24, 31, 3\]; expected numbers"),
        ("missing.png", "missing.png"), (3, "weight is"), ([[1, 2], [3]], "weight is a list"),
    ],
)  # fmt: skip
def test_bad_weights_are_named(weight, message):
    with pytest.raises(ValueError, match=message) as error:
        fit(PICTURE, scatter(5, SIZE), steps=1, weight=weight)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message.replace("24x31", "24x31")):
        pipelines.initialize(PICTURE, 5, "random", weight=weight)


def test_bad_masks_name_their_file(tmp_path):
    Image.new("L", (9, 8)).save(tmp_path / "small.png")
    with pytest.raises(
        ValueError, match=r"small\.png has 8x9 pixels; expected 24x31, as the image"
    ):
        taichi2dgs.encode(PICTURE, 5, steps=1, weight=tmp_path / "small.png")
    Image.new("L", (31, 24)).save(tmp_path / "black.png")
    with pytest.raises(ValueError, match=r"black\.png is 0 everywhere"):
        taichi2dgs.encode(PICTURE, 5, steps=1, weight=tmp_path / "black.png")
    Image.new("RGB", (31, 24), (9, 200, 3)).save(tmp_path / "green.png")
    with pytest.raises(ValueError, match=r"green\.png: a picture with colours"):
        taichi2dgs.encode(PICTURE, 5, steps=1, weight=tmp_path / "green.png")
    with pytest.raises(ValueError, match="loss='l3'; expected one of l2, l1, charbonnier"):
        FitOptions(loss="l3")
    with pytest.raises(ValueError, match=r"images\[1\]: weight has 3x4"):
        fit_batch([PICTURE] * 2, [scatter(5, SIZE)] * 2, steps=1, weight=[None, torch.ones(3, 4)])
    assert Stack(PICTURE).weight is None
