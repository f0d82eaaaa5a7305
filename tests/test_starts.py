"""Starts, and the neighbour distances that set their scales."""

import numpy as np
import pytest
import torch
from conftest import scatter

import pipelines
from pipelines.starts.place import MIN_SCALE, place
from taichi2dgs.neighbours import neighbour_distances
from taichi2dgs.order import morton_order


@pytest.mark.parametrize("n", [0, 1, 2, 5, 63, 1000])
@pytest.mark.parametrize("kind", ["scattered", "line", "clustered"])
def test_neighbour_distances_equal_brute_force(n, kind):
    xy = scatter(n, (300, 200)).xy
    if kind == "line":
        xy[:, 1] = 7.0
    elif kind == "clustered":
        xy[n // 2 :] = xy[n // 2 :] / 1000 + 50
    distances = neighbour_distances(xy, 3)
    expected = torch.cdist(xy.double(), xy.double())
    expected.fill_diagonal_(float("inf"))
    missing = torch.full((n, max(0, 3 - n)), float("inf"), dtype=torch.float64)
    expected = torch.cat([expected.sort(dim=1).values[:, :3], missing], dim=1)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-4, atol=1e-4)


def test_neighbour_distances_of_duplicates_are_zero():
    assert not neighbour_distances(torch.full((5, 2), 3.0)).any()


@pytest.mark.parametrize(("xy", "count"), [(torch.zeros(3), 1), (torch.full((2, 2), torch.nan), 1)])
def test_neighbour_distances_reject_bad_points(xy, count):
    with pytest.raises(ValueError, match="xy"):
        neighbour_distances(xy, count)


@pytest.mark.parametrize("init", ["random", "gradient"])
@pytest.mark.parametrize("k", [1, 7, 300, 5000])
def test_start_is_inside_the_picture_and_takes_its_colours(photograph, init, k):
    image = photograph[:40, :50]  # 2,000 pixels are fewer than the largest k
    g = pipelines.initialize(image, k, init)
    assert len(g) == k and g.size == (40, 50)
    assert (g.xy >= 0).all() and (g.xy <= torch.tensor([50, 40])).all()
    assert float(g.log_scale.exp().min()) >= MIN_SCALE - 1e-6
    column, row = g.xy.long().clamp(max=torch.tensor([49, 39])).unbind(1)
    torch.testing.assert_close(g.color, image[row, column])


def test_no_pixel_is_drawn_twice_before_every_pixel_is_drawn(photograph):
    image = photograph[:20, :30]
    few = pipelines.initialize(image, 400, "gradient").xy.unique(dim=0)
    assert len(few) == 400
    many = pipelines.initialize(image, 1000, "gradient").xy.long()
    assert len(many.unique(dim=0)) == 600


def test_the_first_on_a_pixel_sits_at_its_centre_and_others_beside_it():
    xy = place(torch.zeros(4, 4, 3), torch.tensor([5, 5, 2])).xy
    assert xy[0].tolist() == [1.5, 1.5] and xy[2].tolist() == [2.5, 0.5]
    assert xy[1].tolist() != [1.5, 1.5] and xy[1].long().tolist() == [1, 1]


def test_seed_decides(photograph):
    first, again, other = (
        pipelines.initialize(photograph, 100, "gradient", seed=s) for s in (1, 1, 2)
    )
    assert torch.equal(first.packed(), again.packed())
    assert not torch.equal(first.xy, other.xy)


def test_gradient_start_prefers_edges():
    image = torch.zeros(64, 64, 3)
    image[:, 32:] = 1
    x = pipelines.initialize(image, 150, "gradient").xy[:, 0]
    assert float(((x - 32).abs() < 2).double().mean()) > 0.4


@pytest.mark.parametrize(
    ("arguments", "name"),
    [((torch.zeros(4, 4, 3), 0), "k"), ((torch.zeros(4, 4, 3), 2.0), "k"),
     ((torch.zeros(4, 4, 3), 1, "best"), "start"), ((torch.zeros(4), 1), "image"),
     ((torch.full((4, 4, 3), 255.0), 1), "image has floats from 255 to 255"),
     ((torch.zeros(3, 40, 40), 1), "image has shape")],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        pipelines.initialize(*arguments)


BATCH = torch.full((2, 3, 4, 5), 0.5)


@pytest.mark.parametrize(
    ("images", "arguments", "message"),
    [(BATCH, {"k": None}, "k=None"), (BATCH, {"k": "9"}, "k='9'"), (BATCH, {"k": True}, "k=True"),
     (BATCH, {"k": [3]}, "k has 1 numbers; expected one number for each of 2 images"),
     (BATCH, {"k": 10**9}, "k=2000000000 needs .*iB of memory"),
     (BATCH, {"seed": None}, "seed=None"),
     (BATCH, {"seed": -1}, "seed=-1"), (BATCH, {"seed": 1 << 64}, "seed=18446744073709551616"),
     (BATCH, {"seed": "0"}, "seed='0'"), (BATCH, {"start": None}, "start=None"),
     (BATCH, {"start": ["prior"]}, r"start=\['prior'\]"), (BATCH, {"start": 3}, "start=3"),
     (BATCH, {"sampler": ""}, "sampler=''"), (BATCH, {"sampler": 3}, "sampler=3"),
     (BATCH, {"sampler": ["top-k"]}, "sampler="), (BATCH, {"weights": ""}, "weights=''"),
     (BATCH, {"steps": -1}, "steps=-1"), (BATCH, {"steps": None}, "steps=None"),
     (BATCH, {"weights": 3}, "weights=3"), (BATCH, {"weights": "a\0b", "start": "prior"}, "a.*b"),
     (BATCH, {"weights": "n" * 300, "start": "prior"}, "nnn"),
     (None, {}, "images is a NoneType"), ("photo.png", {}, "images is a str"),
     (BATCH.numpy(), {}, "images is a ndarray"), (BATCH[0], {}, r"\[3, 4, 5\]; expected"),
     (BATCH.to_sparse(), {}, "a torch.sparse_coo tensor"), (BATCH[..., :0], {}, r"\[2, 3, 4, 0\]"),
     (torch.zeros(1, 40, 30, 3), {}, r"\[1, 40, 30, 3\]; expected .* \[B, C, H, W\] with up to 16"),
     (BATCH * 255, {}, "images has values from 127.5 to 127.5"),
     (BATCH * 2.0000005, {}, r"to 1\.0000002\d*; expected"),
     (torch.full_like(BATCH, torch.nan), {}, "images has values from nan"),
     (BATCH.to(torch.int32), {}, "images is torch.int32"),
     (BATCH.to(torch.complex64), {}, "images is torch.complex64")],
)  # fmt: skip
def test_bad_arguments_of_a_batch_are_one_clear_line(images, arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        pipelines.initialize_batch(images, **{"k": 5, "start": "random", **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_batches_of_any_float_are_taken(dtype):
    first, _ = pipelines.initialize_batch(BATCH.to(dtype), np.int64(4), "random", np.uint8(3))
    assert first.xy.dtype == torch.float32 and len(first) == 4
    assert torch.equal(first.xy, pipelines.initialize_batch(BATCH, 4, "random", 3)[0].xy)


def test_morton_order_keeps_neighbours_together_and_duplicates_in_order():
    xy = torch.tensor([[0.0, 0.0], [63.0, 63.0], [1.0, 0.0], [0.0, 0.0], [62.0, 63.0], [-9.0, 0.0]])
    order = morton_order(xy, (64, 64)).tolist()
    assert order == [0, 3, 5, 2, 4, 1]
