"""Kernels for cores: how workers share tiles, sorting networks, ties, and the longest lists."""

import itertools

import pytest
import torch
from conftest import scatter

import taichi2dgs
from taichi2dgs import FitOptions, limits, runtime
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.kernels import cores_topk
from taichi2dgs.rendering import passes


@pytest.fixture(autouse=True)
def needs_cores(backend):
    if backend != "cpu":
        pytest.skip("these kernels are for cores")


def engine_of(gaussians) -> Engine:
    image = torch.rand(*gaussians.size, gaussians.channels)
    return Engine([Picture(image, gaussians.packed())], FitOptions(settings=gaussians.settings))


def test_two_workers_share_the_tiles_of_a_small_picture(monkeypatch):
    """Taichi gives a thread 512 iterations at least, and 128x128 pixels have 64 tiles."""
    monkeypatch.setattr(runtime, "threads", lambda: 2)
    engine = engine_of(scatter(3000, (128, 128)))
    shares = []
    for number in range(1, 31):
        engine.step(number, 0.0)
        runtime.sync()
        shares.append(engine.work.shares.to_numpy()[1:].tolist())
    assert engine.poll() and engine.done == 30
    assert all(sum(share) == 64 and len(share) == 2 for share in shares)
    assert any(min(share) > 0 for share in shares)  # on a busy machine, one thread may come late


@pytest.mark.parametrize("threads", [1, 3, 64])
def test_results_do_not_depend_on_the_number_of_workers(threads, monkeypatch):
    start, image = scatter(700, (70, 90)), torch.rand(70, 90, 3)
    expected = taichi2dgs.fit(image, start, steps=8)
    monkeypatch.setattr(runtime, "threads", lambda: threads)
    result = taichi2dgs.fit(image, start, steps=8)
    assert torch.equal(result.gaussians.packed(), expected.gaussians.packed())
    assert result.history[-1].psnr == expected.history[-1].psnr


def test_a_step_is_launched_with_the_arrays_that_are_there_then():
    """Launches are prepared once, and anew where an array was put in another's place."""
    g, image = scatter(60, (20, 30)), torch.rand(20, 30, 3)
    engine = Engine([Picture(image, g.packed())], FitOptions(settings=g.settings))
    engine.step(1, 1.0)
    other = scatter(60, (20, 30), seed=9).packed()
    engine.packed = engine.work.rows(other.numpy())
    engine.step(2, 0.0)
    engine.poll()
    assert torch.equal(engine.params, other)
    engine.step(3, 1.0)
    engine.poll()
    assert engine.done == 3 and not torch.equal(engine.params, other)
    engine.work.reserve(engine.work.capacity + 1)  # frees what the last launch was given
    engine.step(4, 1.0)
    assert engine.poll() and engine.done == 4


def test_no_worker_leaves_anything_behind_for_its_next_tile():
    """Two renders of different Gaussians share a workspace; the second is checked."""
    first, second = scatter(400, (60, 90), seed=1), scatter(90, (60, 90), seed=2)
    cotangent = torch.rand(60, 90, 3)

    def gradient(g):
        leaf = g.color.clone().requires_grad_()
        taichi2dgs.Gaussians(g.xy, g.log_scale, g.theta, leaf, g.size).render().backward(cotangent)
        assert leaf.grad is not None
        return leaf.grad

    passes._idle.clear()
    alone = gradient(second)
    gradient(first)
    assert torch.equal(gradient(second), alone)


def test_one_tile_full_of_gaussians_makes_room_for_its_list():
    """All other tiles are empty, so that the longest list is far above the mean."""
    g = scatter(600, (200, 200), margin=0, log_scale=(-3.0, -2.0))
    crowd = taichi2dgs.Gaussians(g.xy / 200 * 10, g.log_scale, g.theta, g.color, g.size)
    difference = crowd.render() - taichi2dgs.reference.render(crowd)
    assert float(difference.abs().max()) < 1e-5


@pytest.mark.parametrize("before", range(9))
def test_a_network_merges_every_pair_of_runs(before):
    """By the 0-1 principle: what orders zeros and ones orders everything."""
    pairs, order = cores_topk.merging(list(range(before)), list(range(before, before + 8)))
    for few, many in itertools.product(range(before + 1), range(9)):
        held = [0] * few + [1] * (before - few) + [0] * many + [1] * (8 - many)
        for a, b in pairs:
            held[a], held[b] = min(held[a], held[b]), max(held[a], held[b])
        assert [held[place] for place in order] == sorted(held)


def test_groups_are_sorted_and_bitonic_runs_become_sorted():
    for bits in itertools.product((0, 1), repeat=8):
        held = list(bits)
        for a, b in cores_topk.SORT:
            held[a], held[b] = min(held[a], held[b]), max(held[a], held[b])
        assert held == sorted(bits)
    for begin, end in itertools.combinations_with_replacement(range(9), 2):
        held = [int(begin <= place < end) for place in range(8)]
        total = sum(held)
        for a, b in cores_topk.BITONIC:
            held[a], held[b] = min(held[a], held[b]), max(held[a], held[b])
        assert held == [0] * (8 - total) + [1] * total


@pytest.mark.parametrize("top_k", [7, 8, 9, 13, 17, 64])
def test_matches_reference_by_network_and_by_insertion(top_k):
    g = scatter(500, (21, 30), log_scale=(0.5, 2.0))
    difference = g.render(top_k=top_k) - taichi2dgs.reference.render(g, top_k=top_k)
    assert float((difference.abs() < 1e-4).float().mean()) > 0.97  # rounding decides the rest


def test_ties_are_settled_in_every_lane_alone():
    """Twelve pairs of equal Gaussians: with K of 9, one of a pair counts where it comes first."""
    g = scatter(12, (18, 22), log_scale=(1.5, 2.5))
    order = torch.arange(12).repeat(2)
    twice = taichi2dgs.Gaussians(
        g.xy[order], g.log_scale[order], g.theta[order], torch.rand(24, 3), g.size
    )
    for top_k in (3, 9):
        expected = taichi2dgs.reference.render(twice, top_k=top_k)
        difference = (twice.render(top_k=top_k) - expected).abs()
        assert float((difference < 1e-4).float().mean()) > 0.99


def test_workers_need_no_more_than_can_be_indexed(monkeypatch):
    """Ten million entries in one tile leave fewer workers, or a MemoryError if none is left."""
    monkeypatch.setattr(runtime, "threads", lambda: 64)
    work = engine_of(scatter(9, (160, 160))).work
    assert work._workers() == 64
    work.longest = 10_000_000
    assert 1 <= work._workers() < 64
    assert work._workers() * work._depth() * 64 <= limits.MAX_VALUES
    work.longest = 100_000_000
    assert not work.allowed(1, True)
