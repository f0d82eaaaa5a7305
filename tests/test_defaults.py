"""Starts and methods do not depend on torch's global defaults, nor do they change them."""

import subprocess
import sys

import pytest
import torch
from conftest import environment

import pipelines
from nets import weights
from pipelines import baselines
from pipelines.baselines import parameters, starts
from pipelines.starts import named, projection
from taichi2dgs import Gaussians


@pytest.fixture(params=["float64", "meta"])
def other_default(request):
    """Set another default type, or the meta device, on which tensors have no values."""
    if request.param == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """[2, 3, 40, 50]"""
    return torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def expected(picture) -> dict[str, list[torch.Tensor]]:
    """Starts that were made with torch's own defaults."""
    return {
        init: [g.packed() for g in pipelines.initialize_batch(picture, [30, 90], init)]
        for init in pipelines.STARTS
    }


@pytest.mark.parametrize("init", sorted(pipelines.STARTS))
def test_starts_do_not_depend_on_torchs_defaults(picture, expected, other_default, init):
    named._loaded.cache_clear()
    for one, before in zip(
        pipelines.initialize_batch(picture, [30, 90], init), expected[init], strict=True
    ):
        assert one.xy.dtype == torch.float32 and torch.equal(one.packed(), before)


def test_a_network_loaded_under_another_default_stays_right(picture, expected):
    named._loaded.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        pipelines.initialize_batch(picture, 9)
    finally:
        torch.set_default_dtype(torch.float32)
    again = pipelines.initialize_batch(picture, [30, 90])
    assert all(torch.equal(g.packed(), e) for g, e in zip(again, expected["prior"], strict=True))


def test_projections_do_not_depend_on_torchs_defaults(other_default):
    xy = torch.full((3, 2), 4.5, device="cpu", dtype=torch.float32)
    heat = projection.project(xy, (9, 9))
    assert heat.dtype == torch.float32 and float(heat.max()) == float(heat[4, 4]) == 1


@pytest.mark.parametrize(
    "name",
    [
        "image-gs-gradient",
        "image-gs-saliency",
        "gaussianimage-rs",
        "gaussianimage-cholesky",
        "fast-2dgs-published",
    ],
)
def test_methods_do_not_depend_on_torchs_defaults(picture, other_default, name):
    settings = vars(baselines.load(name))
    growth = settings["growth"] and {"first": 0.5, "every": 2, "share": 0.5}
    method = baselines.Method(**{**settings, "growth": growth})
    image = picture[0].permute(1, 2, 0)
    result = baselines.run(image, 60, method, steps=4)
    assert result.gaussians.xy.dtype == torch.float32
    assert result.gaussians.xy.device == image.device and len(result.gaussians) == 60


def test_the_first_prior_start_leaves_torchs_random_numbers_alone(picture):
    named._loaded.cache_clear()
    before = torch.get_rng_state()
    pipelines.initialize_batch(picture, 9, "prior")
    assert torch.equal(torch.get_rng_state(), before)
    for name in weights.NETS:
        weights.load(name)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(set(starts.PEERS) - {"image-gs-saliency", "instant-gi"}))
def test_peers_begin_on_the_device_of_the_image(name, monkeypatch):
    """A device without values stands for a GPU; there is none that every machine has."""
    monkeypatch.setattr(Gaussians, "__post_init__", lambda self: None)  # it would look at values
    monkeypatch.setattr(
        starts.sampling,
        "sample",
        lambda maps, counts, *_: [torch.zeros(count, dtype=torch.int64) for count in counts],
    )
    start = starts.PEERS[name](torch.rand(32, 40, 3, device="meta"), 20, 0)
    assert {tensor.device.type for _, tensor in start._tensors()} == {"meta"}
    extent = parameters.extent_of(start.size, start.xy)
    for kind in parameters.PARAMETERS.values():
        assert kind.pack(kind.split(start), extent).device.type == "meta"


def test_import_leaves_torchs_state_alone():
    script = """
import torch
before = torch.get_rng_state()
import taichi2dgs, pipelines
assert torch.equal(before, torch.get_rng_state())
assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
