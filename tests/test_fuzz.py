"""Public functions called with anything raise what their docstrings say, in one line.

TAICHI2DGS_FUZZ=10000 tries so many calls of each function instead of 40.
"""

import dataclasses
import itertools
import math
import os
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scatter
from PIL import Image

import pipelines
import taichi2dgs
from pipelines import baselines
from pipelines.layout import Layout
from pipelines.starts import projection, sampling
from taichi2dgs import FitOptions, Gaussians, RenderSettings, draw, metrics
from taichi2dgs.neighbours import neighbour_distances
from taichi2dgs.rendering import reference
from taichi2dgs.torch import GaussianFolder

COUNT = int(os.environ.get("TAICHI2DGS_FUZZ", 40))
SIZE = (9, 12)
PICTURE = torch.linspace(0, 1, 9 * 12 * 3).reshape(9, 12, 3)
LONGEST = 900  # characters of a message, which may have a path, two values and a reason

NUMBERS = [
    0, 1, -1, 3, 2**31, 2**63, -(2**63), 10**30, 10**400, 10**5000, True, 0.5, 2.0, -0.5, 1e-45,
    1e-300, 1e30, 1e300, math.nan, math.inf, -math.inf, 1j, np.int8(3), np.uint64(2**63),
    np.float16(0.5), np.float32(math.nan), np.bool_(True), np.complex64(1),
    np.datetime64("2024-01-01"), torch.tensor(3), torch.tensor(True), torch.tensor(0.5),
    torch.tensor(math.inf), torch.tensor(2, device="meta"), torch.tensor(1j),
]  # fmt: skip
OTHERS = [
    None, "", "x", "3", "auto", "a\0b", "n" * 300, "/dev/null/x", "sum", "cuda:77", b"x",
    bytearray(3), (), [], {}, {"x": 1}, set(), (1, 2), (9, 12), [0, 0, 3, 4], (math.nan, 4),
    (0.5, 1, 2, 3), ("9", "12"), [[1, 2], [3]], [None] * 4, range(4), object(), print, str,
    Path("missing.png"), np.zeros(0), np.zeros((2, 3), dtype=object), np.array(["a"]),
    np.zeros((2,), dtype="i4,f4"), np.ma.masked_array([1.0], [True]), Image.new("F", (3, 4)),
    Image.new("RGB", (12, 9)), Image.new("L", (1, 1)), RenderSettings(top_k=2), FitOptions(),
    scatter(2, (3, 4)), torch.nn.Linear(1, 1), torch.Generator(), torch.float32,
    torch.device("meta"),
]  # fmt: skip
DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8,
    torch.int64, torch.bool, torch.complex64,
]  # fmt: skip
VALUES = [0.0, 1.0, 0.5, -1.0, 1e38, -1e38, 1e-45, 200.0, math.nan, math.inf, -math.inf]
SHAPES = [(), (0,), (5,), (9, 12), (9, 12, 3), (3, 9, 12), (5, 2), (5, 8), (2, 3), (0, 2), (3, 3),
          (3, 4), (1, 3, 9, 12), (0, 0, 0), (9, 12, 17), (1, 9, 12)]  # fmt: skip


def odd_tensor(rng: random.Random) -> object:
    """A tensor or array of any shape, type, layout and device, with any number in it."""
    shape, value = rng.choice(SHAPES), rng.choice(VALUES)
    made = torch.full(shape, 0.5 if rng.random() < 0.5 else value, dtype=torch.float64)
    if made.numel():
        made.view(-1)[rng.randrange(made.numel())] = value
    made = made.to(rng.choice(DTYPES))
    kind = rng.randrange(9)
    if kind == 0 and made.ndim:
        return made.to_sparse()
    if kind == 1:
        return made.to("meta")
    if kind == 2:
        return torch.nested.nested_tensor([torch.zeros(2, 3), torch.zeros(1, 3)])
    if kind == 3:
        return torch.quantize_per_tensor(torch.zeros(shape), 0.1, 0, torch.quint8)
    if kind == 4 and made.dtype != torch.bfloat16:
        return made.numpy()
    if kind == 5:
        return made.transpose(0, -1) if made.ndim else made
    if kind == 6 and made.is_floating_point():
        return made.requires_grad_()
    return made


