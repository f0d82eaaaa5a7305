"""Gaussians on disk: what is kept, what damaged files do, and whether the document is enough."""

import dataclasses
import math
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scatter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from t2d_reader import read_by_the_document

import pipelines
import taichi2dgs
from taichi2dgs import Gaussians, RenderSettings, metrics
from taichi2dgs.settings import QUALITIES
from taichi2dgs.storage import quantise, streams, t2d

FUZZ = int(os.environ.get("TAICHI2DGS_FUZZ", 300))  # mutated files
LOSSY = [name for name in QUALITIES if name != "lossless"]
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@st.composite
def any_gaussians(draw):
    k, channels = draw(st.integers(0, 12)), draw(st.integers(1, 5))
    row = st.lists(NUMBERS, min_size=5 + channels, max_size=5 + channels)
    params = torch.tensor(draw(st.lists(row, min_size=k, max_size=k)), dtype=torch.float32)
    blend = draw(st.sampled_from(["normalized", "sum"]))
    numbers = draw(st.integers(1, 64)), draw(st.floats(0.5, 12)), 1e-4
    how = RenderSettings(*numbers, blend, draw(st.booleans()))
    size = (draw(st.integers(1, 9999)), draw(st.integers(1, 9999)))
    return Gaussians.from_packed(params.reshape(k, 5 + channels), size, how)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(any_gaussians(), st.sampled_from(list(QUALITIES)))
def test_whatever_is_valid_can_be_saved_and_loaded(g, quality):
    again = t2d.decode(t2d.encode(g, quality)).gaussians
    assert len(again) == len(g) and (again.size, again.settings) == (g.size, g.settings)
    assert again.channels == g.channels
    if quality == "lossless":
        assert torch.equal(again.packed().view(torch.int32), g.packed().view(torch.int32))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 400), st.integers(1, 4), st.sampled_from(LOSSY), st.integers(0, 99))
def test_rounding_stays_within_half_a_step_and_saving_again_changes_nothing(k, c, quality, seed):
    g = scatter(k, (40, 50), channels=c, seed=seed)
    contents = t2d.decode(t2d.encode(g, quality))
    again, step = contents.gaussians, contents.steps
    key = again.xy[:, 0].double() * 1e4 + again.xy[:, 1].double()
    assert len(again) == k and torch.isfinite(key).all()
    for mine, other, at in ((g.xy, again.xy, 8 * step[0]), (g.color, again.color, 4 * step[3])):
        gap = (mine.sort(0).values - other.sort(0).values).abs().max()
        assert gap <= at * 0.5001 + 1e-5  # sorted values move no more than that
    twice = t2d.decode(t2d.encode(again, quality)).gaussians
    torch.testing.assert_close(twice.packed(), again.packed(), rtol=0, atol=2e-5)


def rows(params: np.ndarray) -> np.ndarray:
    """Rows in an order that depends on nothing but their values."""
    return params[np.lexsort(params.T)]


def check_rounding(g: Gaussians, quality: str) -> None:
    """Check that a file holds rounded parameters, each within half a step of what was given."""
    params = g.packed().numpy().astype(np.float64)
    cells = quantise.quantise(params.astype(np.float32), g.size, t2d.checked_precision(g, quality))
    rounded = cells.params()
    loaded = t2d.decode(t2d.encode(g, quality)).gaussians.packed().numpy()
    np.testing.assert_array_equal(rows(loaded), rows(rounded))
    place, color = (np.exp2(power)[:, None] for power in cells.grid.octaves(cells.whole[:, 2]))
    steps, extent = cells.grid.steps.astype(np.float64), np.array(g.size[::-1])
    near = np.clip(params[:, :2], -quantise.FAR, extent + quantise.FAR)
    scales = np.sort(np.clip(params[:, 2:4], -quantise.LOG_SCALE, quantise.LOG_SCALE))
    colors = np.clip(params[:, 5:], -quantise.COLOR, quantise.COLOR)
    half = 0.5 + 1e-6
    tiny = 2.0**-22  # relative: the value and the step are rounded to float32
    assert (abs(rounded[:, :2] - near) <= half * steps[0] * place + tiny * abs(near)).all()
    assert (abs(np.sort(rounded[:, 2:4]) - scales) <= half * (steps[1] + steps[2] / 2) + 1e-5).all()
    assert (abs(rounded[:, 5:] - colors) <= half * steps[3] * color + tiny * abs(colors)).all()


