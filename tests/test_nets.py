"""The networks, and their weights on disk."""

import json

import pytest
import torch

from nets import weights
from nets.prior import ASPECT, OFFSET, SPREAD, AttributeNet, PositionNet
from nets.unet import K_MAX, FiLM, Shape, k_hat


@pytest.fixture
def scrambled():
    """A position network whose last layer has random weights, where a new one has zeros."""
    torch.manual_seed(0)
    net = PositionNet(Shape(4))
    torch.nn.init.normal_(net.unet.head.weight)
    return net.eval()


@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (33, 70), (64, 32)])
def test_any_size_and_a_k_per_image(size, patch):
    images, k = torch.rand(2, 3, *size), torch.tensor([5, 500])
    heat = PositionNet(Shape(4, patch))(images, k)
    assert heat.shape == (2, 1, *size) and heat.min() >= 0 and heat.max() <= 1
    parts = AttributeNet(Shape(4, patch))(images, images, images[:, :2], k)
    assert [part.shape[1] for part in parts] == [2, 2, 1, 3]
    assert all(part.shape[2:] == size for part in parts)


def test_untrained_network_changes_next_to_nothing():
    images = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        parts = AttributeNet(Shape(4))(images, images, images[:, :2], torch.tensor([100]))
    assert not parts.offset.any() and not parts.theta.any() and not parts.color.any()
    assert float(parts.log_scale.abs().max()) <= SPREAD * ASPECT


def test_residuals_stay_within_their_bounds():
    net = AttributeNet(Shape(4))
    torch.nn.init.normal_(net.unet.head.weight, std=100)
    images = torch.rand(2, 3, 40, 40)
    with torch.no_grad():
        parts = net(images, images, images[:, :2], torch.tensor([100, 100]))
    assert float(parts.offset.abs().max()) <= OFFSET
    assert float(parts.log_scale.abs().max()) <= SPREAD


def test_heat_depends_on_k_and_only_on_its_own_image(scrambled):
    torch.nn.init.normal_(scrambled.unet.film.layers[-1].weight)
    images = torch.rand(2, 3, 40, 40)
    heat = scrambled(images, torch.tensor([10, 1000]))
    alone = scrambled(images[1:], torch.tensor([1000]))
    torch.testing.assert_close(heat[1:], alone, atol=1e-5, rtol=0)
    other = scrambled(images[1:], torch.tensor([10]))
    assert float((alone - other).abs().max()) > 1e-4  # 1e-3 was seen


def test_film_without_an_answer_changes_nothing():
    film = FiLM(5)
    torch.nn.init.zeros_(film.layers[-1].weight)
    torch.nn.init.zeros_(film.layers[-1].bias)
    x = torch.rand(2, 5, 3, 3)
    assert torch.equal(film(x, torch.tensor([0.1, 0.9])), x)


def test_k_counts_per_512x512():
    assert float(k_hat(torch.tensor([K_MAX]), 512 * 512)) == pytest.approx(1)
    quarter = k_hat(torch.tensor([2500]), 256 * 256)
    torch.testing.assert_close(quarter, k_hat(torch.tensor([10_000]), 512 * 512))


def test_weights_come_back_as_they_were_but_for_half_precision(tmp_path, scrambled):
    path = weights.save(scrambled, "position", tmp_path, {"about": "noise"})
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"].startswith(path.stem.removeprefix("position-"))
    assert card["about"] == "noise" and card["parameters"] > 0
    images, k = torch.rand(1, 3, 32, 32), torch.tensor([50])
    with torch.no_grad():
        before, after = scrambled(images, k), weights.load("position", tmp_path)(images, k)
    torch.testing.assert_close(before, after, atol=1e-2, rtol=0)  # 2e-3 was seen
    newer = weights.save(PositionNet(Shape(4)), "position", tmp_path, {})
    assert [file.name for file in tmp_path.glob("*.pt")] == [newer.name]


def test_damaged_missing_and_foreign_weights_are_one_clear_error(tmp_path, scrambled):
    with pytest.raises(ValueError, match=r"position-<sha8>\.pt: no such files"):
        weights.load("position", tmp_path)
    path = weights.save(scrambled, "position", tmp_path, {})
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(ValueError, match=f"{path.name}: damaged: its hash begins with"):
        weights.load("position", tmp_path)
    path.write_bytes(content)
    path.rename(tmp_path / "attributes-12345678.pt")
    with pytest.raises(ValueError, match=r"attributes-12345678\.pt: damaged"):
        weights.load("attributes", tmp_path)
    foreign = weights.save(scrambled, "attributes", tmp_path, {})  # the file has a position network
    with pytest.raises(ValueError, match=f"{foreign.name}: not weights of the attributes network"):
        weights.load("attributes", tmp_path)
    (tmp_path / "attributes-00000000.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="2 such files; expected one"):
        weights.load("attributes", tmp_path)


def test_pickles_that_run_code_are_refused(tmp_path):
    import hashlib
    import pickle

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    content = pickle.dumps(Evil())
    name = f"position-{hashlib.sha256(content).hexdigest()[:8]}.pt"
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: not weights of the position network"):
        weights.load("position", tmp_path)
