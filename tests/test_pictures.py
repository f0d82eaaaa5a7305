"""Pictures of every kind are read, or refused by name; written files show what was given."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_decoding import png

import taichi2dgs
from taichi2dgs import metrics
from taichi2dgs.storage import files, pictures

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(mode: str, first, second) -> Image.Image:
    """A picture of 6x4 pixels whose left half has another colour than its right half."""
    picture = Image.new(mode, (6, 4), second)
    picture.paste(first, (0, 0, 3, 4))
    return picture


@pytest.mark.parametrize(
    ("picture", "suffix", "left", "right"),
    [
        (halves("1", 1, 0), "png", [1], [0]),
        (halves("L", 51, 255), "png", [0.2], [1]),
        (halves("LA", (255, 51), (0, 255)), "png", [0.2, 0.2], [0, 1]),
        (halves("RGB", RED, BLUE), "png", [1, 0, 0], [0, 0, 1]),
        (halves("RGBA", (*RED, 102), (*BLUE, 0)), "png", [0.4, 0, 0, 0.4], [0, 0, 0, 0]),
        (halves("P", 0, 1), "gif", [1, 0, 0], [0, 0, 1]),
        (halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)), "tif", [1, 0, 0], [0, 0, 1]),
    ],
)
def test_modes(tmp_path, picture, suffix, left, right):
    if picture.mode == "P":
        picture.putpalette([*RED, *BLUE])
    path = tmp_path / f"a.{suffix}"
    picture.save(path)
    image = taichi2dgs.read_image(path)
    assert image.shape == (4, 6, len(left))
    torch.testing.assert_close(image[1, 1], torch.tensor(left, dtype=torch.float32))
    torch.testing.assert_close(image[1, 4], torch.tensor(right, dtype=torch.float32))
    assert torch.equal(pictures.as_image(picture), image)


def test_cmyk_jpeg_and_transparent_palette(tmp_path):
    halves("CMYK", (0, 255, 255, 0), (255, 255, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    image = taichi2dgs.read_image(tmp_path / "a.jpg")
    # JPEG is lossy and subsamples colour: near the step in the middle of a block it is off by this.
    assert (image[1, 0] - torch.tensor([1.0, 0, 0])).abs().max() < 0.1
    palette = halves("P", 0, 1)
    palette.putpalette([*RED, *BLUE])
    palette.save(tmp_path / "p.png", transparency=1)
    image = taichi2dgs.read_image(tmp_path / "p.png")
    assert image[1, 1].tolist() == [1, 0, 0, 1] and image[1, 4].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_by_exif(tmp_path, orientation):
    upright = halves("L", 0, 200).rotate(90, expand=True)  # dark below
    undo = [
        None,
        None,
        Image.Transpose.FLIP_LEFT_RIGHT,
        Image.Transpose.ROTATE_180,
        Image.Transpose.FLIP_TOP_BOTTOM,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_90,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_270,
    ][orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    stored.save(tmp_path / "a.png", exif=exif)
    image = taichi2dgs.read_image(tmp_path / "a.png")
    assert image.shape == (6, 4, 1) and image[5, 1, 0] == 0 and image[0, 1, 0] > 0.7


def test_sixteen_bits_keep_their_depth_if_grey(tmp_path):
    values = np.array([[0, 65535], [32768, 1]], dtype=np.uint16)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        image = taichi2dgs.read_image(tmp_path / f"a.{suffix}")
        np.testing.assert_array_equal((image[..., 0].numpy() * 65535).round(), values)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(100_000, 100_000, 8, 2, b""), "exceeds limit"),
        (png(8193, 8193, 8, 2, b""), "8193x8193 pixels; expected 67108864 at most"),
        (png(64, 64, 8, 2, bytes(64)), "truncated"),
        (b"", "not a readable picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a readable picture"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "hostile.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        taichi2dgs.read_image(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_giants_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="image has pixels of mode F, 32 bits; expected 8 or 16"):
        pictures.as_image(Image.fromarray(np.zeros((3, 3), np.float32)))
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match=r"a\.png: \d+ bytes; expected 10 at most"):
        taichi2dgs.read_image(tmp_path / "a.png")


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    """The bytes of one small picture in each format."""
    folder = tmp_path_factory.mktemp("whole")
    picture = Image.effect_noise((24, 18), 60).convert("RGB")
    for suffix in ("png", "jpg", "webp", "tif", "gif", "bmp"):
        picture.save(folder / f"a.{suffix}")
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused_by_name(whole_files, tmp_path_factory, data):
    content = bytearray(data.draw(st.sampled_from(whole_files)))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        image = taichi2dgs.read_image(path)
    except ValueError as error:
        assert str(error).startswith(str(path))
    else:
        assert float(image.min()) >= 0 and float(image.max()) <= 1


@pytest.mark.parametrize(
    ("suffix", "channels", "back"),
    [
        ("png", 1, 1), ("png", 2, 2), ("png", 3, 3), ("png", 4, 4),
        ("tif", 1, 1), ("tif", 2, 2), ("tif", 3, 3), ("tif", 4, 4),
        ("webp", 1, 3), ("webp", 2, 4), ("webp", 3, 3), ("webp", 4, 4),
        ("jpg", 1, 1), ("jpeg", 2, 1), ("JPG", 3, 3), ("jpg", 4, 3),
        ("bmp", 1, 1), ("bmp", 2, 1), ("bmp", 3, 3), ("bmp", 4, 3),
    ],
)  # fmt: skip
def test_what_each_format_keeps(tmp_path, suffix, channels, back):
    ramp = torch.linspace(0, 1, 32)[None, :, None].expand(32, 32, channels).clone()
    if channels in (2, 4):
        ramp[..., -1] = 0.6
        ramp[..., :-1] *= 0.6
    files.write_image(tmp_path / f"a.{suffix}", ramp)
    image = taichi2dgs.read_image(tmp_path / f"a.{suffix}")
    assert image.shape == (32, 32, back)
    expected = ramp if back == channels else ramp[..., : min(channels, back)]
    if channels in (2, 4) and back in (1, 3):
        expected = ramp[..., :-1] + 0.4  # on white
    elif channels == 2 and back == 4:
        expected = torch.cat([ramp[..., :1].expand(-1, -1, 3), ramp[..., 1:]], 2)
    # A ramp survives JPEG and WebP of quality 95 within 2 of 255 levels (40 dB is 2.55).
    assert metrics.psnr(image, expected.expand_as(image)) > 40


def test_an_excess_of_colour_over_opacity_is_clamped(tmp_path):
    image = torch.tensor([[[0.5, 0.2], [0.9, 0.001], [-1.0, 2.0]]])
    files.write_image(tmp_path / "a.png", image)
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[255, 51], [0, 0], [0, 255]]]


def test_bad_arrays_and_endings(tmp_path):
    with pytest.raises(ValueError, match=r"image has shape \[3, 8, 20\]; expected"):
        pictures.as_image(np.zeros((3, 8, 20), np.float32))
    with pytest.raises(ValueError, match="image: pixels of type int64"):
        pictures.as_image(np.zeros((8, 8), np.int64))
    for name in ("a.gif", "a"):
        with pytest.raises(ValueError, match=r"pictures cannot be written as .*expected \.png"):
            files.write_image(tmp_path / name, torch.zeros(2, 2, 3))


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 200)])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_aspect_is_encoded(size, channels):
    image = torch.full((*size, channels), 0.5)
    g = taichi2dgs.encode(image, k=20, steps=5)
    assert g.render().shape == image.shape
    assert metrics.psnr(g.render(), image) > 30  # only borders of supports are off


def test_transparent_pictures_fit_premultiplied(tmp_path, photograph):
    """Noise where the opacity is 0 cannot be seen and is not fitted."""
    part = (photograph[:48, :48] * 255).byte().numpy()
    noise = np.random.default_rng(0).integers(0, 256, part.shape, dtype=np.uint8)
    y, x = np.mgrid[:48, :48]
    inside = np.hypot(x - 24, y - 24) < 16
    pixels = np.concatenate([np.where(inside[..., None], part, noise), inside[..., None] * 255], 2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    image = taichi2dgs.read_image(tmp_path / "a.png")
    g = taichi2dgs.encode(image, k=400, steps=60)
    assert metrics.psnr(g.render(), image) > 26  # 30.6 was seen, and 17 with the noise
    files.write_image(tmp_path / "b.png", g.render())
    back = np.asarray(Image.open(tmp_path / "b.png")).astype(float)
    assert back.shape == (48, 48, 4)
    assert np.abs(back - pixels)[inside].mean() < 10


def nearly(value: float) -> torch.Tensor:
    return torch.full((2, 2, 3), value)


@pytest.mark.parametrize(
    "image",
    [
        torch.full((8, 8, 3), 128, dtype=torch.uint8),
        np.full((8, 8, 3), 128, np.uint8),
        np.full((8, 8, 3), 128 * 257, np.uint16),
        np.full((8, 8, 3), 128 / 255),
        np.full((8, 8), 128 / 255, np.float32),
        np.full((8, 8, 3), 128 / 255, ">f4"),
        nearly(128 / 255).half(),
        nearly(128 / 255).bfloat16(),
        nearly(128 / 255).requires_grad_(),
        Image.new("RGB", (8, 8), (128, 128, 128)),
        Image.new("L", (8, 8), 128),
    ],
)
def test_what_is_taken_as_an_image_can_be_written(tmp_path, image):
    files.write_image(tmp_path / "a.png", image)
    seen = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert (seen == 128).all() and seen.shape[2] == 3
    assert abs(pictures.as_image(image) * 255 - 128).max() < 0.5


STRANGE = {
    "nan": nearly(float("nan")),
    "infinity": nearly(float("inf")),
    "0 to 255": nearly(128.0),
    "list": [[1.0]],
    "text": "picture",
    "none": None,
    "integers": np.zeros((2, 2), np.int64),
    "complex": torch.zeros(2, 2, dtype=torch.complex64).conj(),
    "empty": torch.zeros(0, 2, 3),
    "sparse": torch.zeros(2, 2).to_sparse(),
    "meta": torch.zeros(2, 2, device="meta"),
    "strings": np.array([["a"]]),
    "objects": np.array([[None]]),
    "scalar": np.array(0.5),
    "four axes": torch.zeros(1, 3, 4, 4),
    "channels": torch.zeros(2, 2, 17),
    "dates": np.zeros((2, 2), "M8[s]"),
    "records": np.zeros((2, 2), [("a", "u1")]),
    "huge": np.full((2, 2), 1e300),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_no_image_is_a_valueerror_of_one_line(tmp_path, name):
    for call in (pictures.as_image, lambda image: files.write_image(tmp_path / "a.png", image)):
        with pytest.raises(ValueError, match=r"image|picture: no such file") as raised:
            call(STRANGE[name])
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "a.png").exists()


def test_floats_that_rounding_takes_over_one_are_taken_and_others_are_shown():
    over = float(np.nextafter(np.float32(1), np.float32(2)))
    for value in (over, 1.0005, -1e-7):
        image = pictures.as_image(nearly(value))
        assert 0 <= image.min() <= image.max() <= 1
    whole = nearly(0.5)
    assert pictures.as_image(whole).data_ptr() == whole.data_ptr()  # nothing is copied
    with pytest.raises(ValueError, match=r"image has floats from 1\.00199997 to 1\.001"):
        pictures.as_image(nearly(1.002))


def test_renders_that_overshoot_are_clamped_when_written(tmp_path):
    image = torch.full((10, 10, 1), 0.5)
    image[0, :9], image[1, 0] = 300.0, -7.0
    files.write_image(tmp_path / "a.png", image)
    assert np.asarray(Image.open(tmp_path / "a.png"))[:2, 0].tolist() == [255, 0]