MAGNITUDES = st.floats(-38, 37).map(lambda power: 10.0**power)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.integers(1, 12), st.integers(1, 5), st.sampled_from(LOSSY), st.integers(0, 99))
def test_numbers_of_any_magnitude_are_rounded_within_half_a_step(data, k, channels, quality, seed):
    rng = np.random.default_rng(seed)
    scale = [data.draw(MAGNITUDES) for _ in range(5 + channels)]
    offset = [data.draw(MAGNITUDES | st.just(0.0)) for _ in range(5 + channels)]
    params = (rng.normal(size=(k, 5 + channels)) * scale + offset).clip(-3e38, 3e38)
    size = data.draw(st.sampled_from([(1, 1), (7, 512), (16384, 16384)]))
    check_rounding(Gaussians.from_packed(torch.tensor(params, dtype=torch.float32), size), quality)


@pytest.mark.parametrize("channels", [3, 4, 8])
@pytest.mark.parametrize("quality", LOSSY)
def test_a_channel_that_follows_from_others_too_steeply_is_stored_as_it_is(channels, quality):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, channels)) * 0.02
    color = 1000 + noise
    color[:, -1] = 1000 + 100 * noise[:, :-1].sum(1)
    shape = np.concatenate(
        [rng.uniform(0, 4, (60, 2)), np.full((60, 2), 3.0), np.zeros((60, 1))], 1
    )
    params = torch.tensor(np.concatenate([shape, color], 1), dtype=torch.float32)
    check_rounding(Gaussians.from_packed(params, (4, 4)), quality)


def test_numbers_that_no_file_holds_are_refused():
    g = scatter(3, (4, 4), dtype=torch.float64)
    huge = dataclasses.replace(g, color=g.color * 1e300)
    for quality in QUALITIES:
        with pytest.raises(ValueError, match="numbers beyond float32 at Gaussian 0"):
            t2d.encode(huge, quality)


def test_lossless_renders_bit_for_bit_ties_included(tmp_path):
    g = scatter(500, (30, 34))
    # Twins tie, and their order decides which of them count.
    twins = Gaussians.from_packed(torch.cat([g.packed()] * 2), g.size)
    twins = dataclasses.replace(twins, color=torch.rand(1000, 3))
    twins.save(tmp_path / "g.t2d", "lossless")
    assert torch.equal(taichi2dgs.load(tmp_path / "g.t2d").render(), twins.render())


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_document_is_enough_to_read_a_file(tmp_path, quality, channels):
    g = dataclasses.replace(
        scatter(700, (60, 45), channels=channels), settings=RenderSettings(7, 3.5, 1e-3, "sum")
    )
    g.save(tmp_path / "g.t2d", quality)
    mine, theirs = taichi2dgs.load(tmp_path / "g.t2d"), read_by_the_document(tmp_path / "g.t2d")
    assert theirs["size"] == mine.size and theirs["settings"] == dataclasses.astuple(mine.settings)
    np.testing.assert_array_equal(theirs["params"], mine.packed().numpy())


def test_presets_trade_loss_for_bytes_and_refining_gains(tmp_path, photograph):
    start = pipelines.initialize(photograph, 500, "gradient")
    g = taichi2dgs.fit(photograph, start, steps=100).gaussians
    sizes, losses = [], []
    before = metrics.psnr(g.render(), photograph)
    for quality in QUALITIES:
        g.save(tmp_path / "g.t2d", quality)
        sizes.append((tmp_path / "g.t2d").stat().st_size)
        found = metrics.psnr(taichi2dgs.load(tmp_path / "g.t2d").render(), photograph)
        losses.append(before - found)
    assert sizes == sorted(sizes, reverse=True) and losses == sorted(losses)
    assert losses[0] == 0 and losses[1] < 0.3 and sizes[1] < 0.3 * 500 * 32
    g.save(tmp_path / "g.t2d", "small", image=photograph, refine=60)
    refined = metrics.psnr(taichi2dgs.load(tmp_path / "g.t2d").render(), photograph)
    assert before - refined < 0.9 * losses[-1]


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=path.name.replace(".", r"\.")) as caught:
        taichi2dgs.load(path)
    return str(caught.value)


