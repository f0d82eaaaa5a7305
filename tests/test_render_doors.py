"""The renderer as torch and scripts call it: graphs, loops, types, other backends and runtimes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import environment, scatter
from test_render import SUM

import pipelines
import taichi2dgs
from taichi2dgs import Gaussians
from taichi2dgs.neighbours import neighbour_distances
from taichi2dgs.rendering import reference
from taichi2dgs.rendering.workspace import Workspace

OTHER_BACKEND = """
import sys, torch, taichi2dgs
taichi2dgs.init("cpu")
image = taichi2dgs.load(sys.argv[1]).render()
torch.save(image, sys.argv[2])
"""


def test_photograph_renders_alike_on_cpu_and_on_this_backend(backend, kodak, tmp_path):
    """Pixels agree within 1e-3; 1.2e-7 was seen between CPU and SwiftShader."""
    if backend == "cpu":
        pytest.skip("compares another backend with the CPU")
    photograph = taichi2dgs.read_image(kodak[22])[100:228, 300:492].contiguous()
    start = pipelines.initialize(photograph, 5000, "gradient")
    fitted = taichi2dgs.fit(photograph, start, steps=10).gaussians
    fitted.save(tmp_path / "g.t2d", "lossless")
    command = [sys.executable, "-c", OTHER_BACKEND, tmp_path / "g.t2d", tmp_path / "cpu.pt"]
    subprocess.run(list(map(str, command)), check=True, env=environment())
    difference = (fitted.render() - torch.load(tmp_path / "cpu.pt")).abs().max()
    assert float(difference) < 1e-3


def test_uses_a_runtime_that_the_script_started():
    """A script's own ti.init, fast_math included, is used as it is and gives the same picture."""
    script = """
import taichi as ti
ti.init(arch=ti.cpu, fast_math=True, cpu_max_num_threads=1)
from conftest import scatter
import taichi2dgs
print(taichi2dgs.init(), float((scatter(80, (30, 30)).render()
      - taichi2dgs.reference.render(scatter(80, (30, 30)))).abs().max()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    backend, error = done.stdout.split()[-2:]
    assert backend == "cpu" and float(error) < 1e-4


def test_a_gradient_of_a_gradient_is_an_error():
    packed = scatter(4, (8, 8), channels=1).packed().requires_grad_()
    image = Gaussians.from_packed(packed, (8, 8)).render(**SUM)
    (gradient,) = torch.autograd.grad(image.square().sum(), packed, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_torchs_default_type_does_not_matter():
    g = scatter(30, (12, 12), channels=1)
    before = g.render(**SUM), neighbour_distances(g.xy), reference.render(g, (6, 6), **SUM)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        after = g.render(**SUM), neighbour_distances(g.xy), reference.render(g, (6, 6), **SUM)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(one, other)


def test_a_compiled_function_renders_and_differentiates():
    """`torch.compile` cannot look into Taichi; it calls the renderer between two graphs."""
    g = scatter(8, (9, 9), channels=1)

    def work(packed):
        return Gaussians.from_packed(packed * 1.0, g.size).render(**SUM).sin()

    plain, compiled = g.packed().requires_grad_(), g.packed().requires_grad_()
    work(plain).sum().backward()
    image = torch.compile(work, backend="eager")(compiled)
    image.sum().backward()
    assert torch.equal(image, work(plain)) and torch.allclose(plain.grad, compiled.grad)


def test_no_gaussians_render_black_and_keep_the_graph():
    nothing = scatter(0, (5, 7))
    leaf = nothing.xy.clone().requires_grad_()
    image = Gaussians(leaf, nothing.log_scale, nothing.theta, nothing.color, (5, 7)).render()
    assert image.shape == (5, 7, 3) and not image.any()
    image.sum().backward()
    assert leaf.grad.shape == (0, 2)


def test_backward_twice_and_without_grad():
    g = scatter(30, (16, 16))
    assert not g.render().requires_grad
    leaf = g.color.clone().requires_grad_()
    image = Gaussians(g.xy, g.log_scale, g.theta, leaf, g.size).render()
    image.sum().backward(retain_graph=True)
    once = leaf.grad.clone()
    image.sum().backward()
    torch.testing.assert_close(leaf.grad, 2 * once)


def test_a_loop_reuses_its_workspace_and_renders_of_one_graph_share_none(monkeypatch):
    made, init = [], Workspace.__init__
    monkeypatch.setattr(
        Workspace, "__init__", lambda self, *rest: (made.append(self), init(self, *rest))[1]
    )
    cotangent = torch.rand(33, 40, 3, generator=torch.Generator().manual_seed(1))

    def gradient(*seeds: int) -> list[torch.Tensor]:
        leaves = [scatter(90, (33, 40), seed=s).color.requires_grad_() for s in seeds]
        pictures = [
            replace(scatter(90, (33, 40), seed=s), color=leaf).render()
            for s, leaf in zip(seeds, leaves, strict=True)
        ]
        (sum(pictures) * cotangent).sum().backward()
        return [leaf.grad for leaf in leaves]

    alone = [gradient(seed)[0] for seed in (0, 1, 2)]
    assert len(made) == 1
    together = gradient(0, 1, 2)
    assert len(made) == 3
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_accepts_non_contiguous_parameters_and_cotangents():
    g = scatter(50, (20, 20))
    strided = Gaussians(g.xy.T.contiguous().T, g.log_scale, g.theta, g.color, g.size)
    assert torch.equal(strided.render(), g.render())
    leaf = g.color.clone().requires_grad_()
    Gaussians(g.xy, g.log_scale, g.theta, leaf, g.size).render().permute(2, 1, 0).sum().backward()
    assert leaf.grad.abs().sum() > 0


def test_double_is_refused_where_the_backend_lacks_it(backend):
    if backend != "vulkan":
        pytest.skip("this backend has float64")
    with pytest.raises(ValueError, match="float64"):
        scatter(5, (8, 8), dtype=torch.float64).render()
