"""Pictures of more than 8 bits: read and written in full, in their range, by file and by format."""

import io
import logging
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from conftest import scatter
from PIL import Image
from test_color import ADOBE_PROFILE, CASES, cmyk_profile, expected
from test_decoding import TURN, chunk, exif, png

import taichi2dgs
from taichi2dgs.storage import curves, exr, files, pictures, t2d, tiff
from taichi2dgs.storage import png as png_files
from taichi2dgs.storage.maps import Map

DEEP = np.random.default_rng(0).integers(0, 65536, (37, 53, 4)).astype(np.uint16)
DEEP[0, :4, 3] = 0, 1, 65534, 65535


def needs(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package, reason=f"needs {package}, of an extra")


def rows_of(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)


@pytest.mark.parametrize("channels, colour", [(3, 2), (4, 6), (2, 4), (1, 0)])
def test_pngs_of_16_bits_are_read_in_full(tmp_path, channels, colour):
    pixels = DEEP[..., -channels:] if channels in (2, 4) else DEEP[..., :channels]
    (tmp_path / "a.png").write_bytes(png(53, 37, 16, colour, rows_of(pixels)))
    shares = pixels.astype(np.float64) / 65535
    if channels in (2, 4):
        shares[..., :-1] *= shares[..., -1:]
    image = taichi2dgs.read_image(tmp_path / "a.png")
    np.testing.assert_allclose(image, shares, atol=1e-7)
    assert pictures.read_picture(tmp_path / "a.png").maps[0].bits == 16


def test_the_transparent_colour_of_16_bits_is_seen_in_all_of_them(tmp_path):
    pixels = np.array([[[513, 2, 3], [512, 2, 3]]], np.uint16)
    key = chunk(b"tRNS", struct.pack(">3H", 513, 2, 3))
    (tmp_path / "a.png").write_bytes(png(2, 1, 16, 2, rows_of(pixels), [key]))
    image = taichi2dgs.read_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [0] * 4
    assert (image[0, 1] * 65535).round().tolist() == [512, 2, 3, 65535]


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_are_written_with_16_bits_and_read_back(tmp_path, suffix, channels):
    if suffix == "tif":
        needs("tifffile")
    image = torch.rand(37, 53, channels, generator=torch.Generator().manual_seed(0))
    if channels in (2, 4):
        image[..., -1].clamp_(min=0.01)
        image[..., :-1] *= image[..., -1:]
    path = tmp_path / f"a.{suffix}"
    taichi2dgs.write_image(path, image, bits=16)
    back = taichi2dgs.read_image(path)
    # Colours are divided by opacity and multiplied again: two roundings of half a level.
    most = 1.01 if channels in (2, 4) else 0.51
    assert back.shape == image.shape and (back - image).abs().max() * 65535 < most
    if (suffix, channels) != ("tif", 2):  # other readers read it, but Pillow has no such mode
        with Image.open(path) as seen:
            assert seen.size == (53, 37)


def test_a_gradient_of_16_bits_comes_back_from_the_fit_without_bands(tmp_path):
    ramp = np.linspace(9000, 12000, 64 * 96).reshape(96, 64).T.astype(np.uint16)
    pixels = np.stack([ramp, ramp[::-1], ramp[:, ::-1]], axis=2)
    png_files.write(str(tmp_path / "a.png"), pixels)
    g = taichi2dgs.encode(tmp_path / "a.png", k=60, steps=30, start="gradient")
    g.save(tmp_path / "a.t2d", "lossless")
    loaded = taichi2dgs.load(tmp_path / "a.t2d")
    assert loaded.maps == (Map("", 3, "srgb", 16),)
    fitted = g.render()
    files.write_map(tmp_path / "b.png", loaded.render(), *loaded.maps)
    back = taichi2dgs.read_image(tmp_path / "b.png")
    assert (back - fitted.clamp(0, 1)).abs().max() * 65535 <= 0.51
    assert len(back.unique()) > 1000  # levels of 8 bits there: 12


