"""The peers' methods on this renderer: their parts, and that they learn."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import scatter

import taichi2dgs
from pipelines import baselines, configuration
from pipelines.baselines import parameters, schedule, starts
from pipelines.baselines.adan import Adan
from pipelines.baselines.triangles import triangulated
from pipelines.starts import sampling
from taichi2dgs import RenderSettings, metrics
from taichi2dgs.fitting.budget import Budget
from taichi2dgs.rendering import reference
from taichi2dgs.rendering.autograd import render_packed
from taichi2dgs.rendering.view import View
from taichi2dgs.storage import files

SIZE = (33, 41)
GOLDENS = Path(__file__).parent / "expected/baselines.json"  # python tests/test_baselines.py


@pytest.fixture(scope="module")
def crop() -> torch.Tensor:
    pytest.importorskip("skimage.data", reason="needs the extra 'demo' for a photograph")
    return astronaut()


def astronaut() -> torch.Tensor:
    return files.read_image("sample:astronaut")[40:168, 160:288].contiguous()


def psnr_of(name: str, image: torch.Tensor) -> float:
    """PSNR in dB of what a method makes of 1,500 Gaussians in 50 iterations."""
    return baselines.run(image, 1500, baselines.load(name), steps=50).history[-1].psnr


@pytest.mark.parametrize("blend", ["normalized", "sum"])
def test_cholesky_shapes_render_as_their_gaussians_do(blend):
    """Images and gradients are compared with the float64 reference, by an eigendecomposition."""
    g = scatter(60, SIZE)
    packed = torch.cat([g.xy, parameters.cholesky_of(g), g.color], 1)
    settings, view = RenderSettings(blend=blend), View.of(SIZE, None, None)
    cotangent = torch.randn(*SIZE, 3, generator=torch.Generator().manual_seed(1))

    leaf = packed.clone().requires_grad_()
    image = render_packed(leaf, view, settings, "cholesky")
    image.backward(cotangent)

    double = packed.double().requires_grad_()
    expected = reference.render(parameters.from_cholesky(double, SIZE), blend=blend)
    expected.backward(cotangent.double())
    assert leaf.grad is not None and double.grad is not None
    torch.testing.assert_close(image.double(), expected, atol=1e-5, rtol=1e-4)
    scale = double.grad.abs().amax(0)
    assert float(((leaf.grad - double.grad).abs().amax(0) / scale).max()) < 1e-4


@pytest.mark.parametrize("name", sorted(parameters.PARAMETERS))
def test_parameterisations_keep_what_they_start_from(name):
    g = scatter(50, SIZE, margin=-0.05, log_scale=(-0.6, 1.5))
    kind = parameters.PARAMETERS[name]
    packed = kind.pack(kind.split(g), parameters.extent_of(SIZE, g.xy))
    back = render_packed(packed, View.of(SIZE, None, None), RenderSettings(), kind.shape)
    torch.testing.assert_close(back, g.render(), atol=2e-3, rtol=0)


def test_from_cholesky_inverts_cholesky_of():
    g = scatter(50, SIZE)
    packed = torch.cat([g.xy, parameters.cholesky_of(g), g.color], 1)
    back = parameters.cholesky_of(parameters.from_cholesky(packed, SIZE))
    torch.testing.assert_close(back, packed[:, 2:5], atol=1e-4, rtol=1e-4)


def test_adan_takes_the_steps_of_its_paper():
    """The paper's Algorithm 1 is written out in plain numbers here, for the function x^2 / 2."""
    x = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    optimizer = Adan([x], lr=0.1)
    m = v = n = 0.0
    value, before = 3.0, 3.0
    for step in range(1, 6):
        optimizer.zero_grad()
        (x**2 / 2).sum().backward()
        optimizer.step()
        grad = value
        m = 0.98 * m + 0.02 * grad
        v = 0.92 * v + 0.08 * (grad - before)
        n = 0.99 * n + 0.01 * (grad + 0.92 * (grad - before)) ** 2
        towards = m / (1 - 0.98**step) + 0.92 * v / (1 - 0.92**step)
        value -= 0.1 * towards / (math.sqrt(n / (1 - 0.99**step)) + 1e-8)
        before = grad
        assert x.item() == pytest.approx(value, rel=1e-12)


