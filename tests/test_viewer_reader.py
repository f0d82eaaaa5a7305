"""The page's reader of .t2d files in Node.js reads and refuses what Python's does."""

import dataclasses
import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scatter
from test_maps import SOME, damaged, several
from test_progressive import files_out_of_order
from test_t2d import mutated, resealed

from taichi2dgs import Gaussians, RenderSettings
from taichi2dgs.storage import body, t2d

SCRIPT = Path(__file__).parent / "read_t2d.mjs"
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="needs Node.js (node) to run the page's reader"
)
MUTATED = 2_000
PLANE = 3_000  # Gaussians of `file_of_planes`
SLOWEST = 5_000  # milliseconds that a file of a few hundred Gaussians may take on a busy machine


def read_by_node(tmp_path: Path, files: list[bytes], how: object = 1.0) -> list[dict]:
    """Return what the page's reader makes of each file."""
    path = tmp_path / "files"
    path.write_bytes(b"".join(struct.pack("<I", len(data)) + data for data in files))
    done = subprocess.run(
        [str(NODE), str(SCRIPT), str(path), str(how)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def checksums(gaussians: Gaussians) -> list[int]:
    """The CRC-32 of each column of parameters: it differs if a single bit does."""
    return [zlib.crc32(column.tobytes()) for column in gaussians.packed().numpy().T]


def check_equal(found: dict, data: bytes, fraction: float = 1.0) -> None:
    contents = t2d.decode(data, fraction)
    g, settings = contents.gaussians, contents.gaussians.settings
    assert "error" not in found, found
    assert (found["height"], found["width"]) == g.size and found["k"] == len(g)
    assert found["channels"] == g.channels and found["preset"] == contents.quality
    assert tuple(found["settings"].values()) == dataclasses.astuple(settings)
    assert found["columns"] == checksums(g) and found["bytes"] == len(data)


def extremes() -> Gaussians:
    """Far, huge, tiny, long, round and bright Gaussians, up to what a file can hold."""
    g = scatter(600, (70, 90), channels=3, log_scale=(-6, 6), margin=3, seed=1)
    params = g.packed()
    params[:50, 3] = params[:50, 2]
    params[50:60, :2] *= 1e4
    params[60:70, 5:] *= 900
    params[70:80, 2] = 15.0
    params[80:90] = params[90:100]
    return Gaussians.from_packed(params, g.size, RenderSettings(64, 12.0, 1e-9, "sum"))


def test_every_preset_and_number_of_channels_is_read_number_for_number(tmp_path):
    some = [scatter(700, (60, 45), channels=channels) for channels in (1, 2, 3, 4, 16)]
    files = [t2d.encode(g, quality) for quality in t2d.QUALITIES for g in [*some, extremes()]]
    files += [t2d.encode(scatter(0, (5, 6))), t2d.encode(scatter(1, (5, 6)), "small")]
    files += [
        t2d.encode(some[0].replace(settings=RenderSettings(blend=blend, tile=True)))
        for blend in ("normalized", "sum")
    ]
    for found, data in zip(read_by_node(tmp_path, files), files, strict=True):
        check_equal(found, data)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_progressive_files_are_read_number_for_number_in_part_and_whole(tmp_path, fraction):
    far = scatter(300, (3, 4), margin=1e4)  # whose places between neighbours have more than 16 bits
    some = [*(scatter(k, (60, 45)) for k in (1, 2, 3, 4, 1100)), extremes(), far]
    files = [t2d.encode(g, quality, True) for quality in ("high", "small") for g in some]
    for found, data in zip(read_by_node(tmp_path, files, fraction), files, strict=True):
        check_equal(found, data, fraction)
        assert found["progressive"]


def test_sections_that_have_come_are_read_before_the_rest(tmp_path):
    data = t2d.encode(scatter(1100, (60, 45), channels=4), "high", True)
    at, ends = t2d.HEADER.size + body.GRID.size + 4 * 3 + body.CURVE.size, []
    for _ in range(body.SECTIONS):
        at += 4 + struct.unpack_from("<I", data, at)[0]
        ends.append(at)
    cuts = [3, 99, *(end + more for end in ends for more in (-1, 0))]
    found = read_by_node(tmp_path, [data[:cut] for cut in cuts], "start")
    assert [one["k"] for one in found] == [0, 0, 0, 275, 275, 550, 550, 1100]
    for one, fraction in zip(found[3::2], (0.25, 0.5, 1), strict=False):
        assert one["columns"] == checksums(t2d.decode(data, fraction).gaussians)
    plain = t2d.encode(scatter(1100, (60, 45)), "high")
    assert read_by_node(tmp_path, [plain[:-9]], "start")[0]["k"] == 0


def test_maps_are_read_and_damaged_ones_are_refused_as_by_python(tmp_path):
    """But for the lowest bytes of low: processors that run Taichi take tiny floats for 0."""
    whole = [t2d.encode(several(20), *kind) for kind in (("lossless",), ("high",), ("high", True))]
    ends = np.cumsum([12 + len(one.name.encode()) for one in SOME]) + 44
    places = set(range(42, ends[-1])) - {end - back for end in ends for back in (8, 7, 6)}
    values = (0, 1, 2, 0x20, 0x2F, 0x7F, 0xFF)
    files = [*whole, *(damaged(whole[1], at, value) for at in places for value in values)]
    refusals = 0
    for found, data in zip(read_by_node(tmp_path, files), files, strict=True):
        try:
            g = t2d.decode(data).gaussians
        except ValueError:
            refusals += 1
            assert "error" in found and "\n" not in found["error"]
        else:
            check_equal(found, data)
            for one, theirs in zip(g.maps, found["maps"], strict=True):
                assert theirs == pytest.approx(dataclasses.asdict(one), abs=1e-30)
    assert len(places) < refusals < 6 * len(places)
    start = read_by_node(tmp_path, [whole[2][:cut] for cut in (60, len(whole[2]) - 9)], "start")
    assert "error" in start[0] and start[1]["k"] == 10 and len(start[1]["maps"]) == len(SOME)


def test_every_coder_is_read(tmp_path):
    rng = np.random.default_rng(0)
    k, used = 5_000, set()
    kinds = {
        "noise": rng.random((k, 8)),
        "periods": np.tile(rng.random((50, 8)), (k // 50, 1)),
        "equal": np.ones((k, 8)),
        "walks": np.cumsum(rng.normal(size=(k, 8)) * 0.01, 0),
    }
    files = []
    for kind in kinds.values():
        g = Gaussians.from_packed(torch.tensor(kind, dtype=torch.float32), (40, 50))
        files += [t2d.encode(g, quality) for quality in ("lossless", "high")]
        used |= {data[46 + 1] for data in files[-2:-1]}  # the coder of the first stream
    for found, data in zip(read_by_node(tmp_path, files), files, strict=True):
        check_equal(found, data)
    assert len(used) > 1


def deflated(octets: bytes, *, level: int = 9, strategy: int = 0, before: bytes = b"") -> bytes:
    """Raw DEFLATE, which may refer to bytes before the first."""
    more = [before] if before else []
    coder = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy, *more)
    return coder.compress(octets) + coder.flush()


def file_of_planes(planes: list[bytes]) -> bytes:
    """A lossless file of six columns, each of one plane that DEFLATE has coded."""
    header = t2d.encode(scatter(1, (9, 8), channels=1), "lossless")[: t2d.HEADER.size]
    body = b"".join(struct.pack("<iBBBI", 1 << 29, 0, 2, 1, len(coded)) + coded for coded in planes)
    return sealed(header[:20] + struct.pack("<I", PLANE) + header[24:] + body)


def sealed(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def numbers() -> list[bytes]:
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.integers(-3, 4, (PLANE, 6)), 0) & 255
    return [column.tobytes() for column in walks.astype(np.uint8).T]


@pytest.mark.parametrize("level", [0, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_RLE])
def test_all_of_deflate_is_read_not_only_what_this_library_writes(tmp_path, level, strategy):
    planes = [deflated(plane, level=level, strategy=strategy) for plane in numbers()]
    data = file_of_planes(planes)
    check_equal(read_by_node(tmp_path, [data])[0], data)


def test_a_match_before_the_first_byte_is_refused(tmp_path):
    planes = [deflated(plane, before=plane[:99]) for plane in numbers()]
    found = read_by_node(tmp_path, [file_of_planes(planes)])[0]
    assert "before the first byte" in found["error"]


def test_bad_files_are_named_in_one_sentence(tmp_path):
    data = t2d.encode(scatter(9, (12, 34)))
    changes = {(10, b"\x09"): "header", (11, b"\0"): "header", (11, b"\x11"): "header",
               (12, b"\xff\xff\xff\xff"): "header", (16, b"\0\0\0\0"): "header",
               (20, b"\xff\xff\xff\x00"): "header", (24, b"\0"): "header", (24, b"A"): "header",
               (25, b"\x04"): "header", (26, b"\xff" * 8): "header", (34, bytes(8)): "header",
               (8, b"\x09"): "version 9", (42, b"\xff" * 16): "out of range"}  # fmt: skip
    files = [resealed(data[:at] + put + data[at + len(put) :]) for at, put in changes]
    expected = [*changes.values(), "begin", "checksum", "begin"]
    files += [b"no", data + b"more", b""]
    for found, word in zip(read_by_node(tmp_path, files), expected, strict=True):
        assert word in found["error"] and "\n" not in found["error"]


def test_sections_that_disagree_are_refused(tmp_path):
    for found in read_by_node(tmp_path, files_out_of_order()):
        assert "not in order" in found["error"] or "sections are out of range" in found["error"]


def test_mutated_files_are_refused_or_read_as_python_does_and_never_hang(tmp_path):
    """Python's LZMA looks at what follows the last byte of a plane, too, and may refuse that."""
    files, refusals, looked_beyond = mutated(MUTATED), 0, 0
    for found, data in zip(read_by_node(tmp_path, files), files, strict=True):
        assert found["ms"] < SLOWEST
        try:
            t2d.decode(data)
        except ValueError as error:
            refusals += 1
            if "error" not in found:
                assert "Corrupt input data" in str(error)
                looked_beyond += 1
        else:
            check_equal(found, data)
    assert MUTATED // 2 < refusals < MUTATED and looked_beyond < MUTATED // 200


def test_a_small_file_cannot_ask_for_much_time_or_memory(tmp_path):
    """The body is zeros, as long as the padding rule asks for, and k the largest."""
    header = t2d.encode(scatter(1, (9, 8), channels=16))[: t2d.HEADER.size]
    data = header[:20] + struct.pack("<I", t2d.MAX_K) + header[24:] + bytes(t2d.MAX_K // 64)
    found = read_by_node(tmp_path, [sealed(data)])[0]
    assert "error" in found and found["ms"] < SLOWEST
