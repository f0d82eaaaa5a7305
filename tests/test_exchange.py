"""Export and import: splats of 3D viewers, arrays of NumPy, and what hostile files do."""

import io
import json
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
import torch
from conftest import scatter

from pipelines import cli
from taichi2dgs import Gaussians, RenderSettings, load, metrics
from taichi2dgs.exchange import arrays, files3d, splats

HALF_TURN = np.pi


@pytest.fixture(scope="module")
def painted(fitted) -> splats.Splats:
    return splats.splats_of(fitted.gaussians)


def plain_painting(s: splats.Splats) -> np.ndarray:
    """What viewers do: splat over splat, the farthest first, over black. [H, W, 3]"""
    height, width = s.size
    out = np.zeros((height, width, 3))
    y, x = np.mgrid[:height, :width] + 0.5
    for i in range(len(s.xy)):
        dx, dy = x - s.xy[i, 0], y - s.xy[i, 1]
        along = (np.cos(s.theta[i]) * dx + np.sin(s.theta[i]) * dy) / s.scale[i, 0]
        across = (np.cos(s.theta[i]) * dy - np.sin(s.theta[i]) * dx) / s.scale[i, 1]
        q = along**2 + across**2
        alpha = np.where(q < 9, s.opacity[i] * np.exp(-q / 2), 0)[..., None]
        out = out * (1 - alpha) + alpha * s.color[i]
    return out


def test_the_psnr_that_is_told_is_that_of_sorted_opacity(fitted, painted):
    """Weights below 0.001 are left out, which changes the PSNR by less than 0.1 dB."""
    seen = torch.from_numpy(plain_painting(painted)).float()
    render = fitted.gaussians.render().clamp(0, 1)
    assert painted.psnr == pytest.approx(metrics.psnr(seen, render), abs=0.1)
    assert painted.psnr > 28
    assert painted.color.min() >= 0 and painted.color.max() <= 1


def test_colours_that_are_not_fitted_would_look_bad(fitted, painted, monkeypatch):
    monkeypatch.setattr(splats, "STEPS", 0)
    assert splats.splats_of(fitted.gaussians).psnr < painted.psnr - 2


def test_large_pictures_are_painted_in_parts(fitted, painted, monkeypatch):
    monkeypatch.setattr(splats, "TILE", 48)
    parts = splats.splats_of(fitted.gaussians)
    assert len(parts.xy) == len(painted.xy) and parts.psnr == pytest.approx(painted.psnr, abs=0.3)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_grey_and_opacity_become_splats(channels):
    g = scatter(300, (40, 50), channels=channels, log_scale=(0.5, 1.5))
    found = splats.splats_of(g)
    assert found.color.shape[1] == 3 and (channels > 2 or np.ptp(found.color, axis=1).max() < 1e-6)
    assert (found.opacity.min() < 0.9) == (channels % 2 == 0)


def read_ply(data: bytes) -> dict[str, np.ndarray]:
    header, _, body = data.partition(b"end_header\n")
    names = re.findall(r"property float (\w+)", header.decode())
    count = int(re.search(r"element vertex (\d+)", header.decode())[1])
    assert header.startswith(b"ply\nformat binary_little_endian 1.0\n")
    return dict(zip(names, np.frombuffer(body, "<f4").reshape(count, len(names)).T, strict=True))


def read_glb(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data)) and length % 4 == 0
    size, kind = struct.unpack_from("<II", data, 12)
    scene = json.loads(data[20 : 20 + size])
    binary = data[28 + size :]
    assert kind == 0x4E4F534A and size % 4 == 0
    assert struct.unpack_from("<II", data, 20 + size) == (len(binary), 0x004E4942)
    assert scene["buffers"] == [{"byteLength": len(binary)}]
    (primitive,) = scene["meshes"][0]["primitives"]
    found = {}
    for name, number in primitive["attributes"].items():
        accessor = scene["accessors"][number]
        view = scene["bufferViews"][accessor["bufferView"]]
        part = binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        assert accessor["componentType"] == 5126
        wide = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        found[name] = np.frombuffer(part, "<f4").reshape(accessor["count"], wide)
    return scene, found


def test_a_ply_is_as_3d_gaussian_splatting_has_it(painted):
    found = read_ply(files3d.ply(painted))
    assert list(found) == [
        "x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity", "scale_0",
        "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3",
    ]  # fmt: skip
    unit = 2 / 128  # the longer side is 2 units long
    np.testing.assert_allclose(found["x"], (painted.xy[:, 0] - 64) * unit, atol=1e-6)
    np.testing.assert_allclose(found["y"], (painted.xy[:, 1] - 48) * unit, atol=1e-6)
    assert np.all(np.diff(found["z"]) <= 0) and np.ptp(found["z"]) < 0.03  # nearer and nearer
    np.testing.assert_allclose(np.exp(found["scale_1"]), painted.scale[:, 1] * unit, rtol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-found["opacity"])), painted.opacity, atol=1e-5)
    color = 0.5 + 0.28209479177387814 * np.stack([found[f"f_dc_{c}"] for c in range(3)], 1)
    np.testing.assert_allclose(color, painted.color, atol=1e-6)
    turn = 2 * np.arctan2(found["rot_3"], found["rot_0"])
    np.testing.assert_allclose(np.sin(turn - painted.theta), 0, atol=1e-5)


