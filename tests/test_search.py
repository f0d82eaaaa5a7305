"""How many Gaussians: by detail, by PSNR, by bytes; how a search goes on."""

import dataclasses
import math

import pytest
import torch
from conftest import scatter

import taichi2dgs
from pipelines import encoding
from pipelines.aims import AUTO_PSNR, GAIN, PROBE, BytesAim, PsnrAim, automatic_count, signs
from pipelines.encoding import Encoding
from pipelines.search import GOES_ON, SHORT, Search
from taichi2dgs import FitInterrupted, FitResult, Report, metrics
from taichi2dgs.storage import t2d


def test_automatic_count_grows_with_detail_and_area(photograph):
    k = automatic_count(photograph)
    assert automatic_count(photograph.mean(2, keepdim=True) * 0.5) < k / 2
    double = photograph.repeat(2, 2, 1)
    assert automatic_count(double) == pytest.approx(4 * k, rel=0.1)
    assert automatic_count(photograph, 90.0) == photograph[..., 0].numel()  # at most one per pixel
    assert automatic_count(torch.zeros(9, 9, 3)) == 1


def test_an_automatic_number_changes_in_the_course_of_its_one_fit(photograph):
    numbers = []
    made = Encoding(k="auto", steps=60).run(photograph, lambda k, _: numbers.append(k))
    assert numbers[0] == automatic_count(photograph) != numbers[-1] == len(made.gaussians)
    assert abs(made.psnr - AUTO_PSNR) < 1.0 and made.history[-1].step == 60
    short = Encoding(k="auto", steps=5).run(photograph)
    assert len(short.gaussians) == numbers[0]  # too short to foretell anything


@pytest.mark.parametrize("target", [28, 36])
def test_target_psnr_is_reached(photograph, target):
    seen = []
    result = Encoding(target_psnr=target, steps=40).run(photograph, lambda *one: seen.append(one))
    assert abs(result.psnr - target) <= 0.5
    assert result.psnr == pytest.approx(
        metrics.psnr(result.gaussians.render(), photograph), abs=0.01
    )
    steps = [report.step for _, report in seen]
    begun = steps.index(0, 1)  # behind the probe
    assert steps[begun - 1] == math.ceil(40 * PROBE) and steps[begun:] == sorted(steps[begun:])
    assert 40 <= steps[-1] <= 40 * (1 + 2 * GOES_ON) + 2
    assert seen[-1][0] == len(result.gaussians)


def test_target_psnr_out_of_reach_gives_the_nearest():
    noise = torch.rand(24, 24, 3, generator=torch.Generator().manual_seed(0))
    for steps in (5, SHORT):
        g = taichi2dgs.encode(noise, target_psnr=90, steps=steps)
        assert 400 < len(g) <= 24 * 24


@pytest.mark.parametrize(("target", "quality"), [(4000, "high"), (12_000, "medium")])
def test_target_bytes_are_not_exceeded(tmp_path, photograph, target, quality):
    g = taichi2dgs.encode(photograph, target_bytes=torch.tensor(target), quality=quality, steps=20)
    g.save(tmp_path / "a.t2d", quality)
    assert 0.9 * target < (tmp_path / "a.t2d").stat().st_size <= target
    with pytest.raises(ValueError, match=r"target_bytes=20: \d+ bytes are the fewest found"):
        taichi2dgs.encode(photograph, target_bytes=20, steps=1)


def aim_of(psnr) -> PsnrAim:
    return PsnrAim(psnr, torch.zeros(286, 286, 3))


class Stub:
    """A search whose fits are stubs: with k Gaussians they end at a PSNR that a function tells."""

    def __init__(self, psnr_of, aim, steps=SHORT, **more):
        self.psnr_of, self.steps = psnr_of, steps
        self.shares: list[float] = []
        self.begun: list[int] = []
        self.search = Search(aim, self.begin, self.fit, 10**7, **more)

    def begin(self, k):
        self.begun.append(k)
        return range(k)

    def fit(self, start, share, rate, count, on_report):
        self.shares.append(share)
        k = count(0.0, Report(0, 0.0, 0.0))
        last = Report(math.ceil(self.steps * share), share, self.psnr_of(k))
        for report in (Report(0, 0.0, 0.0), last):
            on_report(report)
        return FitResult(range(k), [Report(0, 0.0, 0.0), last])  # type: ignore[arg-type]


def test_a_search_needs_no_straight_line():
    """The larger k, the steeper it is, though less so than is usual."""
    for target in (40.0, 45.0, 57.0):
        made = Stub(lambda k: 20 + 60 * (k / 286**2) ** 0.25, aim_of(target))
        assert abs(made.search.run(5000).psnr - target) <= 0.5 and len(made.search.tried) <= 4


@pytest.mark.parametrize("slope", [4.0, 14.0])
def test_a_search_learns_how_steep_the_line_is(slope):
    made = Stub(lambda k: 40 + slope * math.log(k / 5000), aim_of(48))
    assert abs(made.search.run(5000).psnr - 48) <= 0.5 and len(made.search.tried) <= 4


