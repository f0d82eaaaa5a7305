"""The command line, as a stranger would use it: in a process of its own."""

import contextlib
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time

import pytest
import torch
from conftest import environment

import pipelines
import taichi2dgs
from pipelines import cli
from pipelines.encoding import Encoding
from pipelines.progress import FitBar
from taichi2dgs import metrics
from taichi2dgs.fitting.options import Report
from taichi2dgs.storage import files


def taichi2dgs_command(*arguments: object, cwd) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment())


@pytest.fixture
def picture(tmp_path, photograph):
    files.write_image(tmp_path / "photo.png", photograph[:48, :56])
    return tmp_path / "photo.png"


def test_encode_then_render(tmp_path, picture, backend):
    done = taichi2dgs_command("encode", picture, "-k", 400, "--steps", 30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(
        r"photo\.t2d: 400 Gaussians, PSNR ([\d.]+) dB, 30 iterations, [\d.]+ s, backend (\w+)", last
    )
    assert match and match[2] == backend
    assert done.stderr == ""  # bars are for terminals
    shown = taichi2dgs_command("render", "photo.t2d", "-o", "out.png", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    image, original = files.read_image(tmp_path / "out.png"), files.read_image(picture)
    assert metrics.psnr(image, original) == pytest.approx(float(match[1]), abs=0.5)
    large = taichi2dgs_command(
        "render", "photo.t2d", "-o", "large.png", "--size", "97x111", cwd=tmp_path
    )
    assert large.returncode == 0 and large.stdout.startswith("large.png: 97x111, 400 Gaussians")
    large_image = files.read_image(tmp_path / "large.png")
    assert large_image.shape == (97, 111, 3)
    part = taichi2dgs_command(
        "render",
        "photo.t2d",
        "-o",
        "part.png",
        "--size",
        "97x111",
        "--crop",
        "7,20,50x60",
        cwd=tmp_path,
    )
    assert part.returncode == 0 and part.stdout.startswith("part.png: 50x60, 400 Gaussians")
    assert torch.equal(files.read_image(tmp_path / "part.png"), large_image[7:57, 20:80])
    for name, more in (("small.png", []), ("alias.png", ["--alias"])):
        small = taichi2dgs_command(
            "render", "photo.t2d", "-o", name, "--size", "12x14", *more, cwd=tmp_path
        )
        assert small.returncode == 0, small.stderr
    average = original.reshape(12, 4, 14, 4, 3).mean((1, 3))
    smooth, jagged = (files.read_image(tmp_path / name) for name in ("small.png", "alias.png"))
    assert metrics.psnr(smooth, average) > metrics.psnr(jagged, average) + 3


def test_seconds_and_quiet(tmp_path, picture):
    done = taichi2dgs_command(
        "encode", picture, "-k", 100, "--seconds", 0.5, "-o", "x.t2d", "-q", cwd=tmp_path
    )
    assert done.returncode == 0 and done.stderr == ""
    assert "0.5 s" in done.stdout or "0.6 s" in done.stdout


def test_transparency_is_kept(tmp_path):
    image = torch.rand(20, 30, 4, generator=torch.Generator().manual_seed(0))
    files.write_image(tmp_path / "a.png", image)
    assert not taichi2dgs_command(
        "encode", "a.png", "-k", 50, "--steps", 5, cwd=tmp_path
    ).returncode
    assert not taichi2dgs_command("render", "a.t2d", "-o", "b.png", cwd=tmp_path).returncode
    assert files.read_image(tmp_path / "b.png").shape == (20, 30, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["encode", "absent.png"], "absent.png: no such file"),
        (["encode", "text.png"], "text.png: not a readable picture"),
        (["encode", "photo.png", "-k", "0"], "k=0; expected a whole number of 1 or more"),
        (["encode", "photo.png", "-o", "no/x.t2d"], "no/x.t2d: cannot be written"),
        (["encode", "photo.png", "-o", "x.png"], "x.png: Gaussians are saved as .t2d"),
        (["encode", "photo.png", "--backend", "abacus"], "backend='abacus' is unknown"),
        (["encode", "photo.png", "--backend", "metal"], "backend 'metal' is not available here"),
        (["encode", "photo.png", "--seconds", "-1"], "seconds=-1.0; expected 0 or more"),
        (
            ["encode", "photo.png", "--refine", "-1"],
            "refine=-1; expected a whole number",
        ),
        (["render", "absent.t2d", "-o", "x.png"], "absent.t2d: no such file"),
        (["render", "text.png", "-o", "x.gif"], "x.gif: pictures cannot be written as .gif"),
        (["info", "text.png"], "text.png: not a file of Gaussians"),
        (["render", "text.png", "-o", "x.png"], "text.png: not a file of Gaussians"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(tmp_path, picture, arguments, message):
    if "metal" in arguments and sys.platform == "darwin":
        pytest.skip("metal is there")
    (tmp_path / "text.png").write_text("no picture")
    done = taichi2dgs_command(*arguments, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("taichi2dgs: error: " + message), done.stderr
    assert sorted(os.listdir(tmp_path)) == ["photo.png", "text.png"]


def test_malformed_crop_is_a_usage_error(tmp_path):
    done = taichi2dgs_command("render", "a.t2d", "-o", "b.png", "--crop", "1,2,3", cwd=tmp_path)
    assert done.returncode == 2 and "expected TOP,LEFT,HxW, such as 0,128,512x512" in done.stderr


def test_malformed_size_is_a_usage_error(tmp_path):
    done = taichi2dgs_command("render", "a.t2d", "-o", "b.png", "--size", "12", cwd=tmp_path)
    assert done.returncode == 2 and "expected HxW, such as 1080x1920" in done.stderr


def interrupted(word: str, *arguments: object, cwd) -> tuple[int, str, str]:
    """Run a command on a terminal, press Ctrl-C a second after its bar shows a word, and return
    exit code, output and what the terminal showed."""
    fcntl, termios = (pytest.importorskip(name) for name in ("fcntl", "termios"))
    shown, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *map(str, arguments)],
        cwd=cwd,
        text=True,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=terminal,
    )
    os.close(terminal)
    text = ""
    while word not in text:
        text += os.read(shown, 4096).decode(errors="replace")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    with contextlib.suppress(OSError):  # so a terminal ends when its last process does
        while more := os.read(shown, 4096):
            text += more.decode(errors="replace")
    os.close(shown)
    return process.returncode, out, text


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals")
def test_ctrl_c_saves_what_is_there(tmp_path, picture):
    command = ("encode", picture, "-k", 200, "--seconds", 60)
    code, out, shown = interrupted("step", *command, cwd=tmp_path)
    assert code == 130 and "interrupted; what was there is saved" in shown
    assert out.startswith("photo.t2d: 200 Gaussians, PSNR") and "PSNR" in shown
    assert len(taichi2dgs.load(tmp_path / "photo.t2d")) == 200


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals")
def test_ctrl_c_while_refining_saves_the_fit(tmp_path, picture):
    command = ("encode", picture, "-k", 200, "--steps", 5, "--refine", 100000)
    code, _, shown = interrupted("refine:", *command, cwd=tmp_path)
    assert code == 130 and "interrupted; what was there is saved" in shown and "100%" in shown
    assert len(taichi2dgs.load(tmp_path / "photo.t2d")) == 200


def test_info_says_what_a_file_holds(tmp_path, picture, photograph):
    start = pipelines.initialize(photograph[:48, :56], 200, "gradient")
    start.save(tmp_path / "a.t2d")
    done = taichi2dgs_command("info", "a.t2d", "--image", picture, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
    size = (tmp_path / "a.t2d").stat().st_size
    assert said["bytes"] == f"{size:,}" and said["size"] == "48x56" and said["Gaussians"] == "200"
    assert said["bits per Gaussian"].split()[0] == f"{8 * size / 200:.1f}"
    assert said["quality"] == "high" and said["steps of centres"].endswith("at the usual size")
    image = taichi2dgs.load(tmp_path / "a.t2d").render()
    expected = metrics.psnr(image, files.read_image(picture))
    assert said["PSNR"] == f"{expected:.2f} dB"


def test_doctor_lists_every_backend(tmp_path):
    done = taichi2dgs_command("doctor", cwd=tmp_path)
    assert done.returncode == 0
    for word in ("python", "taichi", "torch", "cuda", "vulkan", "metal", "opengl"):
        assert f"\n{word} " in "\n" + done.stdout
    assert re.search(r"cpu +ok +starts and counts right", done.stdout)


def test_help_and_version_come_before_torch_is_imported(tmp_path):
    script = (
        "import sys\nfrom pipelines import cli\n"
        "try:\n    cli.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({'torch', 'taichi', 'numpy'} & set(sys.modules)))"
    )
    for words in (["--version"], ["--help"], ["encode", "--help"], ["train", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *words],
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "taichi2dgs" in done.stdout, done.stderr


def test_the_package_is_a_command_too(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "taichi2dgs", "--version"],
        text=True,
        capture_output=True,
        env=environment(),
    )
    assert done.stdout == f"taichi2dgs {taichi2dgs.__version__}\n"


def test_info_has_numbers_for_programs(tmp_path, capsys):
    g = pipelines.initialize(torch.rand(8, 9, 1), 20, "random")
    g.save(tmp_path / "a.t2d")
    assert cli.main(["info", "--json", str(tmp_path / "a.t2d")]) == 0
    known = json.loads(capsys.readouterr().out)
    assert known["progressive"] is False
    assert known["gaussians"] == 20 and (known["height"], known["width"]) == (8, 9)
    assert known["bytes"] == (tmp_path / "a.t2d").stat().st_size and known["channels"] == 1
    assert set(known["steps"]) == {"centres", "log-size", "stretch", "colours"}


def test_encode_writes_progressive_files_within_the_bytes(tmp_path, picture, capsys):
    command = [
        "encode",
        str(picture),
        "--target-bytes",
        "1500",
        "--steps",
        "2",
        "--start",
        "random",
    ]
    assert cli.main([*command, "--progressive", "-q", "-o", str(tmp_path / "a.t2d")]) == 0
    assert 1300 < (tmp_path / "a.t2d").stat().st_size <= 1500
    quarter, whole = (taichi2dgs.load(tmp_path / "a.t2d", share) for share in (0.25, 1))
    assert len(quarter) == -(-len(whole) // 4)
    capsys.readouterr()
    assert cli.main(["info", str(tmp_path / "a.t2d")]) == 0
    assert "high, progressive" in capsys.readouterr().out
    assert cli.main([*command, "--quality", "lossless", "--progressive"]) == 2
    assert "progressive=True" in capsys.readouterr().err


def test_a_bar_on_a_terminal_counts_what_runs_out_first(monkeypatch):
    encoding = Encoding(k=10, steps=200, seconds=10.0)
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with FitBar(encoding, hidden=False) as bar:
        assert "compiling" in shown.getvalue()
        bar.show(10, Report(50, 5.0, 30.0))
        assert bar.bar.n == 0.5 * bar.bar.total
        bar.bar.refresh()
    assert "encode, 10 Gaussians  50%" in shown.getvalue() and "PSNR 30.00 dB" in shown.getvalue()