def resealed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def test_bad_files_are_named(tmp_path):
    data = t2d.encode(scatter(9, (12, 34)))
    path = tmp_path / "bad.t2d"
    for part in range(0, len(data), 7):
        refused(path, data[:part])
    assert "begin" in refused(path, b"no")
    assert "checksum" in refused(path, data + b"more")
    assert "version 9" in refused(path, data[:8] + b"\x09" + data[9:])
    for absent in (tmp_path / "absent.t2d", tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            taichi2dgs.load(absent)


@pytest.mark.parametrize("offset, value", [(10, b"\x09"), (11, b"\0"), (11, b"\x11"),
    (12, b"\xff\xff\xff\xff"), (16, b"\0\0\0\0"), (20, b"\xff\xff\xff\x00"), (24, b"\0"),
    (25, b"\x04"), (26, b"\xff" * 8), (34, bytes(8))])  # fmt: skip
def test_hostile_headers_are_refused_before_anything_is_allocated(tmp_path, offset, value):
    data = t2d.encode(scatter(9, (12, 34)))
    hostile = resealed(data[:offset] + value + data[offset + len(value) :])
    refused(tmp_path / "hostile.t2d", hostile)


def mutated(count: int) -> list[bytes]:
    """Files that were changed at random; the first two of every four get a right checksum."""
    random = np.random.default_rng(0)
    kinds = (("high", False), ("lossless", False), ("high", True))
    whole = [t2d.encode(scatter(200, (40, 50)), *kind) for kind in kinds]
    files = []
    for number in range(count):
        data = bytearray(whole[number % 3])
        while bytes(data) == whole[number % 3]:  # a change may put in what was there
            for _ in range(random.integers(1, 6)):
                kind, at = random.integers(4), int(random.integers(len(data)))
                if kind == 0:
                    data[at] ^= 1 << int(random.integers(8))
                elif kind == 1:
                    data[at] = int(random.integers(256))
                elif kind == 2 and len(data) > 60:
                    del data[at : at + int(random.integers(1, 20))]
                else:
                    data[at:at] = random.bytes(int(random.integers(1, 20)))
        files.append(resealed(bytes(data)) if number % 4 < 2 else bytes(data))
    return files


def test_mutated_files_never_do_worse_than_a_valueerror():
    """Half of the files get a right checksum, so that the checks after it are tried as well."""
    refusals = 0
    for number, data in enumerate(mutated(FUZZ)):
        try:
            g = t2d.decode(data).gaussians
            assert number % 4 < 2 and torch.isfinite(g.packed()).all()
        except ValueError:
            refusals += 1
    assert refusals > FUZZ // 2


def test_numbers_whose_first_part_is_unlike_the_rest_take_little_more_than_their_entropy():
    """Distances along the curve are like this where a picture begins with sky."""
    rng = np.random.default_rng(0)
    parts, entropy = (rng.geometric(0.02, 16_384), rng.geometric(0.6, 50_000)), 0.0
    for part in parts:
        counts = np.unique(part, return_counts=True)[1]
        entropy -= float((counts * np.log2(counts / len(part))).sum()) / 8
    assert len(streams.write(np.concatenate(parts))) < 1.15 * entropy  # 1.10 was seen


@pytest.mark.parametrize("deviation", [8, 64, 512])
def test_numbers_take_little_more_than_their_entropy(deviation):
    """Low bits are noise. Stored as they are, they take no more than their number."""
    numbers = np.random.default_rng(0).normal(0, deviation, 20_000).round().astype(np.int64)
    entropy = math.log2(deviation * math.sqrt(2 * math.pi * math.e))
    assert len(streams.write(numbers)) * 8 / len(numbers) < entropy + 0.1


def test_many_equal_gaussians_take_few_bytes_but_not_too_few():
    one = scatter(1, (9, 9)).packed()
    one[:, 2:4] = 3.0  # round and large Gaussians have no bits of angles and of fine centres
    many = Gaussians.from_packed(one.repeat(200_000, 1), (9, 9))
    data = t2d.encode(many, "small")
    assert len(data) < 8000 and len(t2d.decode(data).gaussians) == 200_000


@pytest.mark.parametrize(
    "arguments, message",
    [({"quality": "best"}, "quality='best'"), ({"refine": -1}, "refine=-1"),
     ({"quality": ["high"]}, r"quality=\['high'\]"), ({"refine": "2"}, "refine='2'"),
     ({"refine": True}, "refine=True"), ({"refine": np.int64(5)}, "refine=5 without an image"),
     ({"refine": 5}, "refine=5 without an image")],
)  # fmt: skip
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        scatter(3, (4, 4)).save(tmp_path / "g.t2d", **arguments)
    with pytest.raises(ValueError, match="cannot be written"):
        scatter(3, (4, 4)).save(tmp_path / "no" / "g.t2d")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "g.t2d"
    scatter(3, (4, 4)).save(path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(ValueError, match="disk full"):
        scatter(5, (4, 4)).save(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["g.t2d"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_saved_files_have_ordinary_permissions(tmp_path):
    scatter(3, (4, 4)).save(tmp_path / "g.t2d")
    (tmp_path / "plain").touch()
    modes = [(tmp_path / name).stat().st_mode for name in ("g.t2d", "plain")]
    assert modes[0] == modes[1]
