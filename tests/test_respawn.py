"""Moments at which a fit moves Gaussians, and memory that grows: see fitting/respawn.py."""

import math

import pytest
import torch

import pipelines
from taichi2dgs import FitOptions, RenderSettings
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting import respawn
from taichi2dgs.fitting.batch import fit_batch
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.fitting.schedule import Schedule


def engine_of(image, gaussians, **options):
    chosen = FitOptions(settings=gaussians.settings, **options)
    return Engine([Picture(image, gaussians.packed())], chosen)


def squared_error(gaussians, image):
    return float((gaussians.render().clamp(0, 1) - image).double().square().sum())


@pytest.mark.parametrize("settings", [RenderSettings(top_k=16), RenderSettings(blend="sum")])
def test_removal_costs_what_leaving_out_costs(photograph, settings):
    """Where no pixel has more than K within reach, nobody takes the place that becomes free."""
    image = photograph[:29, :43].contiguous()
    start = pipelines.initialize(image, 16, "gradient").replace(settings=settings)
    start = fit_function(image, start, steps=5, options=FitOptions(respawn=0)).gaussians
    costs, (residual,) = engine_of(image, start).removal()
    render = start.render().clamp(0, 1)
    assert torch.allclose(residual.cpu(), (render - image).cpu(), atol=1e-5)
    with_all = squared_error(start, image)
    for g in range(0, 16, 3):
        kept = torch.arange(16) != g
        expected = squared_error(start[kept], image) - with_all
        assert float(costs[g]) == pytest.approx(expected, rel=2e-3, abs=2e-4)


def test_frozen_gaussians_are_never_moved(photograph):
    start = pipelines.initialize(photograph, 200, "gradient")
    frozen = torch.arange(200) % 2 == 0
    options = FitOptions(respawn=1.0)
    fitted = fit_function(photograph, start, steps=10, frozen=frozen, options=options).gaussians
    assert torch.equal(fitted.packed()[frozen], start.packed()[frozen])
    assert not torch.equal(fitted.packed()[~frozen], start.packed()[~frozen])
    everyone = torch.ones(200, dtype=torch.bool)
    fitted = fit_function(photograph, start, steps=10, frozen=everyone, options=options).gaussians
    assert torch.equal(fitted.packed(), start.packed())


def test_a_gaussian_that_sees_nothing_moves_to_a_bad_pixel_and_begins_anew(photograph):
    start = pipelines.initialize(photograph, 300, "gradient")
    start.xy[7] = torch.tensor([-500.0, -500.0])
    run = engine_of(photograph, start)
    for number in range(1, 31):
        run.step(number, 0.5)
    run.poll()
    before, averages = run.params, torch.from_numpy(run.exp_avg.to_numpy())
    costs, (residual,) = run.removal()
    assert costs[7] == 0
    errors = residual.square().sum(2).cpu()
    count = run.respawn([0.3])  # leaving some others out would do the picture good
    moved = (run.params != before).any(1)
    assert int(moved.sum()) == count <= 90 and moved[7]
    x, y = run.params[7, :2].tolist()
    assert (x % 1, y % 1) == (0.5, 0.5)
    assert errors[int(y), int(x)] > errors.mean()
    assert torch.equal(run.params[7, 5:], photograph[int(y), int(x)].cpu())
    after = torch.from_numpy(run.exp_avg.to_numpy())
    assert not after[moved].any() and torch.equal(after[~moved], averages[~moved])


@pytest.mark.parametrize("blend", ["normalized", "sum"])
def test_respawning_wins_where_gaussians_lie_in_the_wrong_places(photograph, blend):
    image = photograph[:64, :64].contiguous()
    start = pipelines.initialize(image, 300, "random").replace(settings=RenderSettings(blend=blend))
    start.xy.clamp_(max=40)  # a third of the picture has none nearby
    plain = fit_function(image, start, steps=60, options=FitOptions(respawn=0))
    respawned = fit_function(image, start, steps=60)
    assert respawned.psnr > plain.psnr + 1.5