def test_colours_of_16_bits_are_rounded_more_finely_than_those_of_8():
    g = scatter(400, (40, 50))
    deep = g.replace(maps=(Map("", 3, "srgb", 16),))
    for quality in ("high", "small"):
        coarse, fine = (t2d.decode(t2d.encode(one, quality)) for one in (g, deep))
        assert fine.steps[:3] == coarse.steps[:3]
        assert fine.steps[3] == pytest.approx(coarse.steps[3] / 4)
        assert coarse.bytes < fine.bytes < 1.25 * coarse.bytes


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_tiffs_of_16_bits_are_read_in_full(tmp_path, compression, planes):
    needs("tifffile", *(["imagecodecs"] if compression == "lzw" else []))
    import tifffile

    pixels = DEEP[..., :3]
    stored = np.moveaxis(pixels, 2, 0) if planes == "separate" else pixels
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planes, compression=compression
    )
    image = taichi2dgs.read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal((image * 65535).round(), pixels)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_extra_channels_of_tiffs_are_opacity_where_they_say_so(tmp_path, kind):
    needs("tifffile")
    import tifffile

    pixels = np.sort(DEEP, axis=2)  # no colour is above the opacity
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind])
    image, shares = taichi2dgs.read_image(tmp_path / "a.tif"), pixels / 65535
    if kind == "unspecified":
        shares = shares[..., :3]
    elif kind == "unassalpha":
        shares[..., :3] *= shares[..., 3:]
    np.testing.assert_allclose(image, shares, atol=1e-6)


def test_tiffs_are_turned_and_their_profile_is_applied(tmp_path):
    needs("tifffile")
    import tifffile

    pixels = np.full((2, 3, 3), (200 * 257, 80 * 257, 60 * 257), np.uint16)
    tags = [(274, "H", 1, 6, True), (34675, "B", len(ADOBE_PROFILE), ADOBE_PROFILE, True)]
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extratags=tags)
    image = taichi2dgs.read_image(tmp_path / "a.tif")
    wanted = expected(CASES[1][2], (np.array([200, 80, 60]) / 255) ** 2.2)
    assert image.shape == (3, 2, 3) and (image[0, 0].double() - wanted).abs().max() * 255 < 0.3


@pytest.mark.parametrize("name, icc, matrix", CASES)
def test_profiles_are_applied_at_16_bits(tmp_path, name, icc, matrix):
    """Published matrices have 4 digits, and dark light a steep curve; a level of 8 bits is 257."""
    levels = np.linspace(8000, 60000, 50).astype(np.uint16)
    pixels = np.stack([levels, levels[::-1], np.full_like(levels, 30001)], axis=1)[None]
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
    (tmp_path / "a.png").write_bytes(png(50, 1, 16, 2, rows_of(pixels), [packed]))
    image = taichi2dgs.read_image(tmp_path / "a.png")
    for at in range(50):
        wanted = expected(matrix, (pixels[0, at] / 65535) ** 2.2)
        assert (image[0, at].double() - wanted).abs().max() * 65535 < 128
    coarse = Image.fromarray((pixels >> 8).astype(np.uint8))
    coarse.save(tmp_path / "b.png", icc_profile=icc)
    # What is cut off here is up to a level, and the curve is steep where it is dark.
    gap = (taichi2dgs.read_image(tmp_path / "b.png") - image)[image > 0.2].abs().max() * 255
    assert gap < 3


def test_a_profile_that_is_no_colours_is_ignored_at_16_bits_too(tmp_path, caplog):
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(cmyk_profile()))
    (tmp_path / "a.png").write_bytes(png(53, 37, 16, 2, rows_of(DEEP[..., :3]), [packed]))
    with caplog.at_level(logging.WARNING, "taichi2dgs"):
        image = taichi2dgs.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal((image * 65535).round(), DEEP[..., :3])
    assert "its colour profile is ignored" in caplog.text


