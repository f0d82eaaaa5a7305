"""Places by URLs and tar shards: pictures come from them, files go to them."""

import io
import os
import re
import tarfile

import pytest
import torch

from pipelines import cli, places, plan
from pipelines.encoding import Encoding
from pipelines.folder import RECORD, encode_folder
from taichi2dgs.storage import files
from taichi2dgs.storage.paths import WriteError

fsspec = pytest.importorskip("fsspec", reason="needs the extra 'remote'")
ENCODING = Encoding(k=9, steps=2, start="random")


@pytest.fixture
def source(tmp_path):
    """Three pictures, one of them in a subfolder."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for name in ("a", "b", "deep/c"):
        image = torch.rand(8, 9, 3, generator=generator)
        files.write_image(tmp_path / "in" / f"{name}.png", image)
    return tmp_path / "in"


@pytest.fixture
def expected(source, tmp_path):
    """The bytes of files that a local folder gets."""
    assert encode_folder(source, tmp_path / "local", ENCODING, quiet=True, recursive=True) == 0
    return files_of(tmp_path / "local")


@pytest.fixture
def memory(source):
    """The folder in memory, by its URL; what is there ends with the test."""
    system = fsspec.filesystem("memory")
    system.put(f"{source}/", "/in", recursive=True)
    yield "memory://in"
    for name in ("/in", "/out"):
        if system.exists(name):
            system.rm(name, recursive=True)


def files_of(folder) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.t2d")
    }


def remote_files(url: str) -> dict[str, bytes]:
    place = places.place_of(url)
    return {name: place.read(name) for name, _ in place.walk() if name.endswith(".t2d")}


def shard_of(source, path):
    """Write a tar shard of a folder, with what is no picture, and with hidden files."""
    with tarfile.open(path, "w") as tar:
        tar.add(source, ".")
        for name in ("a.json", "._a.png"):
            about = tarfile.TarInfo(name)
            about.size = 2
            tar.addfile(about, io.BytesIO(b"{}"))
    return path


def test_urls_and_folders_make_the_same_files(memory, expected, tmp_path, capsys):
    out = "memory://out/files"
    assert encode_folder(memory, out, ENCODING, quiet=True, recursive=True) == 0
    assert remote_files(out) == expected and len(expected) == 3
    assert f"{out}: 3 encoded, 0 were there, 0 failed" in capsys.readouterr().out
    fsspec.filesystem("memory").rm("/out/files/b.t2d")
    command = ["encode", memory, "--out", out, "-k", "9", "--steps", "2", "--start", "random"]
    assert cli.main([*command, "--recursive", "-q"]) == 0
    assert f"{out}: 1 encoded, 2 were there, 0 failed" in capsys.readouterr().out
    assert remote_files(out) == expected
    assert cli.main([*command, "--seed", "3", "-q"]) == 2
    assert re.search(f"{out}: its files were made with seed=0, not 3", capsys.readouterr().err)
    assert encode_folder(memory, tmp_path / "down", ENCODING, quiet=True) == 0
    said = capsys.readouterr().err
    assert "pictures in subfolders, which --recursive takes: deep" in said
    assert set(files_of(tmp_path / "down")) == {"a.t2d", "b.t2d"}


def test_members_of_a_tar_shard_are_pictures(source, memory, expected, tmp_path, capsys):
    shard = shard_of(source, tmp_path / "some.tar")
    assert encode_folder(shard, tmp_path / "out", ENCODING, quiet=True) == 0
    assert files_of(tmp_path / "out") == expected
    assert capsys.readouterr().err == "taichi2dgs: left out: hidden files: ._a.png\n"
    fsspec.filesystem("memory").put(str(shard), "/in/some.tar")
    assert encode_folder(f"{memory}/some.tar", tmp_path / "two", ENCODING, quiet=True) == 0
    assert files_of(tmp_path / "two") == expected
    found = plan.find(memory, recursive=True).pictures
    assert [one.name for one in found] == [
        "a.png", "b.png", "deep/c.png", "some/a.png", "some/b.png", "some/deep/c.png",
    ]  # fmt: skip
    assert str(found[-1]) == "memory://in/some.tar/deep/c.png"
    assert plan.find(memory).left_out[-1] == "tar shards, which --recursive takes: some.tar"


def test_what_is_wrong_with_a_shard_is_said_in_one_line(source, tmp_path):
    with pytest.raises(ValueError, match=r"none\.tar: cannot be read \(No such file"):
        plan.find(tmp_path / "none.tar")
    (tmp_path / "bad.tar").write_bytes(b"no tar file")
    with pytest.raises(ValueError, match=r"bad\.tar: cannot be read \(") as raised:
        plan.find(tmp_path / "bad.tar")
    assert "\n" not in str(raised.value)
    with tarfile.open(tmp_path / "up.tar", "w") as tar:
        tar.add(source / "a.png", "../a.png")
    with pytest.raises(ValueError, match=r"up\.tar: .*has a member \.\./a\.png; expected names"):
        plan.find(tmp_path / "up.tar")


def test_a_broken_picture_of_a_url_is_named_and_skipped(memory, tmp_path, capsys):
    fsspec.filesystem("memory").pipe_file("/in/b.png", b"none")
    assert encode_folder(memory, tmp_path / "out", ENCODING, quiet=True) == 1
    said = capsys.readouterr()
    assert f"skipped: {memory}/b.png: not a readable picture" in said.err
    assert "1 encoded, 0 were there, 1 failed" in said.out


def test_a_url_that_is_unknown_or_empty_is_named(tmp_path):
    for url, reason in {
        "nonsense://a/b": "nonsense://a/b: cannot be read .*Protocol not known",
        "memory://nothing": "memory://nothing: ",
    }.items():
        with pytest.raises(ValueError, match=reason):
            encode_folder(url, tmp_path / "out", ENCODING, quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_file_by_a_url_appears_whole_or_not_at_all(source, tmp_path, monkeypatch):
    """Of a system whose files grow while they are written: they get their names at the end."""
    place = places.Url(f"local://{tmp_path}")
    place.write("sub/a.t2d", b"whole")
    assert os.listdir(tmp_path / "sub") == ["a.t2d"] and place.there(["sub/a.t2d"])
    system = type(places._opened(place.url)[0])

    def cut(self, path, data, **more):
        with open(path, "wb") as stream:
            stream.write(data[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(system, "pipe_file", cut)
    with pytest.raises(WriteError, match=r"b\.t2d: cannot be written \(No space left on device\)"):
        place.write("sub/b.t2d", b"whole")
    assert place.there(["sub/a.t2d", "sub/b.t2d"]) == {"sub/a.t2d"}
    with pytest.raises(WriteError, match="cannot be written"):
        encode_folder(source, f"local://{tmp_path}/out", ENCODING)
    assert os.listdir(tmp_path / "sub") == ["a.t2d"]  # and nothing unfinished


def test_pictures_of_a_url_are_fetched_once(memory, tmp_path, monkeypatch):
    read = []
    plain = places.Url.read

    def counted(self, name, *part):
        read.append(name)
        return plain(self, name, *part)

    monkeypatch.setattr(places.Url, "read", counted)
    assert encode_folder(memory, tmp_path / "out", ENCODING, quiet=True) == 0
    assert read == ["a.png", "b.png"]
    assert (tmp_path / "out" / RECORD).is_file()
    guesses = [one.guess() for one in plan.find(memory).pictures]
    assert guesses == [one.size for one in plan.find(memory).pictures] and len(read) == 2


def test_pixels_are_guessed_by_the_header_where_that_fetches_nothing(source):
    found = plan.find(source).pictures
    assert [one.guess() for one in found] == [one.pixels() for one in found]
    assert all(one.pixels() != one.size for one in found)


def test_groups_for_several_workers_become_smaller_towards_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "ROOM", (10 * 9, 10 * 9))
    place = places.place_of(tmp_path)
    found = [plan.Picture(place, f"{n}.png", f"{n}.png", 9) for n in range(50)]
    groups = list(plan.groups_of(found, ENCODING, pixels=lambda picture: 9.0, parts=4))
    assert [one for group in groups for one in group] == found
    assert [len(group) for group in groups] == [10, 10, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1]
