"""The shipped prior: starts, ablations, encode."""

import json
import math

import numpy as np
import pytest
import torch

import pipelines
import taichi2dgs
from nets import weights
from nets.prior import Residuals
from nets.unet import Shape
from pipelines.batch import encode_all
from pipelines.encoding import SOLVED, Encoding
from pipelines.starts import named, place, prior
from taichi2dgs import FitOptions, metrics
from taichi2dgs.fitting.colors import solve_colors


@pytest.fixture(scope="session")
def photographs() -> list[torch.Tensor]:
    """Three photographs, each a 160x160 part. 3 x [160, 160, 3]"""
    data = pytest.importorskip("skimage.data", reason="needs the extra 'demo' for photographs")
    pictures = [
        data.astronaut()[40:200, 140:300],
        data.coffee()[100:260, 200:360],
        data.chelsea()[60:220, 80:240],
    ]
    return [torch.from_numpy(picture.astype(np.float32) / 255) for picture in pictures]


def k_of(image: torch.Tensor, per_512: int) -> int:
    return round(per_512 * image.shape[0] * image.shape[1] / 512**2)


def start_psnr(image: torch.Tensor, k: int, init: str) -> float:
    return metrics.psnr(pipelines.initialize(image, k, init).render(), image)


def test_prior_starts_above_the_gradient_and_attributes_count(photographs):
    means = {
        init: np.mean([start_psnr(image, k_of(image, 50_000), init) for image in photographs])
        for init in pipelines.STARTS
    }
    assert means["prior"] > means["gradient"] + 3
    assert means["prior"] > means["prior-no-attributes"] + 3
    assert means["prior"] > means["prior-no-position"] + 0.3
    assert means["prior-no-position"] > means["random"] + 2


def test_prior_stays_ahead_of_the_gradient_start_in_a_fit(photographs):
    psnr = {init: np.zeros(3) for init in ("prior", "gradient")}
    for init, means in psnr.items():
        for image in photographs:
            start = pipelines.initialize(image, k_of(image, 50_000), init, steps=100)
            options = taichi2dgs.FitOptions(report_every=25)
            history = taichi2dgs.fit(image, start, steps=100, options=options).history
            means += [r.psnr / len(photographs) for r in history if r.step in (25, 50, 100)]
    assert (psnr["prior"] - psnr["gradient"] > (0.4, 0.2, 0.1)).all()


def test_the_heatmap_goes_by_k(photographs):
    """Between few and many Gaussians a good part of the heat moves: a twelfth or more was seen."""
    net = weights.load("position")
    for image in photographs:
        batch = image.permute(2, 0, 1)[None]
        few, many = (
            prior.heatmaps(net, batch, [k_of(image, per_512)]) for per_512 in (10_000, 100_000)
        )
        assert float((few / few.sum() - many / many.sum()).abs().sum()) / 2 > 0.05


