"""Figures of tables and pictures: what figures.py draws and refuses, and that it can be read."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from test_benchmarks import SCRIPT

from taichi2dgs.storage import files

pytest.importorskip("matplotlib", reason="needs the extra 'bench'")

from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

ABOUT = {"pictures": "40x40 centre crops", "machine": "A(R) Processor, 2 cores"}
PEERS = [
    "instant-gi",
    "fast-2dgs-published-tuned",
    "image-gs-gradient-tuned",
    "gaussianimage-rs-tuned",
    "fast-2dgs-published",
]


def rows_of_a_table() -> list[dict]:
    """Rows of two pictures by two methods; one fit by the slow method lacks a PSNR at 2 seconds."""
    return [
        {"image": image, "dataset": "kodak", "k": k, "method": method, "sampler": "default",
         "gaussians": k + extra, "psnr": psnr + k / 10, "psnr_at": {"0": psnr, "25": psnr + 2},
         "psnr_within": {"1": psnr, "10": psnr + k}
         | ({} if (image, method) == ("b", "slow") else {"2": 30.0})}
        for k in (90, 60) for method, extra in (("ours", 0), ("slow", 10))
        for image, psnr in (("a", 20.0), ("b", 23.0))
    ]  # fmt: skip


def rows_of(methods: list[str], **more: object) -> list[dict]:
    """Rows of one picture, whose methods end within 0.1 dB of each other."""
    return [
        {"image": "a", "dataset": "kodak", "k": 9_000, "method": method, "sampler": "default",
         "gaussians": 9_000, "psnr": 40.0, "psnr_at": {"0": 20.0, "25": 30 + index / 50},
         "psnr_within": {"1": 20.0, "10": 30 + index / 50}} | ABOUT | more
        for index, method in enumerate(methods)
    ]  # fmt: skip


def write_table(path: Path, rows: list[dict]) -> Path:
    pictures = f"{ABOUT['pictures']}, pictures {len(rows)} of 24 of kodak"
    path.write_text(json.dumps({**ABOUT, "pictures": pictures, "rows": rows}))
    return path


def draw_figures(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPT.with_name("figures.py"), *arguments]
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, env=environment()
    )


def main(monkeypatch, benchmarks, *arguments: object) -> int:
    """Run figures.py in this process, which is faster, and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["figures.py", *map(str, arguments)])
    return benchmarks("figures").main()


def names_of(axis: Axes) -> list[str]:
    return [str(line.get_label()) for line in axis.lines]