@pytest.mark.parametrize("steps", [SHORT, SHORT - 1])
def test_a_fit_goes_on_with_another_number_unless_it_was_short(steps):
    seen = []
    made = Stub(lambda k: 40 + 7 * math.log(k / 5000), aim_of(42), steps,
                on_report=lambda *one: seen.append(one))  # fmt: skip
    result = made.search.run(5000)
    if steps < SHORT:
        assert made.shares == [1.0, 1.0] and made.begun == [5000, len(result.gaussians)]
        assert [report.step for _, report in seen] == [0, steps, 0, steps]
        return
    assert made.shares == [1.0, GOES_ON] and made.begun == [5000]
    # One fit, with the reports since it began.
    last = steps + math.ceil(steps * GOES_ON)
    assert [report.step for report in result.history] == [0, steps, last]
    assert [report.seconds for report in result.history] == [0, 1, 1 + GOES_ON]
    assert seen == [(5000, r) for r in result.history[:2]] + [
        (len(result.gaussians), result.history[2])
    ]


def test_where_a_fit_will_end_is_told_by_its_signs():
    aim, k = aim_of(34), 5000
    assert aim.ahead(0.4, Report(80, 1.0, 30.0), k) is None  # nothing to compare it with
    terms = signs(38.0, 8.0, 200, 286**2 / k)
    left = sum(weight * term for weight, term in zip(GAIN[0.5], terms, strict=True))
    assert aim.ahead(0.5, Report(100, 2.0, 38.0), k) == pytest.approx(38 + left - 34)
    assert left > 0 and aim.ahead(0.5, Report(101, 2.0, 38.1), k) is None  # in the same moment


def test_a_fit_is_steered_once_and_only_if_it_will_end_too_high():
    for off, expected in ((0.2, []), (0.6, [0.5]), (2.0, [0.4]), (-2.0, [])):
        aim, steered = aim_of(44), []
        for used, psnr in ((0.3, 38.0), (0.4, 39.0), (0.5, 40.0)):
            left = sum(
                weight * term
                for weight, term in zip(
                    GAIN.get(used, GAIN[0.4]), signs(psnr, 1.0, 200, 286**2 / 5000), strict=True
                )
            )
            aim.psnr = psnr + left - off
            if aim.ahead(used, Report(round(200 * used), 1.0, psnr), 5000) is not None:
                steered.append(used)
        assert steered == expected


def test_levels_are_of_one_number_each():
    for aim in (aim_of(38), BytesAim(1000, lambda g: 0)):
        for k in (1, 50, 40_000):
            assert aim.count(aim.level(k)) == pytest.approx(k)
        assert aim.level(50) < aim.level(51)


def test_of_files_that_keep_within_the_bytes_the_largest_is_taken(monkeypatch):
    """Gaussians all alike take fewer bytes than the search expects, so it begins far below."""
    sizes = []

    def fit(image, start, count, **more):
        k = count(0.0, Report(0, 0.0, 0.0))
        g = scatter(k, (64, 64))
        alike = dataclasses.replace(g, **{n: 0 * t + 1 for n, t in g._tensors() if n != "xy"})
        sizes.append(len(t2d.encode(alike)))
        return FitResult(alike, [Report(0, 0.0, 0.0), Report(SHORT, 1.0, 30.0)])

    monkeypatch.setattr(encoding, "fit_counted", fit)
    made = Encoding(target_bytes=2000, steps=SHORT, start="random").run(torch.zeros(64, 64, 3))
    within = [size for size in sizes if size <= 2000]
    assert len(within) > 1 and len(t2d.encode(made.gaussians)) == max(within) > min(within)


def test_bytes_rank_the_largest_that_fit_before_all_that_do_not():
    aim = BytesAim(1000, lambda size: size)  # type: ignore[arg-type]
    sizes = [1, 950, 1000, 1001, 5000]
    offs = {size: aim.off(FitResult(size, [])) for size in sizes}  # type: ignore[arg-type]
    assert sorted(sizes, key=lambda size: aim.rank(offs[size])) == [1000, 950, 1, 1001, 5000]
    good = [
        size
        for size in (954, 956, 994, 996)
        if aim.within[0] <= aim.off(FitResult(size, [])) <= aim.within[1]  # type: ignore[arg-type]
    ]
    assert good == [956, 994]


def test_ctrl_c_in_a_fit_that_goes_on_keeps_the_finished_one():
    class Stopped(Stub):
        def fit(self, *arguments):
            result = super().fit(*arguments)
            if len(self.shares) == 2:
                raise FitInterrupted(result)
            return result

    made = Stopped(lambda k: 40 + 7 * math.log(k / 5000), aim_of(42))
    with pytest.raises(FitInterrupted) as stopped:
        made.search.run(5000)
    assert len(stopped.value.result.gaussians) == 5000