@pytest.mark.parametrize("transfer, peak", [(16, 10_000 / 203), (18, 1000 / 203)])
def test_hdr_pngs_of_16_bits_keep_what_is_beyond_white(tmp_path, transfer, peak):
    pixels = np.array([[[65535] * 3, [30000] * 3, [0] * 3]], np.uint16)
    codes = chunk(b"cICP", bytes([1, transfer, 0, 1]))
    (tmp_path / "a.png").write_bytes(png(3, 1, 16, 2, rows_of(pixels), [codes]))
    stack = pictures.read_picture(tmp_path / "a.png")
    light = stack.maps[0].values(stack.image)
    tone = {16: lambda v: curves.PQ_PEAK * curves.from_pq(v), 18: curves.from_hlg}[transfer]
    assert stack.maps[0].kind == "pq" and stack.maps[0].high == pytest.approx(peak, rel=1e-4)
    np.testing.assert_allclose(light[0, :, 1], tone(pixels[0, :, 1] / 65535), rtol=1e-4, atol=1e-6)
    shown = taichi2dgs.read_image(tmp_path / "a.png")
    assert shown[0, 0].tolist() == [1, 1, 1] and 0.2 < shown[0, 1, 0] < 0.9


def light(channels: int = 3) -> np.ndarray:
    """Light from a thousandth of white to a hundred times as bright."""
    rng = np.random.default_rng(1)
    found = (10 ** rng.uniform(-3, 2, (20, 31, channels))).astype(np.float32)
    if channels in (2, 4):
        found[..., -1] = rng.uniform(0.2, 1, (20, 31))
        found[..., :-1] *= found[..., -1:]
    return found


def write_light(path, pixels: np.ndarray) -> None:
    if path.suffix == ".exr":
        exr.write(str(path), pixels)
    else:
        tiff.write(str(path), pixels, True)


@pytest.mark.parametrize("suffix, package", [(".exr", "OpenEXR"), (".tif", "tifffile")])
@pytest.mark.parametrize("channels", [3, 4])
def test_floats_of_light_keep_their_range(tmp_path, suffix, package, channels):
    needs(package)
    pixels, path = light(channels), tmp_path / f"a{suffix}"
    write_light(path, pixels)
    stack = pictures.read_picture(path)
    (one,) = stack.maps
    assert (one.kind, one.bits) == ("pq", 32) and 0 <= stack.image.min() <= stack.image.max() <= 1
    np.testing.assert_allclose(one.values(stack.image), pixels, rtol=2e-5, atol=1e-5)
    linear = stack.linear()
    np.testing.assert_allclose(linear.maps[0].values(linear.image), pixels, rtol=1e-4, atol=1e-4)
    files.write_map(tmp_path / f"b{suffix}", stack.image, one)
    again = pictures.read_picture(tmp_path / f"b{suffix}")
    np.testing.assert_allclose(again.image, stack.image, atol=1e-5)
    shown = taichi2dgs.read_image(path)
    assert shown.shape == pixels.shape and shown.max() <= 1
    if channels == 3:
        wanted = curves.to_srgb(pixels.astype(np.float64).clip(0, 1))
        np.testing.assert_allclose(shown, wanted, atol=1e-4)


@pytest.mark.parametrize("suffix, package", [(".exr", "OpenEXR"), (".tif", "tifffile")])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_are_written_as_floats_and_read_back(tmp_path, suffix, package, channels):
    needs(package)
    image = torch.rand(9, 11, channels, generator=torch.Generator().manual_seed(0))
    if channels in (2, 4):
        image[..., -1].clamp_(min=0.01)
        image[..., :-1] *= image[..., -1:]
    taichi2dgs.write_image(tmp_path / f"a{suffix}", image, bits=32)
    back = taichi2dgs.read_image(tmp_path / f"a{suffix}")
    assert back.shape == image.shape and (back - image).abs().max() < 1e-6
    if suffix == ".exr":
        taichi2dgs.write_image(tmp_path / "b.exr", image, bits=16)
        half = taichi2dgs.read_image(tmp_path / "b.exr")
        assert 1e-6 < (half - image).abs().max() < 1 / 1024


