"""Fits of many pictures at once: each ends as if it had been alone."""

import numpy as np
import pytest
import torch
from conftest import scatter
from PIL import Image

import pipelines
import taichi2dgs
from pipelines import folder, plan
from pipelines.batch import encode_all
from pipelines.encoding import Encoding
from pipelines.starts.named import initialize_all
from taichi2dgs import FitInterrupted, FitOptions, RenderSettings, fit_batch, metrics
from taichi2dgs import fit as fit_function
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.rendering.view import View
from taichi2dgs.rendering.workspace import table_of
from taichi2dgs.storage import files, pictures, t2d
from taichi2dgs.storage.maps import Stack

SIZES = ((33, 41), (64, 48), (16, 16), (1, 9), (40, 20))
COUNTS = (150, 300, 37, 1, 90)
RANDOM = Encoding(k=9, steps=2, start="random")


@pytest.fixture(scope="module")
def images(photograph) -> list[torch.Tensor]:
    """Parts of the photograph, of several sizes."""
    return [
        photograph[7 * n : 7 * n + height, 9 * n : 9 * n + width].contiguous()
        for n, (height, width) in enumerate(SIZES)
    ]


@pytest.fixture(scope="module")
def starts(images) -> list[taichi2dgs.Gaussians]:
    return [
        pipelines.initialize(image, k, "random", seed)
        for seed, (image, k) in enumerate(zip(images, COUNTS, strict=True))
    ]


def curve(result) -> list[tuple[int, float]]:
    return [(report.step, report.psnr) for report in result.history]


def assert_same(result, alone):
    assert torch.equal(result.gaussians.packed(), alone.gaussians.packed())
    assert result.gaussians.settings == alone.gaussians.settings
    assert curve(result) == curve(alone)


@pytest.mark.parametrize(
    "options",
    [
        FitOptions(),
        FitOptions(between=0.25, report_every=3),
        FitOptions(reselect=3),
        FitOptions(settings=RenderSettings(blend="sum"), growing_memory=False),
    ],
    ids=["usual", "between", "reselect", "sum"],
)
def test_every_picture_ends_as_if_it_had_been_alone(images, starts, options):
    """Bit for bit: sizes, numbers of Gaussians and lists that grow while they move differ."""
    results = fit_batch(images, starts, steps=24, options=options)
    for image, start, result in zip(images, starts, results, strict=True):
        assert_same(result, fit_function(image, start, steps=24, options=options))


def test_frozen_gaussians_of_a_picture_stay(images, starts):
    mask = torch.arange(COUNTS[1]) % 3 == 0
    frozen = [None, mask, None, None, torch.ones(COUNTS[4], dtype=torch.bool)]
    results = fit_batch(images, starts, steps=6, frozen=frozen)
    for image, start, own, result in zip(images, starts, frozen, results, strict=True):
        assert_same(result, fit_function(image, start, steps=6, frozen=own))
    moved = (results[1].gaussians.packed() != starts[1].packed()).any(1)
    assert not moved[mask].any() and moved[~mask].any()


@pytest.mark.parametrize("reselect", [1, 2])
def test_pictures_leave_at_their_targets_and_the_others_go_on(images, starts, reselect):
    """One is there before the first step, others never get there."""
    alone = [
        fit_function(image, start, steps=40) for image, start in zip(images, starts, strict=True)
    ]
    between = [(one.history[3].psnr + one.history[9].psnr) / 2 for one in alone]
    targets = [between[0], None, between[2], 1.0, 99.0]
    options = FitOptions(reselect=reselect)
    results = fit_batch(images, starts, steps=40, target_psnr=targets, options=options)
    ends = []
    for image, start, target, result in zip(images, starts, targets, results, strict=True):
        target = 99.0 if target is None else target  # alone, reports without one are cheaper
        assert_same(
            result, fit_function(image, start, steps=40, target_psnr=target, options=options)
        )
        ends.append(result.history[-1].step)
    assert 0 < ends[0] < 40 and 0 < ends[2] < 40 and ends[3] == 0 and ends[1] == ends[4] == 40
    same = fit_batch(images, starts, steps=40, target_psnr=-50)
    assert [one.history[-1].step for one in same] == [0] * 5
    assert torch.equal(same[1].gaussians.packed(), starts[1].packed())


