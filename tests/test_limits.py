"""Calls that need too much memory are refused before they allocate, and told what helps."""

import pytest
import torch
from conftest import scatter

import taichi2dgs
from taichi2dgs import FitOptions, Gaussians, limits, runtime
from taichi2dgs.fitting.engine import Engine
from taichi2dgs.fitting.picture import Picture
from taichi2dgs.kernels import binning, lists
from taichi2dgs.kernels.variant import Variant
from taichi2dgs.rendering import workspace
from taichi2dgs.rendering.workspace import Workspace

ti = runtime.ti


@pytest.fixture(autouse=True)
def default_limit(monkeypatch):
    monkeypatch.delenv(limits.VARIABLE, raising=False)
    yield
    taichi2dgs.set_memory_limit(None)


def test_the_limit_is_the_callers_else_the_variables_else_of_this_machine(monkeypatch):
    assert 1 << 26 < limits.memory_limit() < limits.machine_memory()
    monkeypatch.setenv(limits.VARIABLE, "1.5G")
    assert limits.memory_limit() == 3 << 29
    taichi2dgs.set_memory_limit(4096)
    assert limits.memory_limit() == 4096
    taichi2dgs.set_memory_limit("24 MiB")
    assert limits.memory_limit() == 24 << 20


@pytest.mark.parametrize("limit", [0, -1, True, "much", "1e9", "", float("inf"), "9" * 5000])
def test_a_limit_that_is_no_number_of_bytes_is_named(limit, monkeypatch):
    with pytest.raises(ValueError, match=r"limit=.*expected a number of bytes"):
        taichi2dgs.set_memory_limit(limit)
    if limit and isinstance(limit, str):
        monkeypatch.setenv(limits.VARIABLE, limit)
        with pytest.raises(ValueError, match=f"{limits.VARIABLE}="):
            scatter(3, (4, 4)).render()


@pytest.mark.parametrize("size", [(100_000, 100_000), (30_000, 30_000), (10**200, 10**200)])
@pytest.mark.parametrize("n", [0, 3])
def test_a_render_over_the_limit_is_refused_before_it_allocates(size, n):
    taichi2dgs.set_memory_limit("8G")
    g = scatter(n, (40_000, 40_000))
    with pytest.raises(ValueError, match=r"size=.*expected at most"):
        g.render(size=size)
    with pytest.raises(ValueError, match=r"size=.*expected at most 8.0 GiB.*set_memory_limit"):
        g.render()
    assert g.render(crop=(39_990, 39_990, 5, 6)).shape == (5, 6, 3)


def test_a_limit_can_be_raised():
    taichi2dgs.set_memory_limit(3 * 4 * 64 * 64)
    g = scatter(20, (64, 64))
    with pytest.raises(ValueError, match=r"needs 50\.3 KiB of memory; expected at most 48\.0 KiB"):
        g.render()
    taichi2dgs.set_memory_limit("1M")
    assert g.render().shape == (64, 64, 3)


def test_more_numbers_than_taichi_can_index_are_refused_under_any_limit():
    taichi2dgs.set_memory_limit("100T")
    nothing = torch.zeros(0, 2)
    g = Gaussians(nothing, nothing, torch.zeros(0), torch.zeros(0, 16), (16384, 16384))
    with pytest.raises(ValueError, match=r"an array of 4294967296 numbers"):
        g.render()
    with pytest.raises(ValueError, match=r"an array of .* numbers"):  # padded to whole tiles
        scatter(3, (8, 8), channels=1).render(size=(1, 300_000_000))


def test_a_fit_over_the_limit_is_refused():
    g = scatter(1000, (64, 64))
    taichi2dgs.set_memory_limit("100K")
    with pytest.raises(ValueError, match=r"gaussians of 1000 .*needs .* of memory"):
        taichi2dgs.fit(torch.rand(64, 64, 3), g, steps=1)
    taichi2dgs.set_memory_limit("24G")
    with pytest.raises(ValueError, match=r"k=1000000000 needs .* GiB"):
        limits.check_fit("k=1000000000", 512, 512, 3, 10**9)