def test_respawned_fits_repeat_bit_for_bit(photograph, backend):
    if backend != "cpu":
        pytest.skip("float atomics on a GPU add in any order")
    start = pipelines.initialize(photograph, 400, "gradient")
    one, other = (fit_function(photograph, start, steps=30).gaussians for _ in range(2))
    assert torch.equal(one.packed(), other.packed())


def rounded(found: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(at, 9), round(share, 9)) for at, share in found]


def test_moments_are_in_the_first_half_and_move_ever_fewer():
    five = [(0.1, 0.2), (0.2, 0.16), (0.3, 0.12), (0.4, 0.08), (0.5, 0.04)]
    assert rounded(respawn.moments(0.2, 40.0)) == rounded(respawn.moments(0.2, 4.6)) == five
    assert respawn.moments(0.0, 3.0) == []
    three = rounded(respawn.moments(0.3, 3.0))
    assert three == [(0.166666667, 0.3), (0.333333333, 0.2), (0.5, 0.1)]
    crowded = respawn.SPACING / math.sqrt(2)
    assert rounded(respawn.moments(0.2, crowded)) == [(0.25, 0.05), (0.5, 0.025)]
    growing = rounded(respawn.moments(0.2, crowded, grows=True))
    assert growing == [(at, share / 4) for at, share in five]


def test_moments_come_at_their_steps_and_in_their_seconds(photograph, monkeypatch, watch):
    asked = []
    monkeypatch.setattr(
        Engine, "respawn", lambda self, shares: asked.append((self.done, round(shares[0], 2)))
    )
    image = photograph[:32, :40].contiguous()  # steps are short on any device
    start = pipelines.initialize(image, 40, "gradient")
    fit_function(image, start, steps=40)
    assert asked == [(4, 0.2), (8, 0.16), (12, 0.12), (16, 0.08), (20, 0.04)]
    asked.clear()
    fit_function(image, start, seconds=1.0)
    assert [share for _, share in asked] == [0.2, 0.16, 0.12, 0.08, 0.04]
    due = [10, 20, 30, 40, 50]  # a poll comes every other step, as steps take 10 ms
    assert all(0 <= step - at < 2 for (step, _), at in zip(asked, due, strict=True))
    asked.clear()
    fit_function(image, start, steps=40, options=FitOptions(respawn=0))
    assert asked == []


def test_nothing_moves_shortly_before_the_end(photograph, monkeypatch):
    asked = []
    monkeypatch.setattr(Engine, "respawn", lambda self, shares: asked.append(self.done))
    image = photograph[:32, :40].contiguous()
    start = pipelines.initialize(image, 40, "gradient")
    fit_function(image, start, steps=16)
    assert asked == [2, 4]  # 14 and 12 steps are left, and at the next moments 11, 9 and 8
    asked.clear()
    fit_function(image, start, steps=12)
    assert asked == []
    asked.clear()
    crowded = pipelines.initialize(image, 488, "gradient")  # 48 steps must be left
    fit_function(image, crowded, steps=63)  # at the moments 47 and 31 are
    assert asked == []
    fit_function(image, crowded, steps=64)
    assert asked == [16]


def test_where_gaussians_are_crowded_more_steps_must_be_left():
    found = [respawn.recovery(512 / math.sqrt(k)) for k in (100, 50_000, 100_000)]
    assert found == [12, 12, 48]


def test_only_the_crowded_picture_of_a_batch_needs_many_steps(photograph, monkeypatch):
    asked = []
    monkeypatch.setattr(
        Engine, "respawn", lambda self, shares: asked.append([round(s, 2) for s in shares])
    )
    images = [photograph[:32, :40].contiguous()] * 2
    starts = [pipelines.initialize(images[0], k, "gradient") for k in (40, 488)]
    fit_batch(images, starts, steps=20)
    assert asked == [[0.2, 0.0], [0.16, 0.0], [0.12, 0.0], [0.08, 0.0]]


