"""What channels stand for: kinds, ranges and names, in memory and in files."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
import torch
from conftest import scatter
from t2d_reader import read_by_the_document

import taichi2dgs
from taichi2dgs import Gaussians, Map
from taichi2dgs.exchange import arrays
from taichi2dgs.storage import curves, maps, t2d
from taichi2dgs.storage.maps import Stack

SOME = (
    Map("color", 4, "srgb", 16),
    Map("sky", 3, "pq", 32, 0, 812.5),
    Map("höhe über n", 1, "data", 32, -3.25, 7),
    Map("light", 2, "linear", 8, 0, 1.5),
)


def several(k: int = 300) -> Gaussians:
    return dataclasses.replace(scatter(k, (40, 50), channels=10), maps=SOME)


@pytest.mark.parametrize("one", SOME, ids=lambda one: one.kind)
def test_light_is_stored_and_found_again(one):
    stored = torch.rand(7, 9, one.channels, generator=torch.Generator().manual_seed(0))
    if one.has_opacity:
        stored[..., -1] += 0.1
        stored[..., :-1] *= stored[..., -1:]
    again = one.stored(one.light(stored))
    assert again.dtype == torch.float32 and (again - stored).abs().max() < 2e-6
    if one.has_opacity:
        assert torch.equal(one.light(stored)[..., -1], stored[..., -1])


def test_kinds_mean_what_the_format_says():
    half = torch.tensor([[0.5]])
    assert float(Map("", 1, "linear", 8, 1, 3).light(half)) == 2
    assert float(Map("", 1, "data", 8, -1, 3).light(half)) == 1
    assert float(Map("", 1, "srgb").light(half)) == pytest.approx(0.2140411, abs=1e-6)
    assert float(Map("", 1, "pq", 8, 0, 10_000).light(half)) == pytest.approx(92.2457, rel=1e-4)
    assert float(Map("", 1, "linear").shown(half)) == pytest.approx(0.735357, abs=1e-5)
    assert float(Map("", 1, "data", 8, -1, 3).shown(half)) == 0.5
    # Light of 0.5 under an opacity of 0.5 is 0.25, as the light is multiplied by it.
    covered = Map("", 2, "linear").shown(torch.tensor([[0.25, 0.5]]))
    assert covered[0].tolist() == pytest.approx([0.735357 / 2, 0.5], abs=1e-5)


def test_values_of_plain_numbers_have_gradients():
    stored = torch.rand(3, 2, requires_grad=True)
    Map("", 2, "data", 32, 0, 4).values(stored).sum().backward()
    assert torch.equal(stored.grad, torch.full((3, 2), 4.0))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"name": "a/b"}, "name='a/b'"), ({"name": ".."}, "name="), ({"name": "a" * 61}, "name="),
        ({"name": "a\n"}, "name="), ({"name": 3}, "name=3"), ({"channels": 5}, "channels=5"),
        ({"kind": "hsv"}, "kind='hsv'"), ({"bits": 10}, "bits=10"), ({"high": 2}, "high=2"),
        ({"kind": "pq", "low": 1, "high": 2}, "low=1"), ({"kind": "data", "high": 0}, "high=0"),
        ({"kind": "data", "high": float("nan")}, "high=nan"),
        ({"kind": "data", "high": 1e300}, "high=inf"),
    ],
)  # fmt: skip
def test_maps_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Map(**arguments)


def test_gaussians_have_the_maps_of_their_channels():
    g = scatter(5, (9, 12), channels=3)
    for wrong, message in (
        ((Map("a", 2),), "maps have 2 channels; expected 3"),
        ((Map("a", 2), Map("A", 1)), "maps are named"),
        ((Map("", 2), Map("b", 1)), "maps are named"),
        ("srgb", "maps='srgb'"),
    ):
        with pytest.raises(ValueError, match=message):
            g.replace(maps=wrong)
    mapped = g.replace(maps=[Map("a", 2), Map("b", 1)])
    assert isinstance(mapped.maps, tuple)
    moved = mapped.transform([[1, 0, 2], [0, 1, 3]])
    for kept in (mapped[:2], mapped.detach(), moved, mapped.concat(mapped), mapped.to("cpu")):
        assert kept.maps == mapped.maps
    assert mapped.recolor(torch.eye(3)).maps == mapped.maps
    assert mapped.recolor(torch.ones(1, 3)).maps == ()
    with pytest.raises(ValueError, match=r"others\[0\] has maps"):
        mapped.concat(g)


@pytest.mark.parametrize("quality", ["lossless", "high", "small"])
@pytest.mark.parametrize("progressive", [False, True])
def test_files_keep_maps_and_the_document_is_enough_to_read_them(tmp_path, quality, progressive):
    if progressive and quality == "lossless":
        pytest.skip("there are no such files")
    several().save(tmp_path / "a.t2d", quality, progressive=progressive)
    mine, theirs = taichi2dgs.load(tmp_path / "a.t2d"), read_by_the_document(tmp_path / "a.t2d")
    assert mine.maps == SOME
    kinds = [(one.name, one.channels, maps.KINDS.index(one.kind), one.bits, one.low, one.high)
             for one in SOME]  # fmt: skip
    assert theirs["maps"] == kinds
    np.testing.assert_array_equal(theirs["params"], mine.packed().numpy())
    if progressive:
        assert taichi2dgs.load(tmp_path / "a.t2d", 0.25).maps == SOME


def test_plain_pictures_have_the_files_that_they_had():
    """Of versions 2 and 3, with nothing between the header and the body."""
    eight = tuple(dataclasses.replace(one, bits=8) for one in SOME)  # more are rounded more finely
    plain, mapped = (t2d.encode(several().replace(maps=chosen)) for chosen in ((), eight))
    assert (
        plain[8] == 2
        and mapped[8] == 4
        and t2d.encode(several().replace(maps=()), "high", True)[8] == 3
    )
    between = b"\2" + maps.packed(eight)
    assert mapped[:8] + plain[8:10] + mapped[10:42] == plain[:42]
    assert mapped[42:-4] == between + plain[42:-4]


def damaged(data: bytes, at: int, value: int) -> bytes:
    changed = bytearray(data[:-4])
    changed[at] = value
    return bytes(changed) + struct.pack("<I", zlib.crc32(bytes(changed)))


def test_damaged_maps_are_refused():
    data = t2d.encode(several(20))
    name = 42 + 2
    for at, value, message in (
        (42, 4, "out of range"), (42, 9, "out of range"), (43, 3, "maps have"), (43, 200, "map"),
        (name, 200, "name"), (name + 1, 0xFF, "no name"), (name + 1, ord("/"), "name="),
        (name + 6, 3, "maps have"), (name + 6, 0, "channels=0"), (name + 7, 9, "kind"),
        (name + 8, 9, "bits=9"), (name + 12, 0x7F, "low="),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            t2d.decode(damaged(data, at, value))


def test_every_damaged_byte_of_maps_is_read_or_refused():
    data = t2d.encode(several(20))
    for at in range(42, 42 + 1 + len(maps.packed(SOME))):
        for value in (0, 1, 0x2F, 0x7F, 0xFF):
            try:
                t2d.decode(damaged(data, at, value))
            except ValueError as error:
                assert "\n" not in str(error)


def test_arrays_of_numpy_keep_maps(tmp_path):
    (tmp_path / "a.npz").write_bytes(arrays.npz(several()))
    assert arrays.read(str(tmp_path / "a.npz")).gaussians.maps == SOME
    (tmp_path / "b.npz").write_bytes(arrays.npz(scatter(3, (4, 5))))
    assert arrays.read(str(tmp_path / "b.npz")).gaussians.maps == ()


def test_what_is_displayed_is_the_first_map_in_srgb():
    image = torch.rand(4, 5, 6)
    assert torch.equal(maps.displayed(image, ()), image[..., :3])
    light, packed = Map("a", 3, "linear"), Map("b", 2, "data")
    expected = curves.to_srgb(image[..., :3].double().numpy())
    np.testing.assert_allclose(maps.displayed(image, (light, Map("c"))), expected, atol=1e-6)
    assert torch.equal(maps.displayed(image, (packed, Map("c", 4))), image[..., :1])


def test_linear_light_of_a_stack_leaves_data_as_it_is():
    image = torch.rand(4, 5, 4)
    stack = Stack(image, (Map("c", 3), Map("d", 1, "data", 32, -3.3, 7.1)))
    linear = stack.linear()
    assert [one.kind for one in linear.maps] == ["linear", "data"]
    assert torch.equal(linear.image[..., 3], image[..., 3])
    np.testing.assert_allclose(
        linear.image[..., :3], curves.from_srgb(image[..., :3].double().numpy()), atol=1e-6
    )
    assert torch.equal(linear.linear().image, linear.image)
    with pytest.raises(ValueError, match="image has 6 channels; expected 1 to 4, or a stack"):
        Stack(torch.rand(4, 5, 6)).linear()