def test_a_step_is_one_launch_for_all(images, starts, monkeypatch):
    launched, launch = [], Engine._launch
    monkeypatch.setattr(
        Engine, "_launch", lambda *a, **k: launched.append(len(a[0].pictures)) or launch(*a, **k)
    )
    options = FitOptions(respawn=0, report_every=20)
    for number in (1, 5):
        fit_batch(images[:number], starts[:number], steps=20, options=options)
        assert 20 <= len(launched) <= 32  # some are repeated, for which there was no room
        assert set(launched) == {number}
        launched.clear()


def test_reports_name_their_picture_and_have_its_gaussians(images, starts):
    seen = []

    def look(n, report):
        mse = metrics.psnr(report.gaussians.render(), images[n])
        seen.append((n, report.step, report.gaussians.size, report.psnr - mse))

    options = FitOptions(report_every=5)
    fit_batch(images, starts, steps=10, target_psnr=99, options=options, on_report=look)
    assert [one[:2] for one in seen] == [(n, step) for step in (0, 5, 10) for n in range(5)]
    assert all(size == SIZES[n] and abs(off) < 1e-3 for n, _, size, off in seen)


def test_ctrl_c_leaves_what_there_is_of_every_picture(images, starts):
    def interrupt(n, report):
        if report.step >= 10 and n == 1:
            raise KeyboardInterrupt

    with pytest.raises(FitInterrupted) as raised:
        fit_batch(images, starts, steps=40, target_psnr=[99, 99, 99, 1.0, 99], on_report=interrupt)
    results = raised.value.result
    assert len(results) == 5 and results[3].history[-1].step == 0
    for image, result in zip(images, results, strict=True):
        seen = metrics.psnr(result.gaussians.render(), image)
        assert result.psnr == pytest.approx(seen, abs=1e-3)
    assert results[0].history[-1].step == 10 and "after step 10" in str(raised.value)


def test_seconds_are_those_of_the_batch(images, starts, watch):
    results = fit_batch(images, starts, seconds=0.5)
    assert all(result.history[-1].step == 50 for result in results)
    assert all(result.seconds == pytest.approx(0.5) for result in results)


def test_what_cannot_be_in_one_launch_is_refused_by_its_number(images, starts):
    grey = scatter(9, SIZES[1], channels=1)
    cases = [
        ({"images": []}, r"images has 0 items; expected one image or more"),
        ({"images": images[:2]}, r"gaussians has 5 items; expected 2, one for each image"),
        ({"gaussians": starts[0]}, r"gaussians=Gaussians.*; expected a list"),
        ({"gaussians": [starts[0]] * 5}, r"images\[1\]: image has shape \[64, 48, 3\]; expected"),
        ({"frozen": [None]}, r"frozen has 1 items; expected 5"),
        ({"target_psnr": [1, 2]}, r"target_psnr has 2 items; expected 5"),
        ({"target_psnr": [1, 2, "x", 1, 1]}, r"images\[2\]: target_psnr='x'; expected a number"),
        ({"images": [images[0], images[1][..., :1], *images[2:]],
          "gaussians": [starts[0], grey, *starts[2:]]},
         r"images\[1\]: gaussians has 1 channels; expected 3, as gaussians\[0\]"),
        ({"gaussians": [*starts[:3], starts[3].replace(settings=RenderSettings(top_k=3)),
                        starts[4]]}, r"images\[3\]: gaussians blends by .*top_k=3"),
        ({"steps": None}, r"steps and seconds are both None"),
    ]  # fmt: skip
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            fit_batch(**({"images": images, "gaussians": starts, "steps": 1} | change))