def test_neighbours_do_not_all_go_at_once():
    """Unless they reach no pixel: of a row of eight the four cheapest may, of three all."""
    costs = torch.tensor([5.0, 1, 2, 8, 3, 7, 6, 4, *[0.0] * 8, 2, 1, math.inf])
    kept = respawn.spared(costs).isinf().tolist()
    assert kept == [True, False, False, True, False, True, True, False, *[False] * 10, True]


def test_a_moment_is_reported_before_anything_moves(photograph):
    """Whether or not a report may end the fit."""
    start = pipelines.initialize(photograph, 300, "gradient")
    plain = fit_function(photograph, start, steps=20)
    aimed = fit_function(photograph, start, steps=20, target_psnr=90)
    for one, other in zip(plain.history, aimed.history, strict=True):
        assert one.step == other.step and one.psnr == pytest.approx(other.psnr, abs=0.01)


def test_worst_pixels_are_one_of_each_cell():
    errors = torch.zeros(16, 24)
    errors[3, 5], errors[3, 6], errors[9, 20], errors[15, 0] = 4.0, 3.0, 2.0, 1.0
    values, places = respawn.worst_pixels(errors, 3)
    assert values.tolist() == [4.0, 2.0, 1.0]  # the second largest shares a cell with the largest
    assert places.tolist() == [3 * 24 + 5, 9 * 24 + 20, 15 * 24]
    _, places = respawn.worst_pixels(errors, 12)  # more than there are cells of 8x8
    assert {3 * 24 + 5, 9 * 24 + 20, 15 * 24} <= set(places.tolist())


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (6, 8)])
def test_every_pixel_may_be_asked_for(size):
    errors = torch.rand(size, generator=torch.Generator().manual_seed(0))
    values, places = respawn.worst_pixels(errors, 10**6)
    assert sorted(places.tolist()) == list(range(errors.numel()))
    assert torch.equal(values, errors.flatten()[places])
    values, places = respawn.worst_pixels(errors, 0)
    assert len(values) == len(places) == 0


@pytest.mark.parametrize("k", [1, 30])
def test_edges_are_gentle(k):
    """One Gaussian, and more than pixels; a constant picture."""
    for image in (torch.rand(3, 5, 3), torch.full((3, 5, 3), 0.5)):
        start = pipelines.initialize(image, k, "gradient")
        fitted = fit_function(image, start, steps=10, options=FitOptions(respawn=1.0))
        assert fitted.gaussians.packed().isfinite().all() and len(fitted.gaussians) == k


def test_memory_grows_to_the_betas_of_the_options():
    schedule = Schedule(FitOptions())
    assert schedule.betas(1) == (0.5, 0.6) and schedule.betas(10**4) == (0.9, 0.9)
    found = [schedule.betas(n) for n in range(1, 200)]
    assert found == sorted(found)
    constant = Schedule(FitOptions(beta1=0.9, beta2=0.999, growing_memory=False))
    assert {constant.betas(n) for n in (1, 2, 100)} == {(0.9, 0.999)}
    short = Schedule(FitOptions(beta1=0.3, beta2=0.4))
    assert {short.betas(n) for n in (1, 2, 100)} == {(0.3, 0.4)}


@pytest.mark.parametrize("growing", [True, False])
def test_averages_of_constant_gradients_are_unbiased_at_every_step(growing):
    options = FitOptions(growing_memory=growing)
    schedule, first, second = Schedule(options), 0.0, 0.0
    for number in range(1, 100):
        rates = schedule.rates(number, 1.0)
        first = rates["beta1"] * first + (1 - rates["beta1"]) * 3.0
        second = rates["beta2"] * second + (1 - rates["beta2"]) * 9.0
        moved = rates["color"] * first / math.sqrt(second * rates["correction2"])
        assert moved == pytest.approx(options.color, rel=1e-5)
        begun = min(1, 1 / 2 + number / 120) if growing else 1
        assert rates["xy"] / rates["color"] == pytest.approx(begun * options.xy / options.color)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "much", None])
def test_a_bad_share_is_named(value):
    with pytest.raises(ValueError, match="respawn"):
        FitOptions(respawn=value)
