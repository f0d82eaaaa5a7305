"""Rows of tables: which of an earlier run count, and what a run that is stopped leaves."""

import argparse
import io
import json
import sys

import pytest
import torch
from tqdm import tqdm

from taichi2dgs.storage import files


def test_rows_are_reused_only_of_the_same_code_and_options(benchmarks):
    digest_of = benchmarks("common.rows").digest_of
    run = {"commit": "a", "command": "b", "code": "c", "machine": "d", "budget": [5, None]}
    same = digest_of(run)
    assert digest_of({**run, "commit": "x", "command": "y --images 9"}) == same
    for other in ({"code": "x"}, {"machine": "x"}, {"budget": [5, [1.0]]}, {"config": "x"}):
        assert digest_of({**run, **other}) != same
    assert digest_of({name: run[name] for name in run if name != "budget"}) != same


def test_rows_are_made_once_and_replace_those_of_other_code(benchmarks, tmp_path):
    rows, path = benchmarks("common.rows"), tmp_path / "folder/t.json"
    keys = ("image", "made_by")

    def table(*asked):
        found = rows.Rows(path, {"command": "b"}, keys)
        for key in asked:
            found.want([key], lambda key=key: [dict(zip(keys, key, strict=True))])
        return found

    def never():
        raise AssertionError("it is there")

    table(("1", "old"), ("2", "old"), ("3", "old"))  # which is killed: there is no table
    again = table(("1", "new"))
    assert [r["made_by"] for r in json.loads(path.read_text())["rows"]] == ["new"]  # if killed now
    table().want([("2", "old")], never)
    assert [row["made_by"] for row in again.finish([("1", "new")], pictures="1 of 3")] == ["new"]
    content = json.loads(path.read_text())
    assert content["pictures"] == "1 of 3" and content["command"] == "b"
    assert [row["image"] for row in content["rows"]] == ["1"]
    assert [row["image"] for row in content["others"]] == ["2", "3"]
    table().want([("2", "old"), ("3", "old")], never)
    path.write_text("[")
    assert table().lacks([("1", "new")])


def test_the_digest_of_code_is_of_what_measures(tmp_path, benchmarks, monkeypatch):
    identity = benchmarks("common.identity")
    script = tmp_path / "run.py"
    script.write_text("1\n")
    first = identity.code_digest(script)
    assert identity.code_digest(script) == first
    script.write_text("2\n")
    second = identity.code_digest(script)
    monkeypatch.setattr(identity, "MEASURING", ())
    third = identity.code_digest(script)
    monkeypatch.setattr(identity, "package_digest", lambda without: "another")
    assert len({first, second, third, identity.code_digest(script)}) == 4


@pytest.fixture
def measured(benchmarks, monkeypatch, tmp_path):
    """A function that measures pictures of two folders by two methods; `fail` stops it."""
    fits, asked = benchmarks("common.fits"), []
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        files.write_image(tmp_path / f"{name}.png", torch.rand(8, 8, 3))

    def measure(image, k, method, options):
        if len(asked) == options.fail:
            raise KeyboardInterrupt
        asked.append((method.start, k))
        return {"psnr": float(len(asked))}

    def run(images=None, fail=None, steps=5, methods=("ours-random", "ours-gradient")):
        asked.clear()
        options = argparse.Namespace(
            methods=methods, sampler=["default"], k=[9], config=None, steps=steps, seconds=None,
            out=tmp_path / "t", fail=fail,
        )  # fmt: skip
        pictures = {name: sorted((tmp_path / name).glob("*.png"))[:images] for name in "ab"}
        about = {"pictures": "Squares", "code": "x", "commit": str(images)}
        said, rows = fits.measure_all(pictures, files.read_image, about, options)
        return said["pictures"], [(r["dataset"] + r["image"], r["method"]) for r in rows], asked

    monkeypatch.setattr(fits, "measure", measure)
    monkeypatch.setattr(fits.baselines, "run", lambda *_, **__: None)  # which only warms up
    return run