def test_a_glb_has_what_khr_gaussian_splatting_asks_for(painted):
    scene, found = read_glb(files3d.glb(painted))
    assert scene["asset"]["version"] == "2.0"
    assert scene["extensionsUsed"] == ["KHR_gaussian_splatting"]
    (primitive,) = scene["meshes"][0]["primitives"]
    told = primitive["extensions"]["KHR_gaussian_splatting"]
    assert primitive["mode"] == 0 and told["kernel"] == "ellipse"
    assert told["colorSpace"] == "srgb_rec709_display"
    place = found["POSITION"]
    accessor = scene["accessors"][primitive["attributes"]["POSITION"]]
    np.testing.assert_allclose(accessor["min"], place.min(0), rtol=1e-6)
    np.testing.assert_allclose(accessor["max"], place.max(0), rtol=1e-6)
    unit = 2 / 128
    np.testing.assert_allclose(place[:, 1], (48 - painted.xy[:, 1]) * unit, atol=1e-6)  # y goes up
    assert np.all(np.diff(place[:, 2]) >= 0)  # and nearer is towards us
    turn = found["KHR_gaussian_splatting:ROTATION"]
    np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1, rtol=1e-6)
    angle = 2 * np.arctan2(turn[:, 2], turn[:, 3])
    np.testing.assert_allclose(np.sin(angle + painted.theta), 0, atol=1e-5)
    scale = found["KHR_gaussian_splatting:SCALE"]
    np.testing.assert_allclose(scale[:, :2], painted.scale * unit, rtol=1e-5)
    opacity = found["KHR_gaussian_splatting:OPACITY"][:, 0]
    assert opacity.min() >= 0 and opacity.max() <= 1
    assert found["KHR_gaussian_splatting:SH_DEGREE_0_COEF_0"].shape == (len(place), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arrays_of_numpy_are_exact(tmp_path, dtype):
    g = scatter(70, (30, 40), channels=5, dtype=dtype)
    g = g.replace(settings=RenderSettings(7, 3.25, 1e-3, "sum"))
    (tmp_path / "g.npz").write_bytes(arrays.npz(g))
    found = arrays.read(str(tmp_path / "g.npz"))
    assert torch.equal(found.gaussians.packed(), g.packed()) and found.left_out == 0
    assert found.gaussians.size == g.size and found.gaussians.settings == g.settings
    assert found.gaussians.xy.dtype == dtype


def viewers_file(**changes) -> bytes:
    """A file as the viewer gaussian_image has it: 3 Gaussians of 40x20 pixels, one not finite."""
    parts = {
        "xyz": np.array([[0, 0], [0.5, -0.5], [np.nan, 0]], np.float16),
        "scaling": np.array([[4, 1], [2, 2], [1, 1]], np.float16),
        "rotation": np.array([[0.5], [1.0], [0.0]], np.float16),
        "color": np.array([[1, 0.5, 0.25]] * 3, np.float16),
        "resolution": np.array([40, 20], np.uint32),
    } | changes
    stream = io.BytesIO()
    np.savez_compressed(stream, **parts)
    return stream.getvalue()


def test_a_file_of_the_viewer_gaussian_image_is_read(tmp_path):
    """Its centres are half a pixel off ours, and its angles turn the other way."""
    (tmp_path / "v.npz").write_bytes(viewers_file())
    g, kind, left_out = arrays.read(str(tmp_path / "v.npz"))
    assert (len(g), left_out, kind) == (2, 1, "gaussian_image") and g.size == (20, 40)
    assert g.xy.tolist() == [[20.5, 10.5], [30.5, 5.5]]
    np.testing.assert_allclose(g.log_scale.exp(), [[4, 1], [2, 2]], rtol=1e-6)
    assert g.theta.tolist() == [-0.5, -1.0] and g.settings.blend == "sum"


def checkpoint(**tensors) -> bytes:
    stream = io.BytesIO()
    torch.save({name: torch.as_tensor(value) for name, value in tensors.items()}, stream)
    return stream.getvalue()


def test_checkpoints_of_gaussianimage_are_read(tmp_path):
    path = str(tmp_path / "model.pth.tar")
    common = {"_xyz": [[0.0, 0.0]], "_features_dc": [[0.5, 0.5, 1.0]], "_opacity": [[1.0]]}
    turned = checkpoint(**common, _scaling=[[3.5, -1.5]], _rotation=[[0.0]])
    (tmp_path / "model.pth.tar").write_bytes(turned)
    g = arrays.read(path, (20, 40)).gaussians
    assert g.xy.tolist() == [[20.5, 10.5]]
    np.testing.assert_allclose(g.log_scale.exp(), [[4, 1]], rtol=1e-6)
    assert abs(np.sin(float(g.theta) - HALF_TURN)) < 1e-6
    factor = np.array([[2.0, 0.0], [1.5, 0.75]])
    lower = checkpoint(**common, _cholesky=[[1.5, 1.5, 0.25]])
    (tmp_path / "model.pth.tar").write_bytes(lower)
    g = arrays.read(path, (20, 40)).gaussians
    np.testing.assert_allclose(g.covariance()[0], factor @ factor.T, rtol=1e-5)
    with pytest.raises(ValueError, match="expected --size HxW"):
        arrays.read(path)


class Spy:
    """Does something when it is unpickled."""

    touched = False

    def __reduce__(self):
        return (setattr, (Spy, "touched", True))


def hostile() -> dict[str, bytes]:
    """Files that must not be run, hang, or be taken for Gaussians."""
    stream = io.BytesIO()
    np.savez(stream, xyz=np.array([Spy()], dtype=object), scaling=1, rotation=1, color=1,
             resolution=1)  # fmt: skip
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xyz.npy", bytes(1 << 20))
    huge = bytearray(bomb.getvalue())
    at = huge.rindex(b"PK\x01\x02")
    huge[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFFE)  # a size that would not fit in memory
    saved = io.BytesIO()
    torch.save({"_xyz": Spy()}, saved)
    g = scatter(9, (12, 34))
    return {
        "empty": b"", "text": b"no", "pickle": pickle.dumps(Spy()), "objects": stream.getvalue(),
        "bomb": bytes(huge), "checkpoint": saved.getvalue(), "cut": viewers_file()[:-40],
        "other": checkpoint(a=[1.0]), "shapes": viewers_file(scaling=np.ones((3, 1), np.float16)),
        "size": viewers_file(resolution=np.array([0, 5])), "names": viewers_file(
            color=np.array(["a", "b", "c"])), "ours": arrays.npz(g)[:-9],
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile())
def test_hostile_files_are_named_in_one_sentence_and_nothing_in_them_runs(tmp_path, name, capsys):
    Spy.touched = False
    path = tmp_path / f"{name}.bin"
    path.write_bytes(hostile()[name])
    out = str(tmp_path / "out.t2d")
    assert cli.main(["import", str(path), "-o", out, "--size", "20x40"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(path) in said and not Spy.touched
    assert not (tmp_path / "out.t2d").exists()


def test_mutated_archives_are_read_or_refused(tmp_path):
    random, whole = np.random.default_rng(0), viewers_file()
    path, refused = tmp_path / "m.npz", 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            data[int(random.integers(len(data)))] = int(random.integers(256))
        path.write_bytes(bytes(data))
        try:
            arrays.read(str(path))
        except ValueError as error:
            refused += "m.npz" in str(error) and "\n" not in str(error)
    assert 100 < refused <= 300


def test_commands_export_and_import(tmp_path, fitted, capsys):
    path = str(tmp_path / "g.t2d")
    fitted.gaussians.save(path, "lossless")
    for ending, word in (("ply", "approximate"), ("glb", "approximate"), ("npz", "exact")):
        assert cli.main(["export", path, "-o", str(tmp_path / f"g.{ending}")]) == 0
        said = capsys.readouterr().out
        assert word in said and ("dB against the render" in said) == (word == "approximate")
    assert cli.main(["import", str(tmp_path / "g.npz"), "-o", str(tmp_path / "again.t2d")]) == 0
    assert "2000 Gaussians of taichi2dgs, 96x128" in capsys.readouterr().out
    assert torch.equal(load(tmp_path / "again.t2d").packed(), fitted.gaussians.packed())
    (tmp_path / "v.npz").write_bytes(viewers_file())
    assert cli.main(["import", str(tmp_path / "v.npz"), "-o", str(tmp_path / "v.t2d")]) == 0
    assert "2 Gaussians of gaussian_image, 20x40; 1 are not finite" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "g.t2d", "-o", "g.obj"], "g.obj: cannot be exported"),
        (["export", "no.t2d", "-o", "g.ply"], "no.t2d: no such file"),
        (["export", "empty.t2d", "-o", "g.ply"], "there is at least one"),
        (["export", "many.t2d", "-o", "g.glb"], "splats have colours of 1 to 4"),
        (["import", "no.npz"], "no.npz: no such file"),
        (["import", "g.t2d", "-o", "g.png"], "g.png: Gaussians are saved as .t2d"),
        (["import", "g.t2d"], "no Gaussians of a known kind"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    scatter(9, (12, 34)).save("g.t2d")
    Gaussians.from_packed(torch.zeros(0, 8), (12, 34)).save("empty.t2d")
    scatter(9, (12, 34), channels=5).save("many.t2d")
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_an_archive_that_would_fill_the_memory_is_refused_before_it_is_unpacked(
    tmp_path, monkeypatch
):
    (tmp_path / "v.npz").write_bytes(viewers_file())
    monkeypatch.setattr(arrays, "MOST_BYTES", 500)
    monkeypatch.setattr(arrays.np, "load", None)
    with pytest.raises(ValueError, match="arrays of more than 500 bytes"):
        arrays.read(str(tmp_path / "v.npz"))
