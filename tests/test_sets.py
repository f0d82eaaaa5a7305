"""Data sets of Gaussians: what encode writes, and what torch reads, without starting Taichi."""

import json
import math
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import environment, scatter
from PIL import Image

import taichi2dgs
from pipelines import cli, folder, sets
from pipelines.encoding import Encoding
from pipelines.folder import encode_folder
from pipelines.layout import Layout
from pipelines.places import Folder
from pipelines.plan import Picture
from pipelines.sets import encode_set
from taichi2dgs.fitting.options import FitResult
from taichi2dgs.settings import SETS
from taichi2dgs.storage import files, shard_files, shards
from taichi2dgs.storage.channels import with_channels
from taichi2dgs.storage.maps import Stack
from taichi2dgs.torch import GaussianFolder

ENCODING = Encoding(k=12, steps=3, start="random")
NAMES = ["cats/a.png", "cats/b.png", "cats/deep/c.png", "dogs/a.png", "dogs/b.v2.png", "root.png"]
LABELS = [0, 0, 0, 1, 1, -1]
SIZE = 4  # pictures in a file of `layout_of`


def picture_of(path: Path) -> Picture:
    return Picture(Folder(path.parent), path.name, path.name, path.stat().st_size)


def needs(form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'datasets'")


def layout_of(form: str = "npz", **more: object) -> Layout:
    return Layout(form, shard_size=SIZE, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of six pictures of several sizes, in two classes and in none, one of them grey."""
    folder = tmp_path_factory.mktemp("in")
    for n, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 256, (9 + n, 12, 3), np.uint8)
        picture = Image.fromarray(pixels)
        (picture.convert("L") if name == "root.png" else picture).save(path)
    return folder


def encoded(source, out, form, shard=(1, 1), encoding=ENCODING, **more):
    needs(form)
    code = encode_set(source, out, encoding, layout_of(form, **more), shard, True, True)
    return code, {path.name: path.read_bytes() for path in sorted(out.iterdir())}


@pytest.fixture(scope="module", params=SETS)
def made(request, source, tmp_path_factory):
    """A data set of each format: its format, its folder, and the bytes of its files."""
    out = tmp_path_factory.mktemp(request.param)
    code, there = encoded(source, out, request.param)
    assert code == 0
    return request.param, out, there


def test_a_set_is_a_few_files_and_a_record(made):
    form, _, there = made
    wanted = [f"gaussians-0000{n}-of-00002{SETS[form]}" for n in range(2)]
    assert list(there) == [".taichi2dgs.json", *wanted]
    record = json.loads(there[".taichi2dgs.json"])
    assert (record["format"], record["k"], record["channels"]) == (form, 12, 3)


def test_items_are_the_fits_of_the_pictures(made, source, tmp_path):
    dataset = GaussianFolder(made[1])
    assert dataset.names == NAMES and dataset.labels == LABELS
    assert dataset.classes == ["cats", "dogs"] and dataset.shape == (12, 8)
    for n, name in enumerate(NAMES):
        item = dataset[n]
        image = sets.read(picture_of(source / name), False, 3)
        fitted = ENCODING.run(image)
        rows = torch.from_numpy(shards.rows(fitted.gaussians, "float32"))
        assert torch.equal(item["gaussians"], rows) and item["name"] == name
        assert item["size"].tolist() == [9 + n, 12] and item["label"] == LABELS[n]
        assert float(item["psnr"]) == pytest.approx(fitted.psnr, rel=1e-6)
        # The other angle of a Gaussian, and the other order of ties, round otherwise.
        again = dataset.gaussians(n)
        assert again.size == (9 + n, 12)
        seen = taichi2dgs.psnr(again.render(), image.image)
        assert seen == pytest.approx(fitted.psnr, abs=1e-3)


def test_rows_are_sorted_with_the_longer_axis_first_and_render_the_same():
    g = scatter(300, (40, 56))
    rows = torch.from_numpy(shards.rows(g, "float32"))
    assert (rows[:, 2] >= rows[:, 3]).all()
    assert (rows[:, 4] >= 0).all() and (rows[:, 4] < math.pi).all()
    again = taichi2dgs.Gaussians.from_packed(rows, g.size)
    # Sorting changes which of two equally near Gaussians counts; angles round in the 7th digit.
    assert taichi2dgs.psnr(again.render().clamp(0, 1), g.render().clamp(0, 1)) > 80
    steps = (rows[1:, :2] - rows[:-1, :2]).norm(dim=1).mean()
    assert steps < 0.5 * (g.xy[1:] - g.xy[:-1]).norm(dim=1).mean()
    turned = g.replace(theta=torch.full_like(g.theta, -1e-9))
    assert (shards.rows(turned, "float32")[:, 4] < math.pi).all()


def test_half_floats_say_the_psnr_of_what_they_hold(source, tmp_path):
    encoded(source, tmp_path, "npz", dtype="float16")
    with np.load(tmp_path / "gaussians-00000-of-00002.npz") as found:
        assert found["gaussians"].dtype == np.float16 and found["gaussians"].shape == (3, 12, 8)
    dataset = GaussianFolder(tmp_path)
    for n, name in enumerate(NAMES):
        assert dataset[n]["gaussians"].dtype == torch.float32
        image = sets.read(picture_of(source / name), False, 3).image
        seen = taichi2dgs.psnr(dataset.gaussians(n).render(), image)
        assert float(dataset[n]["psnr"]) == pytest.approx(seen, abs=1e-3)
    g = scatter(300, (40, 56))
    fitted = FitResult(g, [taichi2dgs.Report(0, 0.0, 99.0)])
    rounded = sets._row(fitted, Stack(g.render().clamp(0, 1)), "float16")
    assert 30 < rounded.psnr < 70  # and not the fit's
    huge = scatter(2, (3, 4)).replace(color=torch.full((2, 3), -1e9))
    assert np.isfinite(shards.rows(huge, "float16")).all()


def test_a_stop_and_a_kill_lose_nothing_and_change_nothing(made, source, tmp_path, monkeypatch):
    form, _, whole = made
    monkeypatch.setattr(sets, "groups_of", lambda paths, encoding: ([path] for path in paths))
    plain, count = folder.encode_all, 0

    def stopping(*arguments, **named):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return plain(*arguments, **named)

    monkeypatch.setattr(folder, "encode_all", stopping)
    code, there = encoded(source, tmp_path, form)
    assert code == 130
    assert list(there) == [f".gaussians-00000-of-00002{SETS[form]}", ".taichi2dgs.json"]
    code, there = encoded(source, tmp_path, form)
    assert code == 0 and there == whole and count == 3 + 4  # of six pictures two were kept
    assert encoded(source, tmp_path, form) == (0, whole) and count == 7


def test_parts_of_several_machines_are_the_files_of_one(made, source, tmp_path):
    form, _, whole = made
    assert encoded(source, tmp_path, form, (2, 2))[0] == 0
    assert len(list(tmp_path.glob("g*"))) == 1
    assert encoded(source, tmp_path, form, (1, 2)) == (0, whole)


def test_what_is_done_is_kept_each_minute(source, tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "groups_of", lambda paths, encoding: ([path] for path in paths))
    monkeypatch.setattr(sets, "LOST", -1.0)
    written: list[str] = []
    plain = shard_files.write
    monkeypatch.setattr(shard_files, "write", lambda p, s: (written.append(p.name), plain(p, s)))
    encoded(source, tmp_path, "npz")
    name = "gaussians-00000-of-00002.npz"
    assert written[:4] == ["." + name] * 3 + [name]
    assert not (tmp_path / f".{name}").exists()


def test_a_bad_picture_is_named_left_out_and_tried_again(source, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes((source / "root.png").read_bytes())
    whole = (tmp_path / "in" / "b.png").read_bytes()
    (tmp_path / "in" / "b.png").write_bytes(whole[:60])
    code, _ = encoded(tmp_path / "in", tmp_path / "out", "npz")
    said = capsys.readouterr()
    assert code == 1 and "1 encoded, 0 were there, 1 failed" in said.out
    assert said.err.startswith("taichi2dgs: skipped: ") and "b.png" in said.err
    assert GaussianFolder(tmp_path / "out").names == ["a.png"]
    (tmp_path / "in" / "b.png").write_bytes(whole)
    assert encoded(tmp_path / "in", tmp_path / "out", "npz")[0] == 0
    assert "1 encoded, 1 were there, 0 failed" in capsys.readouterr().out
    assert GaussianFolder(tmp_path / "out").names == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "change, named",
    [({"k": "auto"}, "k='auto'"), ({"target_psnr": 30}, "target_psnr=30.0"),
     ({"target_bytes": 999}, "target_bytes=999"), ({"k": 9, "quality": "small"}, "quality='small'"),
     ({"k": 9, "refine": 3}, "refine=3"), ({"k": 9, "progressive": True}, "progressive=True")],
)  # fmt: skip
def test_what_arrays_cannot_hold_is_refused_in_one_line(source, tmp_path, change, named):
    with pytest.raises(ValueError, match=rf"^{named} with format=npz") as caught:
        encoded(source, tmp_path, "npz", encoding=Encoding(steps=1, **change))
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change", [{"format": "mp3"}, {"dtype": "int8"}, {"channels": 5}, {"shard_size": 0}]
)
def test_a_layout_that_is_none_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Layout(**({"format": "npz"} | change))


def test_other_settings_formats_and_pictures_are_refused(source, tmp_path):
    encoded(source, tmp_path, "npz")
    with pytest.raises(ValueError, match="were made with dtype='float32', not 'float16'"):
        encoded(source, tmp_path, "npz", dtype="float16")
    with pytest.raises(ValueError, match="were made with format='npz', not 'webdataset'"):
        encoded(source, tmp_path, "webdataset")
    with pytest.raises(ValueError, match="were made with format='npz', not 't2d'"):
        encode_folder(source, tmp_path, ENCODING, quiet=True)
    with pytest.raises(ValueError, match=r"were made with pictures='6, of names \w+', not '1, of"):
        encode_set(source, tmp_path, ENCODING, layout_of(), quiet=True)
    (tmp_path / ".taichi2dgs.json").unlink()
    with pytest.raises(ValueError, match=r"npz: 3 pictures of \[12, 8, 'float32'\]; expected"):
        encoded(source, tmp_path, "npz", dtype="float16")


def test_a_full_disk_ends_the_run_in_one_line(source, tmp_path, full_disk):
    encoded(source, tmp_path, "npz", (1, 2))
    with full_disk(), pytest.raises(files.WriteError, match=r"npz: cannot be written"):
        encoded(source, tmp_path, "npz")
    assert len(list(tmp_path.glob("g*"))) == 1


def test_the_command_makes_a_set(source, tmp_path, capsys):
    start = ["encode", str(source), "--out", str(tmp_path), "-k", "5", "--steps", "1", "-q"]
    assert cli.main([*start, "--start", "random", "--format", "npz", "--dtype", "float16",
                     "--channels", "1", "--recursive"]) == 0  # fmt: skip
    assert "6 encoded, 0 were there, 0 failed" in capsys.readouterr().out
    assert GaussianFolder(tmp_path).shape == (5, 6)
    assert cli.main([*start, "--dtype", "float16"]) == 2
    assert "--dtype with --format t2d; expected one of npz" in capsys.readouterr().err
    assert cli.main(["encode", str(source / "root.png"), "--format", "npz"]) == 2
    assert "--format npz: " in capsys.readouterr().err


@pytest.mark.parametrize("given", [1, 2, 3, 4])
@pytest.mark.parametrize("wanted", [1, 2, 3, 4])
def test_pictures_get_the_channels_of_the_set(given, wanted):
    """Grey of 0.4 at half opacity is 0.2, and 0.7 on white, whatever its channels."""
    image = torch.full((2, 3, given), 0.4)
    if given in (2, 4):
        image, image[..., -1] = image / 2, 0.5
    found = with_channels(image, wanted)
    assert found.shape == (2, 3, wanted)
    color = 0.4 if given in (1, 3) else 0.2 if wanted in (2, 4) else 0.7
    torch.testing.assert_close(found[..., 0], torch.full((2, 3), color))
    if wanted in (2, 4):
        assert float(found[0, 0, -1]) == (0.5 if given in (2, 4) else 1.0)


def test_light_is_linear_where_told_and_floats_are_refused(source, tmp_path):
    encoded(source, tmp_path / "out", "npz", encoding=Encoding(k=9, steps=0, linear=True))
    assert GaussianFolder(tmp_path / "out").gaussians(0).maps[0].kind == "linear"
    Image.fromarray(np.full((4, 5), 3.0, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a\.tif: floats beyond sRGB"):
        sets.read(picture_of(tmp_path / "a.tif"), False, 3)


@pytest.mark.parametrize("form", SETS)
def test_a_set_of_textures_wraps_around(form, source, tmp_path):
    needs(form)
    encoded(source, tmp_path, form, encoding=ENCODING.tiled())
    assert GaussianFolder(tmp_path).gaussians(0).settings.tile


def test_a_tar_shard_becomes_a_set_as_its_folder_does(source, tmp_path):
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(source, ".")
    encoded(source, tmp_path / "of_folder", "npz")
    assert not encode_set(tmp_path / "all.tar", tmp_path / "of_tar", ENCODING, layout_of())
    datasets = [GaussianFolder(tmp_path / name) for name in ("of_folder", "of_tar")]
    assert datasets[0].names == datasets[1].names
    for n in range(len(NAMES)):
        assert torch.equal(datasets[0][n]["gaussians"], datasets[1][n]["gaussians"])


def test_sets_are_made_here_and_on_no_cluster(source, tmp_path, capsys):
    command = ["encode", str(source), "--steps", "1", "--format", "npz", "-k", "9", "--out"]
    assert cli.main([*command, "memory://sets"]) == 2
    assert "memory://sets: a data set is written to a folder" in capsys.readouterr().err
    assert cli.main([*command, str(tmp_path), "--ray", "local"]) == 2
    assert "--format npz: --ray makes files of t2d only" in capsys.readouterr().err


def test_files_of_t2d_are_read_with_their_labels(tmp_path):
    for n, name in enumerate(["a/x", "a/y", "b/x"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        scatter(20, (9, 12), seed=n).save(tmp_path / f"{name}.t2d", "lossless")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "z.t2d").touch()
    dataset = GaussianFolder(tmp_path)
    assert dataset.names == ["a/x.t2d", "a/y.t2d", "b/x.t2d"] and dataset.labels == [0, 0, 1]
    assert torch.equal(
        dataset[2]["gaussians"],
        torch.from_numpy(shards.rows(scatter(20, (9, 12), seed=2), "float32")),
    )
    assert math.isnan(dataset[0]["psnr"]) and len(dataset.gaussians(-1)) == 20
    scatter(19, (9, 12)).save(tmp_path / "a" / "y.t2d")
    with pytest.raises(ValueError, match=r"y\.t2d: an array of \[19, 8\]; expected \[20, 8\]"):
        dataset[1]


def test_a_transform_takes_the_place_of_items(made):
    dataset = GaussianFolder(made[1], lambda item: (item["gaussians"].sum(), item["label"]))
    assert dataset[3][1] == 1 and len(list(dataset)) == 6  # which ends by IndexError
    for wrong in (6, -7):
        with pytest.raises(IndexError, match=f"index={wrong}; expected one of 6"):
            dataset[wrong]
    with pytest.raises(ValueError, match="transform=3; expected a function"):
        GaussianFolder(made[1], 3)  # type: ignore[arg-type]


def test_a_set_can_be_pickled_for_workers_that_are_spawned(made):
    dataset = GaussianFolder(made[1])
    before = dataset[5]["gaussians"]
    data = pickle.dumps(dataset)
    assert torch.equal(pickle.loads(data)[5]["gaussians"], before)
    assert len(data) < 4000 + 12 * 8 * 4  # it has no arrays


SCRIPT = """
import sys
from torch.utils.data import DataLoader
from taichi2dgs.torch import GaussianFolder

def seen(item):
    item["taichi"] = int("taichi" in sys.modules)
    return item

loader = DataLoader(GaussianFolder(sys.argv[1], seen), 4, num_workers=2,
                    multiprocessing_context="fork")
batches = list(loader)
shapes = [tuple(batch["gaussians"].shape) for batch in batches]
print(shapes, sum(int(batch["taichi"].sum()) for batch in batches), "taichi" in sys.modules)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.parametrize("form", ["t2d", *SETS])
def test_workers_may_fork_and_never_import_taichi(form, source, tmp_path):
    if form == "t2d":
        for n in range(6):
            scatter(12, (9, 12), seed=n).save(tmp_path / f"{n}.t2d")
    else:
        encoded(source, tmp_path, form, encoding=Encoding(k=12, steps=0, start="random"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment(), capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == "[(4, 12, 8), (2, 12, 8)] 0 False\n", done.stderr


def test_webdataset_reads_the_tars(source, tmp_path):
    wds = pytest.importorskip("webdataset", reason="needs the package webdataset")
    encoded(source, tmp_path, "webdataset")
    urls = sorted(str(path) for path in tmp_path.glob("*.tar"))
    samples = wds.WebDataset(urls, shardshuffle=False).decode().to_tuple("npy", "cls", "json")
    found = {json["name"]: (array, label) for array, label, json in samples}
    dataset = GaussianFolder(tmp_path)
    assert sorted(found) == NAMES
    for n, name in enumerate(NAMES):
        assert np.array_equal(found[name][0], dataset[n]["gaussians"].numpy())
        assert found[name][1] == LABELS[n]


def test_arrays_and_tables_are_what_the_page_says(source, tmp_path):
    needs("parquet")
    import pyarrow.parquet as pq

    encoded(source, tmp_path / "npz", "npz")
    encoded(source, tmp_path / "parquet", "parquet", dtype="float16")
    with np.load(tmp_path / "npz" / "gaussians-00001-of-00002.npz") as found:
        assert found["name"].tolist() == NAMES[1::2] and found["index"].tolist() == [1, 3, 5]
        assert found["label"].tolist() == [0, 1, -1] and found["size"].tolist()[2] == [14, 12]
        about = json.loads(str(found["about"]))
        assert about["classes"] == ["cats", "dogs"] and about["columns"][:2] == ["x", "y"]
    table = pq.read_table(tmp_path / "parquet")
    assert sorted(table.column("name").to_pylist()) == NAMES
    assert table.column("gaussians").type.list_size == 12 * 8
    assert str(table.column("gaussians").type.value_type) == "halffloat"


@pytest.mark.parametrize("form", SETS)
def test_damaged_files_are_named(form, source, tmp_path):
    _, there = encoded(source, tmp_path, form, encoding=Encoding(k=12, steps=0, start="random"))
    name = f"gaussians-00001-of-00002{SETS[form]}"
    whole = there[name]
    for data in (b"", whole[: len(whole) // 2], b"x" * len(whole)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=rf"{name}: no shard of Gaussians \(") as caught:
            GaussianFolder(tmp_path)
        assert "\n" not in str(caught.value)
    (tmp_path / name).write_bytes(there[f"gaussians-00000-of-00002{SETS[form]}"])
    with pytest.raises(ValueError, match="have a picture twice"):
        GaussianFolder(tmp_path)


def test_archives_that_are_none_of_ours_are_named(source, tmp_path):
    encoded(source, tmp_path, "npz", encoding=Encoding(k=12, steps=0, start="random"))
    name = tmp_path / "gaussians-00000-of-00002.npz"
    with np.load(name) as found:
        parts = dict(found)
    for change in ({"gaussians": parts["gaussians"][:2]}, {"psnr": parts["psnr"][:1]},
                   {"gaussians": parts["gaussians"].astype(int)}, {"about": np.array("{}")},
                   {"gaussians": parts["gaussians"][..., :7]}):  # fmt: skip
        np.savez(name, **(parts | change))
        with pytest.raises(ValueError, match=r"00000-of-00002\.npz: no shard of Gaussians"):
            GaussianFolder(tmp_path)
    np.savez_compressed(name, **parts)
    with pytest.raises(ValueError, match="its arrays are compressed"):
        GaussianFolder(tmp_path)
    with zipfile.ZipFile(name, "w"):
        pass
    with pytest.raises(ValueError, match="no shard of Gaussians"):
        GaussianFolder(tmp_path)
    np.savez(name, **(parts | {"gaussians": parts["gaussians"][:, :5]}))
    with pytest.raises(ValueError, match=r"expected as in gaussians-00000-of-00002.npz, \[5, 8\]"):
        GaussianFolder(tmp_path)


def test_folders_that_are_no_set_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone: no such folder"):
        GaussianFolder(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"has none of \.npz, \.parquet, \.tar, \.t2d; expected"):
        GaussianFolder(tmp_path)
    (tmp_path / "a.npz").touch()
    (tmp_path / "a.t2d").touch()
    with pytest.raises(ValueError, match=r"has \.npz and \.t2d; expected files of one format"):
        GaussianFolder(tmp_path)


def test_a_package_that_is_missing_is_named_before_the_first_fit(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"Parquet needs pyarrow: .*taichi2dgs\[datasets\]"):
        encode_set(source, tmp_path / "out", ENCODING, layout_of("parquet"), quiet=True)
    assert not (tmp_path / "out").exists()
