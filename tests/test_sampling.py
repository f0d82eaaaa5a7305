"""Samplers: counts, bounds, fidelity to the heat."""

import numpy as np
import pytest
import torch

from pipelines.starts.sampling import METHODS, expected_counts, hilbert_order, sample


def heat(height: int, width: int, seed: int = 0) -> torch.Tensor:
    values = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) ** 3
    return values * (values > 0.01)  # some pixels are 0


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize(
    ("size", "k"),
    [((1, 1), 1), ((1, 1), 5), ((1, 7), 3), ((37, 53), 400), ((37, 53), 1961), ((5, 300), 3700)],
)
def test_every_sampler_gives_exactly_k_pixels_of_the_image(method, size, k):
    (pixels,) = sample(heat(*size)[None], k, method)
    assert pixels.shape == (k,) and pixels.min() >= 0 and pixels.max() < size[0] * size[1]
    if method != "multinomial":
        repeats = torch.bincount(pixels, minlength=size[0] * size[1])
        assert repeats.max() - repeats.min() <= 1  # no pixel is a lap ahead


@pytest.mark.parametrize("method", sorted(METHODS))
def test_seed_decides_and_a_batch_equals_its_images(method):
    maps = torch.stack([heat(20, 30, 1), heat(20, 30, 2)])
    batch = sample(maps, [50, 80], method, seed=7)
    assert [len(pixels) for pixels in batch] == [50, 80]
    assert torch.equal(batch[0], sample(maps[:1], 50, method, seed=7)[0])
    assert torch.equal(batch[1], sample(maps[1:], 80, method, seed=8)[0])
    if method != "top-k":
        assert set(sample(maps[:1], 50, method, seed=9)[0].tolist()) != set(batch[0].tolist())


@pytest.mark.parametrize("method", ["multinomial", "distinct", "floyd-steinberg", "systematic"])
def test_samples_follow_the_heat(method):
    ramp = torch.linspace(0, 1, 64)[None].expand(64, 64).contiguous()
    (pixels,) = sample(ramp[None], 400, method)
    column = (pixels % 64).double().mean()
    assert float(column) == pytest.approx(42, abs=3)  # mean of a density that rises from 0


@pytest.mark.parametrize("method", ["floyd-steinberg", "systematic"])
def test_dithering_and_systematic_sampling_spread_evenly(method):
    """Counts in 8x8 blocks of a flat heatmap have a mean of 6.4, and by chance such a variance."""
    (pixels,) = sample(torch.ones(1, 64, 64), 410, method)
    marks = torch.bincount(pixels, minlength=4096).reshape(8, 8, 8, 8)
    assert float(marks.sum((1, 3)).double().var()) < 2  # 0.4 to 1.3 was seen


def test_top_k_takes_the_warmest():
    warm = heat(20, 30)
    (pixels,) = sample(warm[None], 25, "top-k")
    assert float(warm.ravel()[pixels].min()) >= float(warm.ravel().sort().values[-26])


def test_cold_map_counts_as_uniform():
    (pixels,) = sample(torch.zeros(1, 8, 8), 64, "distinct")
    assert len(pixels.unique()) == 64


@pytest.mark.parametrize("k", [1, 10, 1000, 1900, 1961])
def test_expected_counts_sum_to_k_and_never_exceed_1(k):
    counts = expected_counts(heat(37, 53).double().numpy(), k)
    assert counts.sum() == pytest.approx(k) and counts.max() <= 1 and counts.min() >= 0


@pytest.mark.parametrize("size", [(64, 64), (16, 16), (1, 1)])
def test_hilbert_curve_visits_neighbours(size):
    y, x = np.divmod(hilbert_order(*size), size[1])
    assert (np.abs(np.diff(x)) + np.abs(np.diff(y)) == 1).all()
    assert sorted(hilbert_order(37, 53)) == list(range(37 * 53))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((torch.ones(4, 4), 1), "heatmaps has shape"), ((torch.ones(1, 4, 4), 0), "k=0"),
     ((torch.ones(2, 4, 4), [1]), "one number for each of 2"),
     ((torch.ones(1, 4, 4), 1, "best"), "method='best'"),
     ((-torch.ones(1, 4, 4), 1), "below 0"), ((torch.full((1, 4, 4), torch.nan), 1), "not finite"),
     ((None, 1), "heatmaps is a NoneType"), ((np.ones((1, 4, 4)), 1), "heatmaps is a ndarray"),
     ((torch.ones(1, 4, 4).to_sparse(), 1), r"a torch\.sparse_coo tensor"),
     ((torch.ones(1, 4, 4), 1, ["top-k"]), "method=.*expected one of"),
     ((torch.ones(1, 4, 4), 1, None), "method=None"),
     ((torch.ones(1, 4, 4), 1, "top-k", None), "seed=None"),
     ((torch.ones(1, 4, 4), 1, "top-k", -1), "seed=-1"),
     ((torch.ones(1, 4, 4), 1, "top-k", 2**63), "seed=9223372036854775808"),
     ((torch.ones(1, 4, 4), 1, "top-k", 1.0), r"seed=1\.0; expected a whole number"),
     *(((torch.ones(1, 4, 4), k), "k=") for k in (None, "7", b"7", 2.0, True, -3, {}, np.float32(2),
                                                  [2.5], ["2"], np.ones((1, 1), int)))],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        sample(*arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "k",
    [
        np.int64(5),
        np.uint8(5),
        torch.tensor(5),
        [5, np.int32(5)],
        (5, 5),
        np.array([5, 5]),
        torch.tensor([5, 5]),
        range(5, 7),
    ],
)
def test_whole_numbers_of_any_library_are_taken(k):
    maps = torch.stack([heat(20, 30, 1), heat(20, 30, 2)])
    first, second = sample(maps, k, seed=np.int64(3))
    assert torch.equal(first, sample(maps[:1], 5, seed=3)[0])
    assert len(second) == (6 if isinstance(k, range) else 5)