def texts_of(figure: Figure) -> list[Text]:
    """What is written and seen in a figure: names, titles, ticks."""
    figure.draw_without_rendering()
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def touching(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap."""
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts_of(figure)]
    return [
        (first, second)
        for (first, one), (second, other) in itertools.combinations(boxes, 2)
        if one.overlaps(other)
    ]


def test_figures_are_drawn(tmp_path, photograph):
    files.write_image(tmp_path / "a.png", photograph[:64, :65])
    rows = [
        row | {"method": row["method"].replace("slow", "image-gs-gradient")}
        for row in rows_of_a_table()
    ]
    done = draw_figures(
        "--image", tmp_path / "a.png", "--table", write_table(tmp_path / "t.json", rows[:2]),
        write_table(tmp_path / "u.json", rows[2:]), "--steps", 5,
        "--methods", "ours", "image-gs-gradient", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    of_pictures = ("prior", "density", "errors", "regions")
    for name in (*of_pictures, "iterations", "seconds", "ten-seconds", "count", "best"):
        assert min(files.read_image(tmp_path / "out" / f"{name}.webp").shape[:2]) > 300


def test_figures_say_what_they_lack(tmp_path, benchmarks, monkeypatch, capsys):
    out = ("--out", tmp_path)
    with pytest.raises(SystemExit):
        main(monkeypatch, benchmarks, "--figures", "count", *out)
    assert "--figures count: drawn from a table" in capsys.readouterr().err
    table = write_table(tmp_path / "t.json", [{"image": "a"}])
    for name, columns in (("count", "dataset"), ("rate", "bpp")):
        assert main(monkeypatch, benchmarks, "--figures", name, "--table", table, *out) == 2
        assert f"t.json: expected JSON with rows of {columns}" in capsys.readouterr().err
    assert main(monkeypatch, benchmarks, "--figures", "rate", "--table", table, table, *out) == 2
    assert "--figures rate: 2 tables; expected one" in capsys.readouterr().err
    region = ("--region", 500, 0, 20, 9)
    assert main(monkeypatch, benchmarks, "--figures", "errors", *region, *out) == 2
    assert "--region 500 0 20 9: expected" in capsys.readouterr().err


def test_what_a_table_lacks_is_left_out_unless_it_is_asked_for(tmp_path, benchmarks, monkeypatch):
    rows = [row | {"psnr_within": {}} for row in rows_of(["ours"])]
    arguments = ("--table", write_table(tmp_path / "t.json", rows), "--out", tmp_path / "out")
    monkeypatch.setattr(benchmarks("figures"), "OF_PICTURES", ())
    assert main(monkeypatch, benchmarks, *arguments) == 0
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["count", "iterations"]
    assert main(monkeypatch, benchmarks, *arguments, "--figures", "seconds") == 2


def test_curves_are_means_of_all_pictures(benchmarks):
    curves = benchmarks("common.curves")
    slow = [row for row in rows_of_a_table() if row["method"] == "slow"]
    assert curves.reached(slow[:2], "psnr_at") == [(0, 21.5), (25, 23.5)]
    assert curves.reached(slow[:2], "psnr_within") == [(1, 21.5), (10, 111.5)]
    assert curves.at_end(slow) == [(70, 27.5), (100, 30.5)]


def test_all_lines_of_a_panel_are_means_over_the_same_pictures(benchmarks):
    curves = benchmarks("common.curves")
    rows = rows_of(["ours", "slow"]) + rows_of(["ours"], image="b", psnr_at={"0": 50.0, "25": 60.0})
    (axis,) = curves.draw_iterations(rows).axes
    assert list(axis.lines[0].get_ydata()) == [20, 30]
    assert any("kodak, 1 picture: 40x40" in text.get_text() for text in axis.texts)
    with pytest.raises(ValueError, match="no picture of kodak has all of ours, slow; expected one"):
        curves.draw_iterations(rows[1:])


def test_six_lines_are_drawn_ours_and_the_best_of_each_peer_or_those_asked_for(benchmarks):
    curves = benchmarks("common.curves")
    more = ["ours-random", "gaussianimage-rs", "image-gs-gradient"]
    rows = rows_of([*more, *reversed(PEERS), "ours"])
    (axis,) = curves.draw_seconds(rows).axes
    assert names_of(axis) == ["ours", *PEERS]
    (axis,) = curves.draw_seconds(rows_of([*more, *PEERS[2:], "ours"])).axes
    assert names_of(axis) == ["ours", *PEERS[2:], *more[:2]]
    (axis,) = curves.draw_iterations(rows, ["gaussianimage-rs", "ours-random"]).axes
    assert names_of(axis) == ["gaussianimage-rs", "ours-random"]
    with pytest.raises(ValueError, match="7 lines; expected at most 6"):
        curves.draw_iterations(rows, [*PEERS, *more[:2]])
    with pytest.raises(ValueError, match="--methods nobody: nothing to draw in --table; expected"):
        curves.draw_iterations(rows, ["ours", "nobody"])


@pytest.mark.parametrize("name", ["iterations", "seconds", "count", "ten_seconds"])
def test_lines_have_their_names_at_their_ends_and_no_two_texts_touch(benchmarks, name):
    rows = rows_of(["ours", *PEERS]) + rows_of(["ours", *PEERS], k=50_000, gaussians=50_000)
    figure = getattr(benchmarks("common.curves"), f"draw_{name}")(rows)
    for axis in figure.axes:
        names = [text for text in axis.texts if text.get_text().split("  ")[0] in names_of(axis)]
        assert len(names) == 6 and axis.get_legend() is None
        for line, text in zip(axis.lines, names, strict=True):
            assert text.get_text().startswith(f"{line.get_label()}  ")
            assert tuple(text.xy) == tuple(line.get_xydata()[-1])
            assert text.get_color() == line.get_color()
            assert abs(text.get_position()[1]) < 60  # points: no more than all names are high
    assert touching(figure) == []


def test_names_stay_within_a_figure_and_in_the_order_of_their_lines(benchmarks):
    figure = benchmarks("common.curves").draw_seconds(rows_of(["ours", *PEERS]))
    seen = [text for text in texts_of(figure) if text in figure.axes[0].texts]
    width, height = figure.bbox.size
    for text in seen:
        box = Text.get_window_extent(text)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text
    names = [text for text in seen if text.get_text().split("  ")[0] in ("ours", *PEERS)]
    heights = [Text.get_window_extent(text).y0 for text in names]
    assert heights == sorted(heights)  # as the rows end, one above the other


def test_budgets_that_are_close_are_not_named_upon_one_another(benchmarks):
    budgets = {str(step): 20.0 + step / 5_000 for step in (0, 25, 3_000, 4_000, 5_000, 50_000)}
    figure = benchmarks("common.curves").draw_iterations(rows_of(["ours"], psnr_at=budgets))
    named = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert named == ["0", "25", "5,000", "50,000"] and touching(figure) == []


def test_the_name_of_a_line_that_ends_early_is_upon_no_other(benchmarks):
    longer = {"0": 20.0, "25": 30.0, "1000": 32.0}
    rows = rows_of(["ours"], psnr_at={"0": 20.0, "25": 29.9})
    rows += rows_of(["slow"], psnr_at=longer) + rows_of(["late"], psnr_at=longer | {"1000": 29.0})
    figure = benchmarks("common.curves").draw_iterations(rows)
    (axis,) = figure.axes
    texts_of(figure)
    (name,) = (text for text in axis.texts if text.get_text() == "ours  29.9")
    box = Text.get_window_extent(name)
    for line in axis.lines:
        path = line.get_transform().transform_path(line.get_path())
        assert not path.intersects_bbox(box, filled=False)
    assert touching(figure) == []


def test_ours_have_colours_and_peers_greys_that_differ(benchmarks):
    (axis,) = (
        benchmarks("common.curves").draw_seconds(rows_of(["ours", "ours-random", *PEERS])).axes
    )
    looks = {str(line.get_label()): line for line in axis.lines}
    vivid = {name: rgb_to_hsv(to_rgb(line.get_color()))[1] for name, line in looks.items()}
    assert all((vivid[name] > 0.5) == name.startswith("ours") for name in looks)
    assert all(vivid[name] == 0 for name in looks if not name.startswith("ours"))
    styles = [(line.get_color(), line.get_linestyle()) for line in looks.values()]
    assert len(set(styles)) == len(styles) == 6


def test_a_title_says_pictures_number_and_machine(benchmarks):
    curves = benchmarks("common.curves")
    rows = rows_of(["ours"], pictures="Scaled, 40x40 centre crops")
    (axis,) = curves.draw_seconds(rows).axes
    assert axis.get_title(loc="left") == "PSNR against seconds of a fit"
    about = "kodak, 1 picture: scaled, 40x40 centre crops; k = 9,000; A, 2 cores"
    assert about in [text.get_text() for text in axis.texts]


def test_psnr_after_ten_seconds_is_drawn_from_the_pages_of_several_numbers(tmp_path, benchmarks):
    curves = benchmarks("common.curves")
    rows = [row for row in rows_of_a_table() if row["k"] == 90 or row["method"] == "ours"]
    tables = [
        write_table(tmp_path / f"{k}.json", [row for row in rows if row["k"] == k])
        for k in (90, 60)
    ]
    (axis,) = curves.draw_ten_seconds(curves.read_all(tables)).axes
    assert names_of(axis) == ["ours"]  # the slow method is in one page only
    assert [tuple(point) for point in axis.lines[0].get_xydata()] == [(60, 81.5), (90, 111.5)]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["60", "90"]
    with pytest.raises(ValueError, match="no method has a line of 'PSNR after 10 s"):
        curves.draw_ten_seconds(curves.read_all(tables[:1]))


def test_seconds_of_two_machines_are_not_drawn_together(benchmarks):
    curves = benchmarks("common.curves")
    rows = rows_of(["ours"]) + rows_of(["slow"], machine="B, 64 cores")
    for draw in (curves.draw_seconds, curves.draw_ten_seconds, curves.draw_best):
        with pytest.raises(ValueError, match=r"seconds of 2 machines: A.*; B, 64 cores; expected"):
            draw(rows)
    (axis,) = curves.draw_iterations(rows).axes
    assert any("A, 2 cores and B, 64 cores" in text.get_text() for text in axis.texts)


def test_the_best_of_a_family_is_drawn_with_its_name_at_its_end(benchmarks):
    rows = [
        row | {"psnr_within": {"1": first, "2": second}}
        for method, first, second in (("ours", 40.0, 45.0), ("image-gs-gradient", 20.0, 44.9),
                                      ("image-gs-saliency-tuned", 30.0, 31.0))
        for row in rows_of([method])
    ]  # fmt: skip
    figure = benchmarks("common.curves").draw_best(rows)
    (axis,) = figure.axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[40, 45], [30, 44.9]]
    names = [text.get_text() for text in axis.texts]
    assert {"taichi2dgs, learned start  45.0", "Image-GS  44.9"} <= set(names)
    assert touching(figure) == []


def test_names_move_as_little_as_they_can(benchmarks):
    spread = benchmarks("common.lines").spread
    assert spread([0, 1, 9], 4, (-20, 20)) == [-1.5, 2.5, 9]
    assert spread([9, 0, 1], 4, (0, 20)) == [9, 0, 4]
    assert spread([5, 5, 5], 2, (0, 6)) == [2, 4, 6]
    assert spread([1, 8], 2, (0, 20)) == [1, 8] and spread([], 2, (0, 20)) == []
