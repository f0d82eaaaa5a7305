"""Folders of pictures: what is taken, what is said of the rest, and what ends a run."""

import contextlib
import io
import json
import os
import shutil
import sys
import time

import pytest
from conftest import scatter
from PIL import Image

import taichi2dgs
from pipelines import cli, folder, places, plan
from pipelines.encoding import Encoding
from pipelines.folder import encode_folder
from taichi2dgs import Report
from taichi2dgs.fitting.fit import FitResult
from taichi2dgs.storage import files, pictures

ENCODING = Encoding(k=9, steps=1, start="random")


@pytest.fixture
def source(tmp_path):
    """A folder with a picture of every ending, and things that only look like pictures."""
    (tmp_path / "in" / "album.png").mkdir(parents=True)
    picture = Image.new("L", (4, 4), 100)
    for ending, kind in pictures.ENDINGS.items():
        # Contents count, not names: what Pillow does not write is a PNG by another name.
        written = "PNG" if kind in ("HEIC", "EXR") else kind
        picture.convert("1" if ending == ".pbm" else "L").save(
            tmp_path / "in" / f"{ending[1:]}{ending}", written
        )
    (tmp_path / "in" / "._jpg.jpg").write_bytes(b"Mac OS X")
    (tmp_path / "in" / "notes.txt").write_text("none")
    shutil.copy(tmp_path / "in" / "png.png", tmp_path / "in" / "album.png" / "a.PNG")
    (tmp_path / "in" / ".thumbs").mkdir()
    shutil.copy(tmp_path / "in" / "png.png", tmp_path / "in" / ".thumbs" / "b.png")
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def quick(monkeypatch):
    """Replace fits by ones that take no time; the list has the names of their pictures."""
    fitted = []
    monkeypatch.setattr(plan, "ROOM", (0, 0))  # each picture alone

    def encode_file(picture, place, target, encoding):
        fitted.append(picture.name.rpartition("/")[2])
        place.write(target, b"fitted")
        return FitResult.__new__(FitResult)

    monkeypatch.setattr(folder, "encode_file", encode_file)
    monkeypatch.setattr(FitResult, "history", [Report(0, 0.0, 30.0)], raising=False)
    return fitted


def test_every_ending_that_is_read_is_taken(source, out, quick, capsys):
    assert {".gif", ".avif", ".ppm", ".pgm", ".jfif", ".jpe"} < set(pictures.ENDINGS)
    assert encode_folder(source, out, ENCODING, quiet=True) == 0
    assert sorted(quick) == sorted(f"{ending[1:]}{ending}" for ending in pictures.ENDINGS)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "taichi2dgs: left out: hidden files: ._jpg.jpg",
        "taichi2dgs: left out: pictures in subfolders, which --recursive takes: album.png",
    ]


def test_each_of_them_can_be_read(source):
    for picture in plan.find(source).pictures:
        assert taichi2dgs.read_image(source / picture.name).shape[:2] == (4, 4)


def test_subfolders_are_taken_when_told_and_keep_their_names(source, out, quick, capsys):
    assert encode_folder(source, out, ENCODING, quiet=True, recursive=True) == 0
    assert (out / "album.png" / "a.t2d").is_file() and not (out / ".thumbs").exists()
    assert "subfolders" not in capsys.readouterr().err
    before = len(quick)
    assert encode_folder(source, out, ENCODING, quiet=True, recursive=True) == 0
    assert len(quick) == before  # they are all there


def test_a_folder_with_pictures_in_subfolders_only_says_so(tmp_path, out):
    (tmp_path / "in" / "deep" / "er").mkdir(parents=True)
    Image.new("L", (4, 4)).save(tmp_path / "in" / "deep" / "er" / "a.png")
    with pytest.raises(ValueError, match=r"no pictures there; left out: .*--recursive.*: deep$"):
        encode_folder(tmp_path / "in", out, ENCODING)
    assert not out.exists()


def test_thousands_of_names_take_time_in_proportion(monkeypatch, tmp_path, out):
    entries = [places.Entry(f"{index}.png", 9) for index in range(10_000)]
    monkeypatch.setattr(places.Folder, "walk", lambda *_, **__: iter(entries))
    begin = time.process_time()
    found = plan.find(tmp_path).pictures
    assert len(plan.targets_of(found, places.place_of(out))) == 10_000
    assert time.process_time() - begin < 4  # 0.3 s was seen, and 18 s if each is compared with all


@pytest.mark.parametrize("change", [{"k": 10}, {"quality": "small"}, {"steps": 2}, {"seed": 1}])
def test_files_of_other_settings_are_not_taken_for_finished_ones(source, out, quick, change):
    encode_folder(source, out, ENCODING, quiet=True)
    made = len(quick)
    name, value = next(iter(change.items()))
    other = Encoding(**({"k": 9, "steps": 1, "start": "random"} | change))
    said = f"{out}: its files were made with {name}={getattr(ENCODING, name)!r}, not {value!r}; exp"
    with pytest.raises(ValueError) as raised:
        encode_folder(source, out, other, quiet=True)
    assert str(raised.value).startswith(said) and len(quick) == made
    for path in out.glob("*.t2d"):
        path.unlink()
    assert encode_folder(source, out, other, quiet=True) == 0  # nothing was there any more


