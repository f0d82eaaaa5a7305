"""Tensors on a GPU: everything that takes some gives back what it gives for those of the CPU."""

import pytest
import torch

import pipelines
import taichi2dgs
from taichi2dgs import metrics
from taichi2dgs.draw import density
from taichi2dgs.fitting.colors import solve_colors
from taichi2dgs.rendering.mips import render_mips

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch sees")


@pytest.fixture
def image(photograph):
    return photograph[:48, :64].contiguous()


@pytest.fixture
def start(image):
    return pipelines.initialize(image, 300, "gradient")


def same(one, other, most=1e-4):
    assert one.device.type == DEVICE
    assert (one.cpu() - other).abs().max() < most


@pytest.mark.parametrize("name", pipelines.STARTS)
def test_starts(image, name):
    made = pipelines.initialize(image.to(DEVICE), 300, name)
    # Networks round otherwise on a GPU, and a pixel may be drawn beside the other's.
    other = pipelines.initialize(image, 300, name)
    assert made.xy.device.type == DEVICE and len(made) == len(other)
    assert abs(metrics.psnr(made.render().cpu(), image) - metrics.psnr(other.render(), image)) < 0.5


def test_renders_and_their_gradients(start):
    packed = [start.packed().to(device).requires_grad_() for device in (DEVICE, "cpu")]
    images = [taichi2dgs.Gaussians.from_packed(one, start.size).render() for one in packed]
    same(*images)
    for made in images:
        made.square().sum().backward()
    same(packed[0].grad, packed[1].grad, 1e-3)


def test_fits_and_solved_colors(image, start):
    moved, target = start.to(DEVICE), image.to(DEVICE)
    same(solve_colors(target, moved, 2).color, solve_colors(image, start, 2).color, 1e-3)
    fits = [
        taichi2dgs.fit(target, moved, steps=5).gaussians,
        taichi2dgs.fit(image, start, steps=5).gaussians,
    ]
    same(fits[0].render(), fits[1].render(), 1e-2)
    assert taichi2dgs.encode(target, k=300, steps=0).xy.device.type == DEVICE


def test_edits_files_and_drawings(start, tmp_path):
    moved, region = start.to(DEVICE), torch.rand(start.size) < 0.5
    for change in (
        lambda g: g.select(region),
        lambda g: g.transform([[0.5, 0.1, 2.0], [0.0, 0.8, 1.0]], size=(30, 40)),
        lambda g: g.concat(g[:10]).recolor(torch.eye(3) / 2),
        lambda g: g[torch.arange(0, len(g), 3)],
    ):
        same(change(moved).packed(), change(start).packed())
    for name, one in (("moved", moved), ("start", start)):
        one.save(tmp_path / f"{name}.t2d", "small")
    assert (tmp_path / "moved.t2d").read_bytes() == (tmp_path / "start.t2d").read_bytes()
    assert (density(moved).cpu() == density(start)).all()
    for one, other in zip(render_mips(moved), render_mips(start), strict=True):
        same(one, other)
