"""The plot of run_rate.py: what it marks, and that it can be read."""

import json

import pytest
from test_figures import Text, main, names_of, texts_of, touching

from taichi2dgs.storage import files


def rows_of_rates(counts: tuple[int, ...]) -> list[dict]:
    """Rows of picture codecs, and of two presets after two budgets, of which `small` is better."""
    codecs = {"WebP": 0.6, "AVIF": 0.7, "JPEG 2000": 0.65, "JPEG": -0.1}
    rows = [
        {"codec": codec, "image": "a", "crop": None, "setting": rate, "bpp": rate,
         "psnr": 28 + gain + 4 * rate, "made_by": "1"}
        for codec, gain in codecs.items()
        for rate in (0.1, 0.5, 1.5)
    ]  # fmt: skip
    for preset, bits, gain in (("high", 52, -1.0), ("small", 33, 0.0)):
        for budget, more in (("10 s", 0.0), ("60 s", 0.5)):
            for k in counts:
                rate = k * bits / 393_216
                psnr = 28 + gain + more + 4 * rate
                rows.append({"codec": f".t2d {preset}, {budget}", "image": "a", "crop": None,
                             "setting": k, "bpp": rate, "psnr": psnr, "made_by": "1"})  # fmt: skip
    return rows


def test_numbers_of_gaussians_are_marked_on_the_curve_of_files(benchmarks):
    plot = benchmarks("common.rate_plot")
    counts = (900, 1_600, 3_000, 5_500, 10_000, 18_000)
    run = {"pictures": "kodak, 24 full frames", "machine": "A(R) Processor, 2 cores"}
    figure = plot.draw(run, rows_of_rates(counts))
    (axis,) = figure.axes
    title, about = axis.get_title(loc="left"), axis.texts
    assert title.startswith("Files of Gaussians beside picture codecs")
    assert any("kodak, 24 full frames; " in text.get_text() for text in about)
    named = [name for name in names_of(axis) if not name.startswith("_")]
    assert named == [".t2d small, 60 s", ".t2d small, 10 s", "WebP", "AVIF", "JPEG 2000", "JPEG"]
    marked = {text.get_text(): text for text in axis.texts if text.get_visible()}
    curve = axis.lines[0].get_xydata().tolist()
    for k in counts:
        mark = marked["k = 900" if k == 900 else f"{k:,}"]
        assert list(mark.xy) in curve and mark.xy[0] == pytest.approx(k * 33 / 393_216)
        assert mark.get_color() == axis.lines[0].get_color()
    assert touching(figure) == []
    ends = {text.get_text(): Text.get_window_extent(text).y0 for text in axis.texts}
    assert sorted(named, key=lambda name: -ends[name]) == [
        "AVIF", "JPEG 2000", "WebP", *named[:2], "JPEG"
    ]  # fmt: skip


def test_a_number_that_has_no_room_is_not_written(benchmarks):
    run = {"pictures": "kodak, 24 full frames", "machine": "A"}
    figure = benchmarks("common.rate_plot").draw(run, rows_of_rates((900, 950, 9_000)))
    written = [text.get_text() for text in texts_of(figure)]
    assert "k = 900" in written and "950" not in written and "9,000" in written
    assert touching(figure) == []


def test_the_curves_are_drawn_from_the_file_of_the_script(tmp_path, benchmarks, monkeypatch):
    run = {"pictures": "kodak, 24 full frames", "machine": "A"}
    table = tmp_path / "rate.json"
    table.write_text(json.dumps({**run, "rows": rows_of_rates((900, 9_000))}))
    arguments = ("--figures", "rate", "--table", table, "--out", tmp_path)
    assert main(monkeypatch, benchmarks, *arguments) == 0
    assert files.read_image(tmp_path / "rate.webp").shape[1] > 1000


def test_only_what_the_last_run_finished_is_drawn(tmp_path, benchmarks):
    run, rows = {"pictures": "kodak, full frames", "machine": "A"}, rows_of_rates((900, 9_000))
    others = [row | {"crop": 512, "psnr": 10.0} for row in rows]
    begun = [row | {"image": "b"} for row in rows[:3]]
    table = tmp_path / "rate.json"
    table.write_text(json.dumps({**run, "rows": [*begun, *rows], "others": others}))
    about, found = benchmarks("common.rate_plot").read(table)
    assert found == rows and about["pictures"] == "kodak, full frames (1 drawn)"
    table.write_text(json.dumps({**run, "rows": begun + rows[3:]}))
    with pytest.raises(ValueError, match=r"rate\.json: no picture has every codec and number"):
        benchmarks("common.rate_plot").read(table)