@pytest.mark.parametrize(
    ("per_512", "steps", "power"),
    [
        *((1000, 200, 1), (10_000, 200, 1), (50_000, 5, 1), (50_000, 50, 0.618)),
        *((50_000, 500, 0.382), (1000, 0, 1.3), (50_000, 0, 1.3)),
    ],
)
def test_starts_of_many_are_drawn_by_a_flatter_heatmap_before_a_fit(per_512, steps, power):
    heat = torch.rand(1, 1, 64, 128, generator=torch.Generator().manual_seed(0))
    density = prior.densities(lambda *_: heat, torch.zeros(1, 3, 64, 128), [per_512 // 32], steps)
    torch.testing.assert_close(density, heat[:, 0] ** power, rtol=0.01, atol=1e-3)


def test_offsets_are_in_units_of_the_scale():
    image = torch.full((8, 8, 3), 0.5)
    start = place.place(image, torch.tensor([9, 20, 63]))
    maps = [torch.full((channels, 8, 8), 0.1) for channels in (2, 2, 1, 3)]
    found = prior.moved(start, Residuals(*maps))
    torch.testing.assert_close(found.xy, start.xy + 0.1 * start.log_scale.exp())
    torch.testing.assert_close(found.log_scale, start.log_scale + 0.1)
    torch.testing.assert_close(found.color, start.color + 0.1)


def test_batch_equals_its_images_and_seed_decides(photographs):
    batch = torch.stack(photographs[:2]).permute(0, 3, 1, 2)
    both = pipelines.initialize_batch(batch, [300, 500], "prior", seed=3)
    for index, gaussians in enumerate(both):
        alone = pipelines.initialize(photographs[index], (300, 500)[index], "prior", 3 + index)
        torch.testing.assert_close(gaussians.packed(), alone.packed(), atol=1e-3, rtol=0)
    other = pipelines.initialize(photographs[0], 300, "prior", 4)
    assert not torch.equal(other.xy, both[0].xy)


@pytest.mark.parametrize("init", sorted(pipelines.STARTS))
@pytest.mark.parametrize(
    ("size", "channels", "k"),
    [((1, 1), 3, 4), ((33, 17), 1, 200), ((20, 45), 4, 1500), ((16, 16), 2, 9)],
)
def test_every_start_takes_any_picture(init, size, channels, k):
    image = torch.rand(*size, channels, generator=torch.Generator().manual_seed(0))
    gaussians = pipelines.initialize(image, k, init)
    assert len(gaussians) == k and gaussians.size == size and gaussians.channels == channels
    assert torch.isfinite(gaussians.render()).all()


@pytest.mark.parametrize("size", [(333, 500), (1365, 2048)])
def test_photographs_of_any_size_encode_without_resizing(size, backend):
    if backend != "cpu" and max(size) > 1000:
        pytest.skip("takes minutes on a software device")
    data = pytest.importorskip("skimage.data", reason="needs the extra 'demo' for a photograph")
    tiled = np.tile(data.astronaut(), (3, 4, 1))[: size[0], : size[1]]
    gaussians = taichi2dgs.encode(tiled, k=2000, steps=2, start="prior")
    assert gaussians.size == size and len(gaussians) == 2000


def test_encode_takes_every_kind_of_picture(tmp_path, photographs):
    from PIL import Image

    pixels = (photographs[0][:40, :50] * 255).round().to(torch.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(pixels.numpy()).save(path)
    kinds = [
        path,
        str(path),
        Image.open(path),
        pixels.numpy(),
        pixels,
        pixels.float() / 255,
        pixels.numpy() / 255.0,
    ]
    packed = [taichi2dgs.encode(kind, k=100, steps=0, start="prior").packed() for kind in kinds]
    for other in packed[1:]:
        torch.testing.assert_close(packed[0], other)
    assert taichi2dgs.encode(pixels.numpy()[..., 0], k=10, steps=1, start="prior").channels == 1


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (3, "image is a int"),
        (np.full((4, 4, 3), 9.0), r"floats from 9 to 9; expected \[0, 1\]"),
        (np.zeros(4), "shape"),
        ("absent.png", "absent.png: no such file"),
        (np.full((4, 4), np.nan), "expected"),
        (np.zeros((4, 4), dtype=np.int64), "int64"),
    ],
)
def test_encode_says_what_is_wrong_with_a_picture(image, message):
    with pytest.raises(ValueError, match=message):
        taichi2dgs.encode(image, k=5, steps=1)


def test_encode_starts_from_what_it_is_told_and_fits(photographs, watch):
    image = photographs[1][:64, :64]
    start = pipelines.initialize(image, 800, "prior", steps=0)
    alone = taichi2dgs.encode(image, 800, steps=0, start="prior")
    assert torch.equal(alone.packed(), solve_colors(image, start, SOLVED).packed())
    assert metrics.psnr(alone.render(), image) > metrics.psnr(start.render(), image) + 0.5
    assert torch.equal(taichi2dgs.encode(image, 800, seconds=0).packed(), alone.packed())
    found = taichi2dgs.encode(image, 800, steps=30, start="prior")
    assert metrics.psnr(found.render(), image) > metrics.psnr(start.render(), image) + 3
    quick = taichi2dgs.encode(image, 800, seconds=0.3, start="gradient")  # 30 steps by the watch
    assert metrics.psnr(quick.render(), image) > 25


def test_weights_of_ones_own(tmp_path, photographs):
    with pytest.raises(ValueError, match=r"position-<sha8>\.pt: no such files"):
        pipelines.initialize(photographs[0], 10, "prior", weights=tmp_path)
    for name in weights.NETS:
        weights.copy(name, weights.SHIPPED, tmp_path)
    own = pipelines.initialize(photographs[0], 10, "prior", weights=tmp_path)
    shipped = pipelines.initialize(photographs[0], 10, "prior")
    assert torch.equal(own.packed(), shipped.packed())


def test_weights_trained_anew_into_a_folder_are_used(tmp_path, monkeypatch):
    image, starts = torch.rand(40, 40, 3), []
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        torch.manual_seed(seed)
        for name, kind in weights.NETS.items():
            net = kind(Shape(4, 1))
            torch.nn.init.normal_(net.unet.head.weight, std=0.2)
            weights.save(net, name, tmp_path, {})
        for folder in (tmp_path, ".", str(tmp_path)):
            starts.append(pipelines.initialize(image, 60, weights=folder).packed())
    assert all(torch.equal(starts[0], same) for same in starts[1:3])
    assert all(torch.equal(starts[3], same) for same in starts[4:])
    assert not torch.equal(starts[0], starts[3])
    weights.file("position", tmp_path).unlink()
    with pytest.raises(ValueError, match="no such files"):
        pipelines.initialize(image, 60, weights=tmp_path)


def test_shipped_weights_are_small_and_have_cards():
    total = 0
    for name in weights.NETS:
        path = weights.file(name)
        total += path.stat().st_size
        card = json.loads(path.with_suffix(".json").read_text())
        assert {"about", "commit", "config", "images", "validation", "sha256"} <= set(card)
        assert "CC BY" in card["about"]
        assert all(math.isfinite(value) for value in card["validation"].values())
    assert total < 15e6


def test_unknown_sampler_is_named():
    with pytest.raises(ValueError, match="sampler='best'"):
        named.initialize(torch.rand(4, 4, 3), 2, "random", sampler="best")


def test_a_start_is_the_same_again_where_many_share_a_pixel(photographs):
    image = photographs[0][:48, :56]
    once, again = (pipelines.initialize(image, 4000).packed() for _ in range(2))
    assert len(once) > 48 * 56 and torch.equal(once, again)


@pytest.mark.parametrize("together", [True, False])
def test_a_start_is_drawn_for_the_fit_that_follows(photographs, together):
    image, k = photographs[0][:48, :56], 4000
    drawn = {n: pipelines.initialize(image, k, steps=n).xy for n in (0, 200)}
    assert not torch.equal(drawn[0], drawn[200])
    untuned = Encoding(k=k, steps=0)
    torch.testing.assert_close(untuned.run(image).gaussians.xy, drawn[0], atol=0, rtol=0)
    (one,) = encode_all(untuned, [image], together=together)
    torch.testing.assert_close(one.gaussians.xy, drawn[0], atol=0, rtol=0)
    frozen = Encoding(k=k, steps=200, options=FitOptions(xy=0, respawn=0))
    for result in (frozen.run(image), *encode_all(frozen, [image], together=together)):
        torch.testing.assert_close(result.gaussians.xy, drawn[200], atol=0, rtol=0)