def test_a_run_that_is_stopped_leaves_pictures_with_every_method(measured, capsys):
    said, rows, _ = measured(fail=7)  # in the fourth picture of five
    assert said == "Squares, pictures 2 of 3 of a, 1 of 2 of b"
    assert rows[:2] == [("a1", "ours-random"), ("a2", "ours-random")]
    assert {name for name, _ in rows} == {"a1", "a2", "b1"} and len(rows) == 6
    assert "goes on here" in capsys.readouterr().err
    said, rows, asked = measured()
    assert said.endswith("3 of 3 of a, 2 of 2 of b") and len(rows) == 10 and len(asked) == 3


def test_a_run_that_is_stopped_at_once_makes_no_page(measured):
    with pytest.raises(KeyboardInterrupt):
        measured(fail=1)


def test_more_pictures_and_methods_go_on_from_fewer(measured, tmp_path):
    assert len(measured(images=1)[2]) == 4
    said, rows, asked = measured(images=2, methods=["ours-random", "ours"])
    assert said.endswith("2 of 3 of a, 2 of 2 of b")
    assert [method for _, method in rows] == ["ours-random", "ours-random", "ours", "ours"] * 2
    assert asked == [("prior", 9)] * 2 + [("random", 9), ("prior", 9)] * 2
    table = json.loads((tmp_path / "t.json").read_text())
    assert (len(table["rows"]), len(table["others"])) == (8, 2)
    assert len(measured(images=1, steps=6)[2]) == 4  # another budget: nothing of it is there


def test_other_settings_of_a_method_measure_no_other_method_anew(
    measured, benchmarks, monkeypatch, tmp_path
):
    folder = tmp_path / benchmarks("common.identity").METHODS
    folder.mkdir(parents=True)
    monkeypatch.setattr(benchmarks("common.fits"), "ROOT", tmp_path)
    for start in ("random", "gradient"):
        (folder / f"ours-{start}.yaml").write_text(f"start: {start}\n")
    assert len(measured(images=1)[2]) == 4
    (folder / "ours-random.yaml").write_text("start: random\n# tuned\n")
    assert measured(images=1)[2] == [("random", 9)] * 2


def test_settings_of_methods_are_no_code(benchmarks, tmp_path):
    identity = benchmarks("common.identity")
    for name in ("nets/net.py", "configs/adam.yaml", f"{identity.METHODS}/ours.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")

    def digests() -> tuple[str, str]:
        return tuple(identity.package_digest(tmp_path, only) for only in (None, identity.METHODS))

    all_of_it, code = digests()
    (tmp_path / identity.METHODS / "ours.yaml").write_text("2\n")
    assert digests()[0] != all_of_it and digests()[1] == code
    (tmp_path / "configs/adam.yaml").write_text("2\n")
    assert digests()[1] != code


def test_the_command_of_a_page_names_no_folder_of_this_machine(benchmarks, monkeypatch, tmp_path):
    measure = benchmarks("common.measure")
    out = str(measure.RESULTS / "seconds")
    argv = ["/anywhere/run_kodak.py", "--data", str(tmp_path), "--k", "9", "--out", out]
    monkeypatch.setattr("sys.argv", argv)
    command = "python benchmarks/run_kodak.py --data FOLDER --k 9 --out benchmarks/results/seconds"
    assert measure.describe("Squares", [tmp_path])["command"] == command


class Terminal(io.StringIO):
    """One that closes while something writes to it."""

    closes = False

    def write(self, text):
        if self.closes:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_terminal_that_closes_does_not_keep_a_page_from_being_written(benchmarks, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    bar = tqdm(range(3), file=terminal)
    with benchmarks("common.rows").stopping(bar):
        terminal.closes = True
        raise KeyboardInterrupt
    assert terminal.getvalue()  # the bar was there before