def test_a_picture_whose_parameters_break_is_named(images, starts):
    options = FitOptions(xy=3e38, respawn=0)
    frozen = [torch.ones(k, dtype=torch.bool) for k in COUNTS]
    frozen[2] = ~frozen[2]
    with pytest.raises(FloatingPointError, match=r"a parameter of images\[2\] is not finite after"):
        fit_batch(images, starts, steps=30, options=options, frozen=frozen)


def test_pictures_are_told_apart_by_a_table():
    views = [View.of((20, 30)), View.of((16, 16))]
    table = table_of(tuple(zip((40, 7), views, strict=True)), (16, 16))
    assert table.tolist() == [
        [0, 0, 0, 30, 20, 2, 30, 20],
        [40, 4, 20, 16, 16, 1, 16, 16],
        [47, 5, 36, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("linear", [False, True])
def test_depth_and_light_are_kept_in_a_batch(photograph, linear):
    deep = (photograph[:20, :30] * 65535).numpy().round().astype(np.uint16)
    chosen = {"k": 40, "steps": 3, "start": "gradient", "linear": linear}
    for made in taichi2dgs.encode_batch([deep, deep], **chosen):
        alone = taichi2dgs.encode(deep, **chosen)
        assert made.maps == alone.maps and made.maps[0].bits == 16
        assert torch.equal(made.packed(), alone.packed())


@pytest.mark.parametrize("start", ["random", "gradient"])
def test_starts_of_many_pictures_are_those_of_each(photograph, start):
    several = [photograph[:20, :30], photograph[:9, :8], photograph[30:50, 50:80]]
    found = initialize_all([Stack(image) for image in several], [50, 7, 60], start, seed=4)
    for image, k, gaussians in zip(several, (50, 7, 60), found, strict=True):
        alone = pipelines.initialize(image, k, start, seed=4)
        assert torch.equal(gaussians.packed(), alone.packed()) and gaussians.size == alone.size


def test_encode_batch_is_encode_of_each(photograph):
    several = [photograph[:20, :30], photograph[:16, :24].numpy(), photograph[30:50, 50:80]]
    given = {"steps": 5, "start": "random", "seed": 3}
    found = taichi2dgs.encode_batch(several, [50, 30, 60], **given)
    for image, k, gaussians in zip(several, (50, 30, 60), found, strict=True):
        assert torch.equal(gaussians.packed(), taichi2dgs.encode(image, k, **given).packed())
    automatic = taichi2dgs.encode_batch(several, "auto", **given)
    alone = [len(taichi2dgs.encode(image, "auto", **given)) for image in several]
    assert [len(one) for one in automatic] == alone
    solved = taichi2dgs.encode_batch(torch.stack(several[::2]), 40, steps=0, start="random")
    expected = taichi2dgs.encode(several[2], 40, steps=0, start="random")
    assert torch.equal(solved[1].packed(), expected.packed())


def test_encode_batch_searches_for_each_and_names_what_is_wrong(photograph):
    several = [photograph[:20, :30], photograph[30:50, 50:80]]
    given = {"target_bytes": 400, "steps": 1, "start": "random"}
    seen = []
    found = taichi2dgs.encode_batch(several, on_report=lambda n, _: seen.append(n), **given)
    for image, gaussians in zip(several, found, strict=True):
        assert torch.equal(gaussians.packed(), taichi2dgs.encode(image, **given).packed())
    assert seen == sorted(seen) and set(seen) == {0, 1}
    with pytest.raises(ValueError, match="k and a target are given"):
        taichi2dgs.encode_batch(several, [3, 4], **given)
    with pytest.raises(ValueError, match=r"images\[1\]: .*missing\.png"):
        taichi2dgs.encode_batch([several[0], "missing.png"], 9, steps=1)


def test_an_interrupted_search_of_a_batch_has_what_was_finished(photograph):
    def interrupt(n, report):
        if n == 1:
            raise KeyboardInterrupt

    encoding = Encoding(target_psnr=60, steps=1, start="random")
    with pytest.raises(FitInterrupted) as raised:
        encode_all(encoding, [photograph[:20, :30]] * 3, on_report=interrupt)
    first = encoding.run(photograph[:20, :30])
    assert torch.equal(raised.value.result[0].gaussians.packed(), first.gaussians.packed())


@pytest.fixture
def small(tmp_path) -> list:
    """Files of small pictures, some of them grey, one broken."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{n}.png" for n in range(5)]
    for n, path in enumerate(paths):
        shape = (9 + n, 12) if n % 2 else (9 + n, 12, 3)
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(path)
    (tmp_path / "2.png").write_bytes(paths[2].read_bytes()[:70])
    return paths


def test_small_pictures_of_a_folder_are_encoded_together(small, tmp_path, capsys, monkeypatch):
    """With networks, whose pass over a batch would round otherwise."""
    calls, encoding = [], Encoding(k=9, steps=2)

    def noted(encoding, images, **more):
        calls.append(len(images))
        return encode_all(encoding, images, **more)

    monkeypatch.setattr(folder, "encode_all", noted)
    assert folder.encode_folder(tmp_path, tmp_path / "out", encoding, quiet=True) == 1
    out, err = capsys.readouterr()
    assert calls == [2, 2] and "4 encoded, 0 were there, 1 failed" in out
    assert err.count("skipped") == 1 and "2.png" in err
    for path in (*small[:2], *small[3:]):
        encoding.save(tmp_path / "alone.t2d", encoding.run(path).gaussians, path)
        alone = (tmp_path / "alone.t2d").read_bytes()
        assert (tmp_path / "out" / f"{path.stem}.t2d").read_bytes() == alone


def test_a_group_that_fails_is_encoded_one_by_one(small, tmp_path, capsys, monkeypatch):
    def fail(*_, **__):
        raise MemoryError("too much")

    monkeypatch.setattr(folder, "encode_all", fail)
    assert folder.encode_folder(tmp_path, tmp_path / "out", RANDOM, quiet=True) == 1
    assert "4 encoded, 0 were there, 1 failed" in capsys.readouterr().out
    assert len(t2d.load(tmp_path / "out" / "4.t2d")) == 9


def test_groups_are_as_large_as_pays_and_no_longer_than_may_be_lost(tmp_path, monkeypatch):
    paths = [tmp_path / f"{n}.png" for n in range(7)]
    for n, path in enumerate(paths):
        files.write_image(path, torch.rand(10, 30 if n == 3 else 10, 3))
    found = plan.find(tmp_path).pictures
    missing = plan.Picture(found[0].place, "missing.png", "missing.png", 9)
    found.insert(5, missing)
    monkeypatch.setattr(plan, "ROOM", (250, 250))
    numbers = [[found.index(one) for one in group] for group in plan.groups_of(found, RANDOM)]
    assert numbers == [[0, 1], [2], [3], [4], [5], [6, 7]]
    monkeypatch.setattr(plan, "ROOM", (10**6, 10**6))

    def lengths(**given) -> list[int]:
        encoding = Encoding(start="random", **given)
        return [len(group) for group in plan.groups_of(found[:4], encoding)]

    assert lengths(k=9, steps=2) == [4] and lengths(k="auto", steps=2) == [1, 1, 1, 1]
    assert lengths(k=300_000, steps=2) == [3, 1]
    assert lengths(k=9, seconds=plan.LOST / 3) == [3, 1]
    assert lengths(k=9, seconds=2 * plan.LOST) == [1] * 4
    assert lengths(target_psnr=30, steps=2) == lengths(target_bytes=900, steps=2) == [1] * 4
    assert all(pictures.is_picture(path) for path in paths[:4])