def test_shards_agree_on_settings_also_while_they_run(source, out, quick, monkeypatch):
    for part in (1, 2, 3):
        assert encode_folder(source, out, ENCODING, (part, 3), quiet=True) == 0
    assert len(quick) == len(pictures.ENDINGS)
    assert json.loads((out / folder.RECORD).read_text())["k"] == 9
    for path in out.glob("*.t2d"):
        path.unlink()
    plain = folder.encode_file

    def meanwhile(*arguments):
        (out / folder.RECORD).write_text('{"k": 77}')  # another run begins with nothing there
        return plain(*arguments)

    monkeypatch.setattr(folder, "encode_file", meanwhile)
    with pytest.raises(ValueError, match="its files were made with k=77, not 9"):
        encode_folder(source, out, ENCODING, (1, 3), quiet=True)
    assert len(list(out.glob("*.t2d"))) == 1


def test_files_without_a_record_are_kept_with_a_word(source, out, quick, capsys):
    out.mkdir()
    (out / "png.t2d").touch()
    assert encode_folder(source, out, ENCODING, quiet=True) == 0 and "png.png" not in quick
    assert f"{out}: has files of unknown settings; they are kept" in capsys.readouterr().err
    (out / folder.RECORD).write_text("{")
    with pytest.raises(ValueError, match=r"\.taichi2dgs\.json: cannot be read; expected settings"):
        encode_folder(source, out, ENCODING, quiet=True)


def test_a_full_disk_is_found_before_the_first_fit(source, out, quick, full_disk, tmp_path):
    with full_disk(), pytest.raises(files.WriteError, match="cannot be written"):
        encode_folder(source, out, ENCODING, quiet=True)
    (tmp_path / "file").touch()
    with pytest.raises(files.WriteError, match=r"file: cannot be made"):
        encode_folder(source, tmp_path / "file", ENCODING, quiet=True)
    assert quick == []


def test_a_disk_that_becomes_full_ends_the_run_at_the_first_fit_that_is_lost(
    source, out, quick, full_disk, monkeypatch, capsys
):
    plain = folder.encode_file

    def filling(picture, place, target, encoding):
        if len(quick) < 2:
            return plain(picture, place, target, encoding)
        quick.append(picture.name)
        with full_disk():
            place.write(target, bytes(9999))

    monkeypatch.setattr(folder, "encode_file", filling)
    with pytest.raises(files.WriteError, match=r"\.t2d: cannot be written \(File too large\)"):
        encode_folder(source, out, ENCODING, quiet=True)
    assert (
        len(quick) == 3 and f"{out}: 2 encoded, 0 were there, 0 failed" in capsys.readouterr().out
    )


def test_a_disk_that_becomes_full_between_fits_ends_the_run_before_the_next(
    source, out, quick, full_disk, monkeypatch
):
    plain = folder.encode_file
    with contextlib.ExitStack() as stack:

        def filling(*arguments):
            result = plain(*arguments)
            if len(quick) == 2:
                stack.enter_context(full_disk())
            return result

        monkeypatch.setattr(folder, "encode_file", filling)
        with pytest.raises(files.WriteError, match=r"\.t2d: cannot be written"):
            encode_folder(source, out, ENCODING, quiet=True)
    assert len(quick) == 2


def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone: cannot be read \(No such file"):
        plan.find(tmp_path / "gone")


def test_a_folder_in_the_place_of_a_file_is_named(source, out, quick):
    (out / "png.t2d").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"png\.t2d: is a folder, where a file is to be"):
        encode_folder(source, out, ENCODING, quiet=True)


def test_the_command_takes_subfolders_and_ends_with_one_line(source, out, quick, full_disk, capsys):
    start = ["encode", str(source), "--out", str(out), "-k", "9", "--steps", "1", "-q"]
    assert cli.main([*start, "--recursive"]) == 0 and (out / "album.png" / "a.t2d").is_file()
    assert cli.main([*start[:5], "10", *start[6:]]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("taichi2dgs: error: ")
    assert cli.main(["encode", str(source / "png.png"), "--recursive"]) == 2
    assert "--recursive: " in capsys.readouterr().err


@pytest.fixture
def some_file(tmp_path):
    scatter(3, (4, 4)).save(tmp_path / "a.t2d")
    return tmp_path / "a.t2d"


def test_a_name_that_the_terminal_cannot_show_is_no_error(tmp_path, some_file, monkeypatch, capsys):
    name = tmp_path / "b\N{LATIN SMALL LETTER U WITH DIAERESIS}hne.png"
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["render", str(some_file), "-o", str(name)]) == 0
    assert rb"b\xfchne.png: 4x4" in terminal.buffer.getvalue() and name.exists()  # type: ignore
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX pipes")
def test_a_reader_that_ends_is_no_error(some_file, monkeypatch, capsys):
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(["info", str(some_file)]) == cli.BROKEN_PIPE
    assert capsys.readouterr().err == ""