def odd(rng: random.Random) -> object:
    """A tensor, number or object of any kind."""
    kind = rng.randrange(3)
    return odd_tensor(rng) if kind == 0 else rng.choice(NUMBERS if kind == 1 else OTHERS)


def small(rng: random.Random) -> object:
    """Any value but those that would be a budget of many steps or of half a second and more."""
    while True:
        value = odd(rng)
        try:
            if not isinstance(value, str) and float(value) <= 0.5:  # type: ignore[arg-type]
                return value
        except OverflowError:
            continue
        except Exception:  # no number
            return value


def parts(**changes: object) -> dict[str, object]:
    """Arguments with which `Gaussians` are made."""
    g = scatter(5, SIZE)
    return {f.name: getattr(g, f.name) for f in dataclasses.fields(g)} | changes


def folder_of_one(index: object) -> object:
    """An item of a folder with one file."""
    scatter(5, SIZE).save("a.t2d")
    return GaussianFolder(".")[index]  # type: ignore[index]


GRADIENT = {"k": 4, "start": "gradient", "steps": 1}
UNFUSED = dataclasses.replace(baselines.load("image-gs-gradient"), ssim=0.0, plateau=None)
ENCODING = pipelines.Encoding(k=4, start="gradient", steps=1, quality="small", refine=4)
# A call, its arguments as they should be, and names that messages may use for some of them.
CALLS = {
    "Gaussians": (Gaussians, parts(), ()),
    "from_packed": (
        Gaussians.from_packed, {"params": torch.zeros(5, 8), "size": SIZE},
        ("xy", "log_scale", "theta", "color"),
    ),
    "to": (scatter(5, SIZE).to, {"device": "cpu", "dtype": torch.float64}, ("xy",)),
    "save": (
        scatter(5, SIZE).save,
        {"path": "a.t2d", "quality": "small", "image": PICTURE, "refine": 1,
         "progressive": True}, (),
    ),
    "show": (scatter(5, SIZE).show, {"other": PICTURE, "height": 300}, ("image",)),
    "draw.ellipses": (
        draw.ellipses,
        {"gaussians": scatter(5, SIZE), "axes": None, "image": PICTURE, "deviations": 1.0,
         "filled": True}, (),
    ),
    "draw.centres": (
        draw.centres, {"gaussians": scatter(5, SIZE), "axes": None, "image": PICTURE, "size": 2.0},
        (),
    ),
    "draw.heatmap": (
        draw.heatmap,
        {"gaussians": scatter(5, SIZE), "axes": None, "image": PICTURE, "strength": 0.5}, (),
    ),
    "select": (scatter(5, SIZE).select, {"region": (0, 0, 3, 4)}, ()),
    "transform": (
        scatter(5, SIZE).transform, {"matrix": [[1, 0, 2], [0, 1, 3]], "size": SIZE},
        ("xy", "log_scale", "theta"),
    ),
    "concat": (lambda other: scatter(5, SIZE).concat(other), {"other": scatter(3, SIZE)}, ()),
    "recolor": (scatter(5, SIZE).recolor, {"matrix": torch.eye(3)}, ("color",)),
    "replace": (scatter(5, SIZE).replace, parts(), ()),
    "rows": (scatter(5, SIZE).__getitem__, {"index": torch.tensor([0, 3])}, ()),
    "free": (taichi2dgs.free, {}, ()),
    "RenderSettings": (
        RenderSettings,
        {"top_k": 3, "cutoff": 3.0, "eps": 1e-3, "blend": "sum", "tile": True}, (),
    ),
    "but": (RenderSettings().but, {"top_k": 3, "cutoff": 3.0, "eps": 1e-3, "blend": "sum"}, ()),
    "FitOptions": (
        FitOptions,
        {f.name: 1 if f.name == "report_every" else f.default
         for f in dataclasses.fields(FitOptions)}, (),
    ),
    "render": (
        taichi2dgs.render,
        {"gaussians": scatter(5, SIZE), "size": (4, 5), "crop": (0, 0, 2, 2), "top_k": 3,
         "cutoff": 3.0, "eps": 1e-3, "blend": "sum", "tile": True}, (),
    ),
    "render_mips": (
        taichi2dgs.render_mips, {"gaussians": scatter(5, SIZE), "levels": 2, "tile": True}, (),
    ),
    "render at a scale": (
        taichi2dgs.render, {"gaussians": scatter(5, SIZE), "scale": 0.5}, ("size",),
    ),
    "reference.render": (
        reference.render,
        {"gaussians": scatter(5, SIZE), "size": (4, 5), "crop": (0, 0, 2, 2), "top_k": 3,
         "cutoff": 3.0}, (),
    ),
    "fit": (
        taichi2dgs.fit,
        {"image": PICTURE, "gaussians": scatter(5, SIZE), "steps": 1, "seconds": 0.01,
         "target_psnr": 90.0, "frozen": torch.zeros(5, dtype=torch.bool), "on_report": print,
         "weight": torch.ones(SIZE), "options": FitOptions()}, (),
    ),
    "fit_batch": (
        taichi2dgs.fit_batch,
        {"images": [PICTURE, PICTURE], "gaussians": [scatter(5, SIZE), scatter(3, SIZE)],
         "steps": 1, "seconds": 0.01, "target_psnr": [90.0, 20.0],
         "frozen": [torch.zeros(5, dtype=torch.bool), None], "on_report": print,
         "weight": [torch.ones(SIZE), None],
         "options": FitOptions()}, ("image",),
    ),
    "encode_batch": (
        taichi2dgs.encode_batch,
        {"images": [PICTURE, PICTURE], "seed": 0, "linear": True, "tile": True,
         "weight": [torch.ones(SIZE), None], **GRADIENT}, ("start", "image"),
    ),
    "encode": (
        taichi2dgs.encode,
        {"image": PICTURE, "seed": 0, "linear": True, "weight": torch.ones(SIZE), "tile": True,
         **GRADIENT}, ("start",),
    ),
    "encode to a PSNR": (
        taichi2dgs.encode, {"image": PICTURE, "target_psnr": 20.0, "start": "gradient", "steps": 0},
        (),
    ),
    "encode to bytes": (
        taichi2dgs.encode,
        {"image": PICTURE, "target_bytes": 300, "quality": "small", "start": "gradient",
         "steps": 0}, (),
    ),
    "Encoding": (
        pipelines.Encoding,
        {"k": None, "target_psnr": None, "target_bytes": 300, "quality": "small", "refine": 1,
         "progressive": True, "steps": 1, "seconds": 0.01, "start": "gradient", "seed": 0,
         "weights": None, "options": FitOptions(), "linear": True}, (),
    ),
    "Encoding.run": (ENCODING.run, {"image": PICTURE, "on_report": print}, ()),
    "Encoding.save": (
        ENCODING.save,
        {"path": "a.t2d", "gaussians": scatter(5, SIZE), "image": PICTURE, "on_stage": print}, (),
    ),
    "Encoding.file_of": (
        ENCODING.file_of,
        {"gaussians": scatter(5, SIZE), "image": PICTURE, "on_stage": print}, (),
    ),
    "initialize": (
        pipelines.initialize,
        {"image": PICTURE, "k": 4, "start": "gradient", "seed": 1, "sampler": "top-k",
         "weights": None, "weight": torch.ones(SIZE), "steps": 5}, (),
    ),
    "initialize with weights": (
        pipelines.initialize, {"image": PICTURE, "k": 4, "weights": None}, ("position",),
    ),
    "initialize_batch": (
        pipelines.initialize_batch,
        {"images": PICTURE.permute(2, 0, 1)[None], "k": [4], "start": "gradient", "seed": 1,
         "sampler": "distinct", "weight": torch.ones(1, *SIZE), "steps": 5}, (),
    ),
    "sample": (
        sampling.sample,
        {"heatmaps": PICTURE.permute(2, 0, 1), "k": [1, 2, 200], "method": "systematic",
         "seed": 0, "inside": torch.ones(3, *SIZE, dtype=torch.bool)}, (),
    ),
    "project": (projection.project, {"xy": torch.rand(5, 2), "size": SIZE}, ()),
    "baselines.load": (baselines.load, {"name": "ours"}, ()),
    "baselines.run": (
        baselines.run,
        {"image": PICTURE, "k": 4, "method": UNFUSED, "steps": 1, "seconds": 0.01, "seed": 0,
         "on_report": print}, (),
    ),
    "psnr": (
        metrics.psnr, {"image": PICTURE, "reference": PICTURE, "weight": torch.ones(SIZE)}, (),
    ),
    "neighbour_distances": (neighbour_distances, {"xy": torch.rand(5, 2), "count": 3}, ()),
    "read_image": (taichi2dgs.read_image, {"path": "missing.png"}, ()),
    "write_image": (taichi2dgs.write_image, {"path": "a.png", "image": PICTURE, "bits": 16}, ()),
    "Map": (
        taichi2dgs.Map,
        {"name": "a", "channels": 3, "kind": "data", "bits": 8, "low": 0.0, "high": 2.0}, (),
    ),
    "read_stack": (taichi2dgs.read_stack, {"source": {"a": PICTURE}, "linear": True}, ("name",)),
    "render_stack": (
        taichi2dgs.render_stack,
        {"gaussians": scatter(5, SIZE), "size": (4, 5), "crop": (0, 0, 2, 2)}, (),
    ),
    "load": (taichi2dgs.load, {"path": "missing.t2d", "fraction": 0.5}, ("missing",)),
    "GaussianFolder": (GaussianFolder, {"root": "missing", "transform": print}, ("missing",)),
    "GaussianFolder's items": (folder_of_one, {"index": 0}, ()),
    "Layout": (
        Layout, {"format": "npz", "dtype": "float16", "channels": 3, "shard_size": 9}, (),
    ),
    "set_memory_limit": (taichi2dgs.set_memory_limit, {"limit": "1G"}, ()),
    "init": (taichi2dgs.init, {"backend": None}, ()),
}  # fmt: skip
BUDGETS = {"steps", "seconds", "refine", "target_psnr"}
# Errors other than ValueError that docstrings name.
ALSO = {
    "GaussianFolder's items": (IndexError,),
    "init": (RuntimeError,), "fit": (FloatingPointError,), "fit_batch": (FloatingPointError,),
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taichi2dgs.set_memory_limit("1G")
    yield
    taichi2dgs.set_memory_limit(None)


@pytest.mark.filterwarnings("ignore")  # those of torch and NumPy about odd arguments
@pytest.mark.parametrize("name", CALLS)
def test_whatever_is_given_one_line_names_the_argument(name):
    call, right, more = CALLS[name]
    rng = random.Random(zlib.crc32(name.encode()))
    for _ in range(COUNT):
        taichi2dgs.set_memory_limit("1G")
        chosen = rng.sample(list(right), min(len(right), rng.choice([1, 1, 1, 2])))
        wrong = {key: small(rng) if key in BUDGETS else odd(rng) for key in chosen}
        told = ", ".join(f"{key}={_shown(value)}" for key, value in wrong.items())
        try:
            call(**{**right, **wrong})
        except (ValueError, *ALSO.get(name, ())) as error:
            text = str(error)
            assert text and "\n" not in text and len(text) < LONGEST, f"{told}: {text!r}"
            values = [os.fsdecode(v) for v in wrong.values() if isinstance(v, str | bytes | Path)]
            known = [*right, *more, *values]
            assert any(word in text for word in known), f"{told}: no argument in {text!r}"
        except Exception as error:
            raise AssertionError(f"{told}: {type(error).__name__}: {error}") from error


def _shown(value: object) -> str:
    try:
        return f"{type(value).__name__} {str(value)[:200]}"
    except Exception:
        return type(value).__name__


def test_every_public_name_is_tried():
    tried = {getattr(call, "__name__", "") for call, _, _ in CALLS.values()}
    # Of these, classes only hold what the library puts in, and the others take no arguments.
    data = {"FitInterrupted", "FitResult", "STARTS", "Report", "backend", "draw", "reference"}
    public = itertools.chain(taichi2dgs.__all__, pipelines.__all__)
    assert set(public) - data <= tried
    methods = {n for n, made in vars(Gaussians).items() if callable(made) and n[0] != "_"}
    assert methods - {"detach", "packed", "render", "channels", "covariance"} <= tried | {"concat"}