def test_saliency_finds_what_stands_out():
    image = torch.rand(96, 128, 3, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.4
    image[30:40, 80:92] = torch.tensor([1.0, 0.9, 0.2])
    saliency = starts.spectral_residual(image)
    assert saliency.shape == (96, 128) and float(saliency.min()) >= 0
    row, column = divmod(int(saliency.argmax()), 128)
    assert 24 <= row < 46 and 74 <= column < 98


@pytest.mark.parametrize("name", baselines.names())
def test_each_method_learns(name, crop):
    method = baselines.load(name)
    assert method.about
    result = baselines.run(crop[:64, :64], 400, method, steps=30)
    assert result.history[-1].psnr > result.history[0].psnr + 0.5
    assert {0, 25, 30} <= {report.step for report in result.history} or method.fused
    assert result.gaussians.render().shape == (64, 64, 3)


@pytest.mark.parametrize("name", baselines.names())
def test_a_saved_file_blends_as_it_was_fitted(tmp_path, name, crop):
    image = crop[:48, :40].contiguous()
    result = baselines.run(image, 200, baselines.load(name), steps=3)
    result.gaussians.save(tmp_path / "a.t2d", "lossless")
    back = taichi2dgs.load(tmp_path / "a.t2d").render()
    assert metrics.psnr(back, image) == pytest.approx(result.history[-1].psnr, abs=0.01)


@pytest.mark.parametrize("name", baselines.names())
def test_each_method_ends_where_it_did(name, crop, backend):
    """CPUs round differently, but hardly draw other samples: results agree within 0.05 dB."""
    if backend != "cpu":
        pytest.skip("pinned on CPU only")
    assert psnr_of(name, crop) == pytest.approx(json.loads(GOLDENS.read_text())[name], abs=0.05)


def test_a_step_takes_nothing_to_the_cpu(crop, monkeypatch):
    """On a GPU, a copy to the host in each step would take more time than the step."""
    method = baselines.load("image-gs-gradient")
    run = baselines.method._Run(crop[:32, :32].contiguous(), 60, method, 0, Budget(1), None)
    run._report(run.render())
    run.step = 1  # at this step neither a report nor a measurement for the plateau is due
    monkeypatch.setattr(
        baselines.method,
        "render_packed",
        lambda *_: crop[:32, :32] + 0 * sum(leaf.sum() for leaf in run.leaves.values()),
    )
    for name in ("cpu", "numpy", "tolist", "__float__", "__bool__"):  # not item, which Adam calls
        monkeypatch.setattr(torch.Tensor, name, lambda *_, name=name: pytest.fail(f"calls {name}"))
    run.waited = math.inf
    run._elapsed = lambda: 0.0
    run.history[-1] = replace(run.history[-1], seconds=1.0)
    run._advance()


def test_the_clock_waits_for_the_device(crop, monkeypatch, watch):
    """The device of this test takes 50 ms to finish when it is waited for."""
    monkeypatch.setattr(baselines.method.runtime, "sync", lambda: watch.sleep(0.05))
    method = baselines.load("image-gs-gradient")
    result = baselines.run(crop[:32, :32], 60, method, seconds=0.3)  # it waits for each report
    assert [report.step for report in result.history] == list(range(6))
    seconds = [report.seconds for report in result.history]
    assert seconds == pytest.approx([0.05 + 0.06 * step for step in range(6)])
    monkeypatch.setattr(baselines.method, "REPORT_GROWTH", 100)
    result = baselines.run(crop[:32, :32], 60, method, seconds=0.3)  # and after every 20 ms
    assert result.history[-1].step == 8


def test_reports_do_not_count_against_the_seconds(crop, watch):
    method = baselines.load("image-gs-gradient")
    result = baselines.run(crop[:32, :32], 60, method, steps=3, on_report=lambda _: watch.sleep(9))
    assert len(result.history) > 2 and result.seconds == pytest.approx(0.03)


def test_similarity_is_that_of_the_package(crop):
    package = pytest.importorskip("pytorch_msssim", reason="needs the extra 'bench'")
    image, other = crop[:40, :50], crop[5:45, 3:53]
    planes = [one.permute(2, 0, 1)[None] for one in (other, image)]
    expected = package.ssim(*planes, data_range=1.0)
    torch.testing.assert_close(baselines.similarity.similarity_to(image)(other), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"method": "ours"}, "method='ours'"), ({"k": "9"}, "k='9'"), ({"k": 0}, "k=0"),
     ({"seed": None}, "seed=None"), ({"seed": -1}, "seed=-1"), ({"seed": 1 << 70}, "seed="),
     ({"image": None}, "image"), ({"image": torch.zeros(4)}, "image"), ({"steps": None}, "steps")],
)  # fmt: skip
@pytest.mark.parametrize("name", ["gaussianimage-rs", "ours-random"])
def test_bad_arguments_of_a_run_are_named(arguments, message, name):
    given = {
        "image": torch.full((8, 8, 3), 0.5),
        "k": 5,
        "method": baselines.load(name),
        "steps": 1,
        **arguments,
    }
    with pytest.raises(ValueError, match=message):
        baselines.run(given.pop("image"), given.pop("k"), given.pop("method"), **given)