def test_grey_floats_of_tiffs_are_numbers_with_their_range(tmp_path):
    needs("tifffile")
    heights = np.linspace(-12.5, 30, 60, dtype=np.float32).reshape(6, 10)
    tiff.write(str(tmp_path / "a.tif"), heights[..., None], False)
    stack = pictures.read_picture(tmp_path / "a.tif")
    assert stack.maps == (Map("", 1, "data", 32, -12.5, 30.0),)
    np.testing.assert_allclose(stack.maps[0].values(stack.image)[..., 0], heights, atol=1e-5)
    files.write_map(tmp_path / "b.tif", stack.image, *stack.maps)
    assert pictures.read_picture(tmp_path / "b.tif").maps == stack.maps


@pytest.mark.parametrize(
    "names, kind", [("Y", "srgb"), ("Z", "data"), ("RGB", "srgb"), ("BGRAZ", "srgb")]
)
def test_channels_of_exr_files_are_found_by_name(tmp_path, names, kind):
    needs("OpenEXR")
    import OpenEXR

    planes = {name: np.full((3, 4), 0.1 * (at + 1), np.float32) for at, name in enumerate(names)}
    OpenEXR.File({}, planes).write(str(tmp_path / "a.exr"))
    stack = pictures.read_picture(tmp_path / "a.exr")
    assert stack.maps[0].kind == kind and stack.image.shape[2] == min(len(names), 4)


def test_exr_files_that_are_no_picture_are_refused_by_name(tmp_path, capfd):
    needs("OpenEXR")
    import OpenEXR

    path = tmp_path / "a.exr"

    def refused() -> str:
        with pytest.raises(ValueError, match=r"a\.exr: ") as caught:
            taichi2dgs.read_image(path)
        return str(caught.value)

    OpenEXR.File({}, {name: np.zeros((3, 4), np.float32) for name in "RG"}).write(str(path))
    assert "channels G, R; expected R, G and B, or Y, or one" in refused()
    OpenEXR.File({}, {"Y": np.zeros((3, 4), np.uint32)}).write(str(path))
    assert "pixels of type uint32; expected floats" in refused()
    write_light(path, np.full((3, 4, 3), np.nan, np.float32))
    assert "pixels that are not finite" in refused()
    write_light(path, light())
    path.write_bytes(path.read_bytes()[:-900])
    assert "not a readable picture" in refused()
    path.write_bytes(exr.MARK + bytes(40))
    assert "not a readable picture" in refused()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_heic_pictures_are_read(tmp_path, photograph, mode):
    needs("pillow_heif")
    import pillow_heif

    picture = Image.fromarray((photograph * 255).byte().numpy()).convert(mode)
    pillow_heif.from_pillow(picture).save(tmp_path / "a.heic", quality=95)
    image = taichi2dgs.read_image(tmp_path / "a.heic")
    assert image.shape == (96, 128, {"RGB": 3, "RGBA": 4, "L": 1}[mode])
    assert taichi2dgs.psnr(image, pictures.as_image(picture)) > 35  # 40 was seen