def test_a_fit_holds_what_is_counted_before_it_begins(backend, monkeypatch):
    """Each Gaussian is in one tile, or at an edge in more; the lists have no room to spare."""
    if backend != "cpu":
        pytest.skip("what a GPU holds depends on its workspace")
    monkeypatch.setattr(workspace, "SPARE", 1.0)
    for channels in (1, 3, 7):
        g = scatter(20_000, (256, 256), channels=channels, margin=0, log_scale=(-1.6, -1.6))
        engine = Engine(
            [Picture(torch.rand(256, 256, channels), g.packed())], FitOptions(settings=g.settings)
        )
        held = bytes_of(engine) + engine.work.bytes()
        callers = 4 * (256 * 256 * channels + 2 * g.packed().numel())
        counted = limits.fit_bytes(256, 256, channels, len(g)) - callers
        assert 0.9 * held < counted <= held


def bytes_of(engine: Engine) -> int:
    """Bytes of all arrays that a fit keeps on the device beside its workspace."""
    arrays = [one.arr for one in vars(engine).values() if isinstance(one, ti.Ndarray)]
    return sum(array.nelement() * array.element_size() for array in arrays)


def test_a_kept_selection_over_the_limit_is_refused(backend):
    if backend != "cpu":
        pytest.skip("kernels for GPUs keep no selection")
    g, image = scatter(1000, (160, 160)), torch.rand(160, 160, 3)
    taichi2dgs.set_memory_limit("1M")
    assert len(taichi2dgs.fit(image, g, steps=1).gaussians) == 1000
    with pytest.raises(ValueError, match=r"kept selection .*reselect.* size=160x160 needs"):
        taichi2dgs.fit(image, g, steps=1, options=FitOptions(reselect=2))


def test_tile_lists_over_the_limit_are_a_memory_error():
    g = scatter(3000, (256, 256), log_scale=(5.0, 6.0))  # each reaches most of 256 tiles
    taichi2dgs.set_memory_limit("4M")
    with pytest.raises(MemoryError, match=r"tile lists .* too large .log_scale."):
        g.render()
    with pytest.raises(MemoryError, match=r"tile lists"):
        taichi2dgs.fit(torch.rand(256, 256, 3), g, steps=1)


@pytest.mark.parametrize("channels", [1, 3, 16])
def test_as_many_entries_as_are_allowed_can_be_indexed(channels):
    """67 million entries can be indexed in pictures of few channels."""
    work = Workspace.__new__(Workspace)
    work.channels = channels
    assert work.most_entries(True) * max(9 + channels, 5 + channels) < 2**31
    assert work.most_entries(False) * (9 + channels) < 2**31
    assert work.most_entries(False) <= binning.MAX_ENTRIES - 1
    if channels == 3:
        assert work.most_entries(True) == binning.MAX_ENTRIES - 1


def scan_of_tiles():
    """The kernel that says where each tile's list begins."""
    f = lists.make(Variant(3, 10, "normalized"), (8, 8))
    ints = ti.types.ndarray(ti.i32, 1)

    @ti.kernel
    def scan(counts: ints, starts: ints, runs: ints, required: ints, tiles: ti.i32):  # type: ignore
        for b in range(runs.shape[0]):
            f.sum_run(counts, runs, b, tiles)
        for t in range(tiles):
            f.begin(counts, starts, runs, required, t, tiles)

    return scan


def test_counts_of_tiles_do_not_overflow_their_sum():
    """Four tiles of 2^29 entries, or a list of them, are still more than the lists can hold."""
    scan = scan_of_tiles()
    for count, runs in ((4, 2), (49, 7)):
        counts = torch.full((count,), 1 << 29, dtype=torch.int32)
        starts, required = torch.zeros(count + 1, dtype=torch.int32), torch.zeros(1).int()
        with runtime.launching():
            scan(counts, starts, torch.zeros(runs, dtype=torch.int32), required, count)
        assert starts[-1] == required[0] == binning.MAX_ENTRIES and (starts >= 0).all()


def test_lists_begin_where_those_before_them_end():
    scan = scan_of_tiles()
    for count, runs in ((1, 1), (2, 2), (50, 8), (64, 8)):
        counts = torch.randint(0, 9, (count,), dtype=torch.int32)
        starts, required = torch.zeros(count + 1, dtype=torch.int32), torch.zeros(1).int()
        with runtime.launching():
            scan(counts, starts, torch.zeros(runs, dtype=torch.int32), required, count)
        assert torch.equal(starts[1:], counts.cumsum(0).int()) and required[0] == starts[-1]
