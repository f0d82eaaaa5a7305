"""Progressive files: their order, their parts, and sections that disagree."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import scatter
from t2d_reader import read_by_the_document
from test_t2d import LOSSY, refused, resealed

import taichi2dgs
from taichi2dgs import Gaussians, metrics
from taichi2dgs.storage import body, streams, t2d


def rows_of(g: Gaussians) -> list[list[float]]:
    return sorted(g.packed().tolist())


@pytest.mark.parametrize("quality", LOSSY)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 1100])
def test_a_progressive_file_holds_what_another_does_in_another_order(tmp_path, k, quality):
    g = scatter(k, (60, 45), margin=2)
    g.save(tmp_path / "plain.t2d", quality)
    g.save(tmp_path / "g.t2d", quality, progressive=True)
    whole = taichi2dgs.load(tmp_path / "g.t2d")
    assert rows_of(whole) == rows_of(taichi2dgs.load(tmp_path / "plain.t2d"))
    theirs = read_by_the_document(tmp_path / "g.t2d")
    np.testing.assert_array_equal(theirs["params"], whole.packed().numpy())
    for fraction, count in ((0.25, -(-k // 4)), (0.5, -(-k // 2))) if k > 2 else ():
        part = taichi2dgs.load(tmp_path / "g.t2d", fraction)
        assert len(part) == count and torch.equal(part.xy, whole.xy[:count])
        wider = (part.log_scale - whole.log_scale[:count]).exp()
        torch.testing.assert_close(wider, torch.full((count, 2), (k / count) ** 0.5))
        assert torch.equal(part.color, whole.color[:count])


def test_a_part_of_a_progressive_file_shows_the_picture(tmp_path, photograph, fitted):
    fitted.gaussians.save(tmp_path / "g.t2d", progressive=True)
    fitted.gaussians.save(tmp_path / "plain.t2d")
    psnrs = [
        metrics.psnr(taichi2dgs.load(tmp_path / "g.t2d", fraction).render(), photograph)
        for fraction in (0.25, 0.5, 1)
    ]
    assert 16 < psnrs[0] < psnrs[1] - 2 < psnrs[2] - 4, psnrs
    sizes = [(tmp_path / f"{name}.t2d").stat().st_size for name in ("plain", "g")]
    assert sizes[0] < sizes[1] < 1.06 * sizes[0]  # 1.017 with 50,000 Gaussians


def test_files_that_cannot_be_read_in_part_are_named(tmp_path):
    g = scatter(9, (12, 34))
    g.save(tmp_path / "g.t2d")
    with pytest.raises(ValueError, match=r"g\.t2d: fraction=0\.5; .* progressive=True"):
        taichi2dgs.load(tmp_path / "g.t2d", 0.5)
    for fraction in (0, 1.1, math.nan, "half", None):
        with pytest.raises(ValueError, match="fraction="):
            taichi2dgs.load(tmp_path / "g.t2d", fraction)
    with pytest.raises(ValueError, match=r"progressive=True; .*quality='lossless'"):
        g.save(tmp_path / "g.t2d", "lossless", progressive=True)
    with pytest.raises(ValueError, match="progressive=1"):
        g.save(tmp_path / "g.t2d", progressive=1)


def files_out_of_order() -> list[bytes]:
    """Progressive files whose sections disagree, and that have right checksums."""
    data = t2d.encode(scatter(60, (12, 34)), "high", True)
    at = t2d.HEADER.size + body.GRID.size + 2 * 3
    changes = ((at, bytes(8)), (at + 6, b"\1"), (at + 8, b"\0"), (at + 8, b"\x08"))
    files = [data[:at] + put + data[at + len(put) :] for at, put in changes]
    largest = SimpleNamespace(**vars(streams))  # writes the largest digits, and bits of ones
    largest.pack = lambda _, counts: streams.pack(np.full(len(counts), -1), counts)
    largest.pack_mixed = lambda _, counts: streams.pack_mixed(counts - 1, counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body, "streams", largest)
        files.append(t2d.encode(scatter(60, (3, 4), margin=1e4), "high", True))
    return [resealed(data) for data in files]


def test_sections_that_disagree_are_refused(tmp_path):
    for data in files_out_of_order():
        message = refused(tmp_path / "bad.t2d", data)
        assert "places are not in order" in message or "sections are out of range" in message