def test_rates_fall_when_quality_stands_still_and_all_gaussians_are_there():
    image = torch.full((4, 4, 3), 0.5)
    plateau = schedule.Plateau(every=1, patience=2, psnr=0.1, ssim=0.01, factor=0.1, times=1)
    similarity = iter([0.1, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3])
    rates = schedule.Rates(0, plateau, image, lambda _: torch.tensor(next(similarity)))
    better = [image + 0.1 / step for step in (1, 2, 3)]
    while_growing = [rates.after(1, better[0], False) for _ in range(5)]
    assert while_growing == [1.0] * 5
    found = [
        rates.after(step, out, True) for step, out in enumerate([*better, *[better[2]] * 4], 1)
    ]
    assert found == [1, 1, 1, 1, 0.1, 0.1, 0.1]  # after two steps without a gain, and only once
    assert [schedule.Rates(2, None, image, None).after(s, image, True) for s in range(5)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
    ]


def test_gaussians_are_added_where_the_error_is(crop):
    method = baselines.load("image-gs-gradient")
    growing = baselines.Method(
        **{**vars(method), "growth": {"first": 0.5, "every": 4, "share": 0.25}}
    )
    results = {
        steps: baselines.run(crop[:48, :48], 200, growing, steps=steps)
        for steps in (4, 5, 8, 9, 13)
    }  # no Gaussians are added at the end of a fit
    assert [len(r.gaussians) for r in results.values()] == [100, 150, 150, 200, 200]
    psnr = {report.step: report.psnr for report in results[5].history}
    assert psnr[4] > psnr[5]  # new Gaussians lower the PSNR at first


def test_gaussians_begin_as_large_as_told(crop):
    """The scale holds for Gaussians of the start and for those that are added later."""
    settings = vars(baselines.load("image-gs-gradient"))
    grown = []
    for scale in (1.0, 0.3):
        method = baselines.Method(
            **{**settings, "scale": scale, "growth": {"first": 0.5, "every": 1, "share": 0.5},
               "rates": {"xy": 0.0, "shape": 0.0, "theta": 0.0, "color": 0.0}}
        )  # fmt: skip
        grown.append(baselines.run(crop[:48, :48], 200, method, steps=2).gaussians)
    assert len(grown[0]) == len(grown[1]) == 200
    torch.testing.assert_close(grown[1].log_scale, grown[0].log_scale + math.log(0.3))