def test_heic_pictures_of_10_bits_keep_them_and_profiles_are_applied(tmp_path):
    needs("pillow_heif")
    import pillow_heif

    ramp = np.linspace(20_000, 30_000, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = np.stack([ramp] * 3, axis=2)
    made = pillow_heif.from_bytes("RGB;16", (64, 64), pixels.tobytes())
    made.save(tmp_path / "a.heic", quality=-1, chroma=444)
    stack = pictures.read_picture(tmp_path / "a.heic")
    assert stack.maps[0].bits == 16 and len(stack.image.unique()) > 100  # of 8 bits: 40
    flat = pillow_heif.from_pillow(Image.new("RGB", (16, 16), (200, 80, 60)))
    flat.info["icc_profile"] = ADOBE_PROFILE
    flat.save(tmp_path / "b.heic", quality=-1, chroma=444)
    found = taichi2dgs.read_image(tmp_path / "b.heic")[0, 0].double()
    wanted = expected(CASES[1][2], (np.array([200, 80, 60]) / 255) ** 2.2)
    assert (found - wanted).abs().max() * 255 < 4


@pytest.mark.parametrize(
    "name, package, extra",
    [("a.exr", "OpenEXR", "exr"), ("a.heic", "pillow_heif", "heic"), ("a.tif", "tifffile", "tiff")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    tmp_path, monkeypatch, caplog, name, package, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    heads = {"exr": exr.MARK + bytes(40), "heic": b"\0\0\0\x18ftypheic" + bytes(40)}
    if extra == "tiff":
        out = io.BytesIO()
        Image.fromarray(np.zeros((3, 4), np.float32)).save(out, "TIFF")
        heads["tiff"] = out.getvalue()
    (tmp_path / name).write_bytes(heads[extra])
    with pytest.raises(ValueError, match=rf"{name}: .*taichi2dgs\[{extra}\]") as caught:
        taichi2dgs.read_image(tmp_path / name)
    assert "\n" not in str(caught.value)
    if extra != "heic":
        with pytest.raises(ValueError, match=rf"b\..*taichi2dgs\[{extra}\]"):
            taichi2dgs.write_image(tmp_path / name.replace("a", "b"), torch.rand(3, 4, 3), bits=32)
        assert not list(tmp_path.glob("b*"))


@pytest.mark.parametrize("missing", ["tifffile", "imagecodecs"])
def test_colour_of_16_bits_in_tiff_is_read_at_8_with_a_warning_where_no_package_can(
    tmp_path, monkeypatch, caplog, missing
):
    needs("tifffile", "imagecodecs")
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., :3], photometric="rgb", compression="lzw")
    for name in [name for name in sys.modules if name.partition(".")[0] in (missing, "tifffile")]:
        monkeypatch.delitem(sys.modules, name)  # with what it has imported
    monkeypatch.setitem(sys.modules, missing, None)
    with caplog.at_level(logging.WARNING, "taichi2dgs"):
        image = taichi2dgs.read_image(tmp_path / "a.tif")
    assert (image - torch.from_numpy(DEEP[..., :3] / 65535)).abs().max() < 1 / 255
    assert "a.tif: read at 8 bits a channel (" in caplog.text and "[tiff]" in caplog.text


@pytest.mark.parametrize(
    "name, bits, wanted",
    [("a.png", 32, "8 or 16"), ("a.jpg", 16, "8"), ("a.exr", 8, "16 or 32"), ("a.png", "8", "")],
)
def test_depths_that_a_format_has_not_are_named(tmp_path, name, bits, wanted):
    with pytest.raises(ValueError, match=rf"bits={bits!r}; expected .*{wanted}"):
        taichi2dgs.write_image(tmp_path / name, torch.rand(3, 4, 3), bits=bits)


def test_arrays_and_pil_images_of_16_bits_carry_their_depth():
    g = taichi2dgs.encode(DEEP[..., :3], k=5, steps=0, start="random")
    assert g.maps == (Map("", 3, "srgb", 16),)
    grey = taichi2dgs.encode(Image.fromarray(DEEP[..., 0]), k=5, steps=0, start="random")
    assert grey.maps == (Map("", 1, "srgb", 16),)
    assert taichi2dgs.encode(DEEP[..., :3] / 65535, k=5, steps=0, start="random").maps == ()


def test_orientation_of_colour_of_16_bits_is_applied(tmp_path):
    extra = [chunk(b"eXIf", exif(TURN)[6:])]
    (tmp_path / "a.png").write_bytes(png(53, 37, 16, 2, rows_of(DEEP[..., :3]), extra))
    assert taichi2dgs.read_image(tmp_path / "a.png").shape == (53, 37, 3)
