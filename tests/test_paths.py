"""Files, links, pipes and devices as what is read and written."""

import contextlib
import io
import os
import stat
import sys
import threading
from pathlib import Path

import pytest
import torch
from conftest import scatter
from PIL import Image

import taichi2dgs
from pipelines import cli
from taichi2dgs.storage import files, paths, t2d

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
GREY = torch.full((4, 4, 3), 0.5)
WRITERS = {
    "a.t2d": lambda path: scatter(9, (4, 4)).save(path),
    "a.png": lambda path: taichi2dgs.write_image(path, GREY),
}
READERS = {
    "a.t2d": lambda path: len(taichi2dgs.load(path)),
    "a.png": lambda path: taichi2dgs.read_image(path).shape,
}
by_kind = pytest.mark.parametrize("name", WRITERS)


def test_a_file_is_as_it_was_until_its_replacement_is_whole(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")
    with files.replacing(path) as temporary:
        Path(temporary).write_text("half")
        assert path.read_text() == "before" and Path(temporary).parent == tmp_path
        Path(temporary).write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as temporary:
        Path(temporary).write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "after" and os.listdir(tmp_path) == ["a"]


@posix
@by_kind
def test_links_are_followed_and_stay(tmp_path, name):
    (tmp_path / "there").mkdir()
    real, link, second = tmp_path / "there" / name, tmp_path / name, tmp_path / f"second-{name}"
    link.symlink_to(Path("there") / name)  # it points to nothing yet
    second.symlink_to(link)
    for target in (link, second):
        WRITERS[name](target)
        assert link.is_symlink() and second.is_symlink() and READERS[name](real)
        assert os.listdir(tmp_path / "there") == [name]
        real.unlink()


@posix
@by_kind
@pytest.mark.parametrize("mode", [0o600, 0o755])
def test_a_file_that_is_written_again_keeps_its_mode(tmp_path, name, mode):
    path = tmp_path / name
    path.touch()
    path.chmod(mode)
    WRITERS[name](path)
    assert stat.S_IMODE(path.stat().st_mode) == mode and READERS[name](path)


@posix
@by_kind
def test_a_pipe_gets_the_whole_file_and_stays_a_pipe(tmp_path, name):
    WRITERS[name](tmp_path / f"plain-{name}")
    pipe = tmp_path / name
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.check_writable(pipe)
    WRITERS[name](pipe)
    got = os.read(reader, 1 << 16)
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode) and got == (tmp_path / f"plain-{name}").read_bytes()
    assert len(os.listdir(tmp_path)) == 2


@posix
def test_a_device_is_written_to_and_stays_a_device(tmp_path):
    master, slave = os.openpty()
    device = Path(os.ttyname(slave))
    with files.replacing(device) as temporary:
        Path(temporary).write_bytes(b"hello")
    assert os.read(master, 5) == b"hello" and stat.S_ISCHR(device.stat().st_mode)
    os.close(master)
    os.close(slave)


@posix
def test_the_standard_output_is_added_to_and_not_replaced(capfd):
    """It is a regular file here, which `capfd` puts there."""
    assert stat.S_ISREG(os.fstat(1).st_mode)
    os.write(1, b"first ")
    t2d.write("/dev/stdout", b"second")
    os.write(1, b" third")
    assert capfd.readouterr().out == "first second third"


@posix
@by_kind
def test_pipes_are_read(tmp_path, name):
    WRITERS[name](tmp_path / name)
    data = (tmp_path / name).read_bytes()
    wanted = READERS[name](tmp_path / name)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert READERS[name](pipe) == wanted
    writer.join()
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    assert READERS[name](f"/dev/fd/{read_end}") == wanted  # as shells name <(...)
    os.close(read_end)


@contextlib.contextmanager
def standard_input(data: bytes):
    """Make the standard input of this process a pipe that holds these bytes."""
    before, (read_end, write_end) = os.dup(0), os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    os.dup2(read_end, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(read_end)


@posix
@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_the_command_line_reads_the_standard_input(tmp_path, monkeypatch, capsys, source):
    monkeypatch.chdir(tmp_path)
    scatter(9, (4, 4)).save("a.t2d")
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    fit = ["-k", "9", "--steps", "1", "--start", "random", "-q"]
    with standard_input(Path("a.t2d").read_bytes()):
        assert cli.main(["info", source]) == 0
    with standard_input(out.getvalue()):
        assert cli.main(["encode", source, "-o", "b.t2d", *fit]) == 0
        assert len(taichi2dgs.load("b.t2d")) == 9
        assert cli.main(["encode", source, *fit]) == 2
    assert f"{source}: a pipe has no name; expected -o OUT.t2d too" in capsys.readouterr().err


LONG = "n" * 300
STRANGE = [3, None, 2.5, ["a.png"], LONG + ".png", "a\0b.png", "\ud800.png", object()]


@pytest.mark.parametrize("path", STRANGE)
def test_what_is_no_path_is_a_valueerror(path):
    said = r"expected the path of a file|no such file|cannot be (read|written)"
    calls = (
        taichi2dgs.read_image,
        taichi2dgs.load,
        files.check_writable,
        lambda path: taichi2dgs.write_image(path, GREY),
        scatter(1, (4, 4)).save,
    )
    for call in calls:
        with pytest.raises(ValueError, match=said):
            call(path)


def test_files_that_are_too_long_are_refused_before_they_are_read(tmp_path):
    (tmp_path / "a").write_bytes(bytes(11))
    assert paths.contents(tmp_path / "a", 11) == bytes(11)
    with pytest.raises(ValueError, match=r"a: 11 bytes; expected 10 at most"):
        paths.contents(tmp_path / "a", 10)


@posix
def test_pipes_that_are_too_long_are_refused_while_they_are_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for most in (10, 11):
        writer = threading.Thread(target=pipe.write_bytes, args=(bytes(11),))
        writer.start()
        if most == 11:
            assert paths.contents(pipe, most) == bytes(11)
        else:
            with pytest.raises(ValueError, match=r"pipe: 11 bytes; expected 10 at most"):
                paths.contents(pipe, most)
        writer.join()


@posix
def test_a_full_disk_is_found_before_anything_is_made(tmp_path, full_disk):
    with full_disk(), pytest.raises(files.WriteError, match=r"written \(File too large\)"):
        files.check_writable(tmp_path / "a.t2d")
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written_is_told_from_bad_arguments(tmp_path):
    for write in (lambda path: t2d.write(path, b"x"), WRITERS["a.png"]):
        with pytest.raises(files.WriteError, match=r"No such file or directory\)$"):
            write(tmp_path / "no" / "a.png")