@pytest.mark.parametrize(
    ("text", "message"),
    [("start: nowhere", "start='nowhere'"), ("scale: 0", "scale=0"),
     ("start: [random]", r"start=\['random'\]"), ("sampler: [top-k]\nfused: true", "sampler="),
     ("parameters: polar", "parameters='polar'"), ("speed: 3", "unknown: speed"),
     ("growth: {often: 1}\nfused: true", "often"),
     ("rates: {xy: 1}", "rates=.*expected one for each of")],
)  # fmt: skip
def test_bad_methods_are_named(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ValueError, match=message):
        baselines.load(str(path))
    with pytest.raises(ValueError, match="nobody: no such file or configuration"):
        baselines.load("nobody")


def test_shipped_methods_are_those_of_the_configurations():
    assert set(baselines.names()) == set(configuration.shipped("baselines"))
    assert len(baselines.names()) >= 11
    assert set(baselines.names()) == set(json.loads(GOLDENS.read_text()))


def test_triangles_shape_gaussians_along_their_edges(monkeypatch):
    """On points twice as far apart down as across, every Gaussian is twice as long down."""
    pytest.importorskip("scipy", reason="needs the extra 'bench'")
    image = torch.rand(40, 40, 3, generator=torch.Generator().manual_seed(0))
    pixels = torch.tensor([y * 40 + x for y in range(2, 40, 6) for x in range(2, 40, 3)])
    monkeypatch.setattr(sampling, "sample", lambda *arguments: [pixels])
    made = triangulated(image, len(pixels), seed=0)
    inner = ((made.xy - 20).abs() < 12).all(1)
    sizes = made.log_scale[inner].exp()
    assert len(sizes) > 10 and (sizes[:, 0] / sizes[:, 1]).median() > 1.6
    assert (made.theta[inner].sin().abs() > 0.8).all()  # the long axis points down
    assert (made.color == image.reshape(-1, 3)[pixels]).all()


@pytest.mark.parametrize("k", [1, 2, 40])
def test_triangles_take_any_points(k):
    pytest.importorskip("scipy", reason="needs the extra 'bench'")
    made = triangulated(torch.rand(1, 9, 3), k, seed=0)  # on a line, some on the same pixel
    assert len(made) == k and torch.isfinite(made.packed()).all()


def test_an_adaptive_method_has_more_gaussians_for_more_detail(crop):
    method = baselines.load("ours-dithered-adaptive")
    smooth = crop.mean((0, 1), keepdim=True) + 0.3 * (crop - crop.mean((0, 1), keepdim=True))
    counts = [
        len(baselines.run(image[:64, :64].contiguous(), 400, method, steps=0).gaussians)
        for image in (smooth, crop)
    ]
    assert counts[1] == pytest.approx(counts[0] / 0.3, rel=0.05)


if __name__ == "__main__":
    taichi2dgs.init("cpu")
    psnrs = {name: round(psnr_of(name, astronaut()), 3) for name in baselines.names()}
    GOLDENS.parent.mkdir(exist_ok=True)
    GOLDENS.write_text(json.dumps(psnrs, indent=1) + "\n")


def test_a_reduction_lowers_the_rates_when_the_loss_stands_still(photograph):
    """The first loss is lower than none, the next three are not lower by the threshold."""
    method = baselines.load("fast-2dgs-published")
    never = {"factor": 0.5, "patience": 2, "threshold": 0.99, "least": 8e-4}
    run = baselines.method._Run(
        photograph[:24, :30], 20, replace(method, start="random", sampler=None, reduction=never),
        0, Budget(8), None,
    )  # fmt: skip
    run._report(run.render())
    rates = []
    for _ in range(8):
        run._advance()
        rates.append({group["lr"] for group in run.optimizer.param_groups})
    assert rates == [{2e-3}] * 3 + [{1e-3}] * 3 + [{8e-4}] * 2


def test_a_reduction_goes_alone():
    method = baselines.load("fast-2dgs-published")
    with pytest.raises(ValueError, match="reduction goes with none of halve_every"):
        replace(method, halve_every=5)
    with pytest.raises(ValueError, match="factor=1"):
        replace(method, reduction={"factor": 1})
