"""Images of up to 16 channels."""

import dataclasses
import logging

import pytest
import torch
from conftest import scatter
from test_fit import adam_by_torch

import pipelines
from taichi2dgs import FitOptions, RenderSettings, fit, metrics
from taichi2dgs.rendering import reference

CHANNELS = 6


@pytest.mark.parametrize("blend", ["normalized", "sum"])
def test_many_channels_render_and_push_back_as_the_reference(blend):
    """Rounding to float32 gave errors of 2e-6, and of 1e-5 of the largest gradient."""
    g = scatter(150, (21, 43), channels=CHANNELS)
    cotangent = torch.rand(21, 43, CHANNELS, generator=torch.Generator().manual_seed(1))
    fast, slow = (g.to(dtype=kind) for kind in (torch.float32, torch.float64))
    gradients = []
    for one, render in ((fast, fast.render), (slow, lambda **k: reference.render(slow, **k))):
        leaves = [t.requires_grad_() for _, t in one._tensors()]
        image = render(blend=blend)
        (image * cotangent.to(image)).sum().backward()
        gradients.append((image.detach(), [leaf.grad for leaf in leaves]))
    (image, ours), (expected, theirs) = gradients
    assert float((image - expected).abs().max()) < 1e-4
    for our, their in zip(ours, theirs, strict=True):
        assert float((our - their).abs().max()) < 1e-3 * float(their.abs().max())


def test_many_channels_are_fitted_as_by_adam_through_the_reference(photograph, caplog):
    """Tolerances are those of the same test of three channels in test_fit.py."""
    image = torch.cat([photograph[:32, :40], photograph[40:72, 60:100]], 2)
    settings = RenderSettings(top_k=9)  # no other test has it: kernels compile
    options = FitOptions(settings=settings, growing_memory=False, respawn=0)
    start = pipelines.initialize(image, 120, "gradient")
    start = dataclasses.replace(start, theta=torch.linspace(0, 3, 120))
    start.log_scale[:, 1] += 0.3
    with caplog.at_level(logging.INFO, "taichi2dgs"):
        result = fit(image, start, steps=5, options=options)
        fit(image, start, steps=0, options=options)
    said = [record.message for record in caplog.records if "compiling" in record.message]
    assert len(said) == 1 and f"{CHANNELS} channels" in said[0]
    expected, fitted = adam_by_torch(image.double(), start, 5, options), result.gaussians
    for name in ("xy", "log_scale", "theta", "color"):
        moved = (getattr(fitted, name) - getattr(start, name)).abs().median()
        error = (getattr(fitted, name) - getattr(expected, name)).abs()
        assert float(error.median()) < 1e-4 * float(moved)
        assert float(error.quantile(0.99)) < 1e-3 * float(moved)
    seen = metrics.psnr(fitted.render(top_k=9), image)
    assert result.history[-1].psnr == pytest.approx(seen, abs=1e-3)
