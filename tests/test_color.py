"""Pictures of other colour spaces become sRGB, from files and from PIL images."""

import io
import logging
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from test_decoding import chunk, png

import taichi2dgs
from taichi2dgs.storage import color, curves, pictures

# Matrices from linear values of a space to linear sRGB, as published (Lindbloom; CSS Color 4).
P3 = [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]]
ADOBE = [[1.3984, -0.3984, 0], [0, 1, 0], [0, -0.0429, 1.0429]]
REC2020 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
ADOBE_XY = (0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PIXEL = (200, 80, 60)


def gamma(exponent):
    return lambda v: v**exponent


P3_PROFILE = color.profile(np.array(color.PRIMARIES[12]), gamma(2.2))
ADOBE_PROFILE = color.profile(np.array(ADOBE_XY), gamma(2.2))


def expected(matrix, light) -> torch.Tensor:
    """What light of another space is in sRGB. [3]"""
    seen = np.clip(np.array(matrix) @ np.array(light), 0, 1)
    return torch.tensor(np.where(seen > 0.0031308, 1.055 * seen ** (1 / 2.4) - 0.055, 12.92 * seen))


def check(image: torch.Tensor, wanted: torch.Tensor, levels: float = 2) -> None:
    gap = (image[0, 0, :3].double() - wanted).abs().max() * 255
    assert gap < levels, (image[0, 0] * 255, wanted * 255)


LIGHT = (np.array(PIXEL) / 255) ** 2.2
CASES = [("p3", P3_PROFILE, P3), ("adobe", ADOBE_PROFILE, ADOBE)]


@pytest.mark.parametrize("name, icc, matrix", CASES)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_a_profile_in_a_file_of_any_format_is_applied(tmp_path, suffix, name, icc, matrix):
    path = tmp_path / f"{name}.{suffix}"
    lossless = {"webp": {"lossless": True}, "avif": {"quality": 100, "subsampling": "4:4:4"}}
    options = lossless.get(suffix, {"quality": 100} if suffix == "jpg" else {})
    Image.new("RGB", (16, 16), PIXEL).save(path, icc_profile=icc, **options)
    check(taichi2dgs.read_image(path), expected(matrix, LIGHT))
    check(pictures.as_image(Image.open(path)), expected(matrix, LIGHT))


def test_opacity_and_palettes_are_kept_while_colours_change(tmp_path):
    Image.new("RGBA", (4, 4), (*PIXEL, 102)).save(tmp_path / "a.png", icc_profile=P3_PROFILE)
    image = taichi2dgs.read_image(tmp_path / "a.png")
    assert image[0, 0, 3] == 102 / 255
    check(image, expected(P3, LIGHT) * 102 / 255)
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette(PIXEL)
    palette.save(tmp_path / "p.png", icc_profile=P3_PROFILE)
    check(taichi2dgs.read_image(tmp_path / "p.png"), expected(P3, LIGHT))


def of_srgb() -> list[bytes]:
    tone = np.array([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])
    para = struct.pack(">4sxxxxHxx", b"para", 3) + np.rint(tone * 65536).astype(">i4").tobytes()
    table = color.profile(np.array(color.PRIMARIES[1]), curves.from_srgb)
    start, length = struct.unpack_from(">II", table, table.index(b"gTRC", 132) + 4)
    parametric = table[:start] + para.ljust(length, b"\0") + table[start + length :]
    rounded = color.profile(np.array(color.PRIMARIES[1]), lambda v: nearly(curves.from_srgb(v)))
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return [table, parametric, rounded, made]


def nearly(light: np.ndarray, off: float = 0.015) -> np.ndarray:
    """Light that is off by less than a level of 8 bits, and by enough for some to round to another.

    Such tables are in many profiles that are meant to be sRGB's.
    """
    return light + off * light * (1 - light)


@pytest.mark.parametrize("icc", of_srgb())
def test_profiles_of_srgb_change_no_bit(tmp_path, icc):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for pixels in (noise, noise[..., 0]):
        Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=icc)
        Image.fromarray(pixels).save(tmp_path / "b.png")
        mine, plain = (taichi2dgs.read_image(tmp_path / f"{name}.png") for name in "ab")
        assert torch.equal(mine, plain)
    assert color.of_codes(1, 13) is None and color.of_codes(12, 13) is not None


def test_a_profile_more_than_a_level_from_srgb_is_applied(tmp_path):
    def tone(stored: np.ndarray) -> np.ndarray:
        return nearly(curves.from_srgb(stored), 0.032)  # 1.5 levels at most

    icc = color.profile(np.array(color.PRIMARIES[1]), tone)
    wanted = 255 * curves.to_srgb(tone(np.array(160 / 255)))
    for mode, filling in (("RGB", (160, 160, 160)), ("L", 160)):
        Image.new(mode, (4, 4), filling).save(tmp_path / "a.png", icc_profile=icc)
        found = 255 * float(taichi2dgs.read_image(tmp_path / "a.png")[0, 0, 0])
        assert found > 160.9 and found == pytest.approx(wanted, abs=0.6)


def grey_profile(tone: bytes) -> bytes:
    """A profile of grey with this tone curve."""
    tags = {b"wtpt": color._xyz(color.D50), b"kTRC": tone.ljust(-(-len(tone) // 4) * 4, b"\0")}
    whole = color._assembled(list(tags.items()))
    return whole[:16] + b"GRAY" + whole[20:]


TONES = {
    "linear": struct.pack(">4sxxxxI", b"curv", 0),
    "gamma 1.8": struct.pack(">4sxxxxIH", b"curv", 1, round(1.8 * 256)),
    "table": struct.pack(">4sxxxxI5H", b"curv", 5, 0, 2000, 12000, 34000, 65535),
    "para 0": struct.pack(">4sxxxxHxxi", b"para", 0, round(2.2 * 65536)),
    "para 4": struct.pack(">4sxxxxHxx7i", b"para", 4, *(
        round(65536 * v) for v in (2.4, 0.94, 0.05, 0.08, 0.05, 0.005, 0.0))),
}  # fmt: skip


@pytest.mark.parametrize("name", TONES)
def test_grey_profiles_are_applied_and_sixteen_bits_keep_their_depth(tmp_path, name):
    icc = grey_profile(TONES[name])
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png", icc_profile=icc)
    image = taichi2dgs.read_image(tmp_path / "a.png")
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    by_lcms = ImageCms.profileToProfile(
        Image.fromarray(ramp),
        source,
        ImageCms.createProfile("sRGB"),
        outputMode="RGB",
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    assert image.shape == (16, 16, 1)
    gap = np.abs(image[..., 0].numpy() * 255 - np.asarray(by_lcms)[..., 1])
    assert gap.max() <= 1  # both round; 0.9 was seen
    fine = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(fine).save(tmp_path / "b.png", icc_profile=icc)
    found = taichi2dgs.read_image(tmp_path / "b.png").flatten()
    assert (found.diff() >= 0).all() and len(found.unique()) > 20_000
    assert (found[::257] - image.flatten()).abs().max() <= 0.51 / 255


def test_a_grey_picture_with_a_profile_of_colours_takes_their_tone(tmp_path):
    Image.new("L", (4, 4), 100).save(tmp_path / "a.png", icc_profile=P3_PROFILE)
    image = taichi2dgs.read_image(tmp_path / "a.png")
    check(image, expected(np.eye(3), [(100 / 255) ** 2.2] * 3)[:1])


def cmyk_profile() -> bytes:
    """A profile of printing where each ink takes a quarter of the lightness, and no hue."""
    ramp = bytes(range(256))
    corners = bytes(
        value for inks in np.ndindex(2, 2, 2, 2) for value in (255 - 60 * sum(inks), 128, 128)
    )
    matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut = struct.pack(">4sxxxx4B", b"mft1", 4, 3, 2, 0) + matrix + ramp * 4 + corners + ramp * 3
    lut = lut.ljust(-(-len(lut) // 4) * 4, b"\0")
    whole = color._assembled([(b"wtpt", color._xyz(color.D50)), (b"A2B0", lut)])
    return whole[:12] + b"prtrCMYKLab " + whole[24:]


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_profiles_are_applied(tmp_path, suffix):
    path, icc = tmp_path / f"a.{suffix}", cmyk_profile()
    picture = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    picture.save(path, icc_profile=icc, **({"quality": 100} if suffix == "jpg" else {}))
    level = 195 / 255 * 100  # L*
    light = ((level + 16) / 116) ** 3
    # Without its profile, the picture would be cyan.
    check(taichi2dgs.read_image(path), expected(np.eye(3), [light] * 3), 4)


@pytest.mark.parametrize("icc", [b"no profile", P3_PROFILE[:300], cmyk_profile(), bytes(200)])
def test_a_profile_that_cannot_be_used_is_ignored_with_a_warning(tmp_path, caplog, icc):
    for mode, filling in (("RGB", PIXEL), ("L", 77)):
        picture = Image.new(mode, (4, 4), filling)
        picture.save(tmp_path / "a.png", icc_profile=icc)
        with caplog.at_level(logging.WARNING, "taichi2dgs"):
            image = taichi2dgs.read_image(tmp_path / "a.png")
        assert (image[0, 0] * 255).round().tolist() == list(np.atleast_1d(filling))
        assert f"{tmp_path / 'a.png'}: its colour profile is ignored (" in caplog.text
        caplog.clear()


def with_chunks(*extra: bytes) -> bytes:
    return png(1, 1, 8, 2, b"\0" + bytes(PIXEL), extra)


def numbers(*values: float) -> bytes:
    return struct.pack(f">{len(values)}I", *(round(value * 100_000) for value in values))


GAMA = chunk(b"gAMA", numbers(1 / 1.8))
SRGB_GAMA, SRGB_CHRM = (
    chunk(b"gAMA", numbers(0.45455)),
    chunk(b"cHRM", numbers(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)),
)
ADOBE_CHRM = chunk(b"cHRM", numbers(*ADOBE_XY))
CICP = chunk(b"cICP", bytes([12, 13, 0, 1]))
SRGB_LIGHT = curves.from_srgb(np.array(PIXEL) / 255)


@pytest.mark.parametrize(
    "extra, matrix, light",
    [
        ([GAMA], np.eye(3), (np.array(PIXEL) / 255) ** 1.8),
        ([SRGB_GAMA], np.eye(3), SRGB_LIGHT),
        ([SRGB_GAMA, SRGB_CHRM], np.eye(3), SRGB_LIGHT),
        ([ADOBE_CHRM, SRGB_GAMA], ADOBE, LIGHT),
        ([ADOBE_CHRM], ADOBE, SRGB_LIGHT),
        ([ADOBE_CHRM, GAMA, chunk(b"sRGB", b"\0")], np.eye(3), SRGB_LIGHT),
        ([chunk(b"iCCP", b"x\0\0" + zlib.compress(ADOBE_PROFILE)), GAMA], ADOBE, LIGHT),
        ([CICP, chunk(b"iCCP", b"x\0\0" + zlib.compress(ADOBE_PROFILE))], P3, SRGB_LIGHT),
        ([chunk(b"cICP", bytes([9, 14, 0, 1]))], REC2020, SRGB_LIGHT),
        ([chunk(b"cICP", bytes([1, 13, 0, 1]))], np.eye(3), SRGB_LIGHT),
        ([chunk(b"cICP", bytes([1, 8, 0, 1]))], np.eye(3), np.array(PIXEL) / 255),
        ([chunk(b"gAMA", numbers(0))], np.eye(3), SRGB_LIGHT),
    ],
)
def test_png_chunks_of_colour_are_applied_in_their_order_of_precedence(
    tmp_path, extra, matrix, light
):
    (tmp_path / "a.png").write_bytes(with_chunks(*extra))
    check(taichi2dgs.read_image(tmp_path / "a.png"), expected(matrix, light))


@pytest.mark.parametrize("transfer, code", [(16, 148), (18, 191)])
def test_hdr_pictures_have_their_reference_white_at_one(tmp_path, transfer, code):
    """203 cd/m^2 is 58 % of PQ and 75 % of HLG, by BT.2408."""
    for grey, low, high in ((code, 0.98, 1), (255, 1, 1), (code - 50, 0.3, 0.85)):
        extra = chunk(b"cICP", bytes([9, transfer, 0, 1]))
        (tmp_path / "a.png").write_bytes(png(1, 1, 8, 2, bytes([0, grey, grey, grey]), [extra]))
        image = taichi2dgs.read_image(tmp_path / "a.png")
        assert low <= image.min() <= image.max() <= high


@pytest.mark.parametrize("transfer, code, light", [(16, 130, 101.8), (18, 128, 51.1)])
def test_hdr_pictures_are_measured_in_candelas(tmp_path, transfer, code, light):
    """PQ has 100 cd/m^2 at 50.8 %; a half of HLG is 1000 (1 / 12) ** 1.2, or 50.7, of them."""
    extra = chunk(b"cICP", bytes([9, transfer, 0, 1]))
    (tmp_path / "a.png").write_bytes(png(1, 1, 8, 2, bytes([0, code, code, code]), [extra]))
    wanted = 1.055 * (light / 203) ** (1 / 2.4) - 0.055
    assert taichi2dgs.read_image(tmp_path / "a.png").sub(wanted).abs().max() < 0.01


def test_avif_files_that_name_their_colours_by_numbers_are_converted(tmp_path):
    path = tmp_path / "a.avif"
    Image.new("RGB", (16, 16), PIXEL).save(path, quality=100, subsampling="4:4:4")
    data = path.read_bytes()
    at = data.index(b"colrnclx") + 8
    path.write_bytes(data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :])
    check(taichi2dgs.read_image(path), expected(P3, SRGB_LIGHT))


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"cICP", bytes([77, 13, 0, 1])),
        chunk(b"cICP", b"\1"),
        chunk(b"cHRM", numbers(*[0] * 8)),
        chunk(b"cHRM", numbers(*[0.3] * 8)),
        chunk(b"iCCP", b"x\0\0no deflate"),
        chunk(b"iCCP", b""),
    ],
)
def test_damaged_chunks_of_colour_are_ignored_with_a_warning(tmp_path, caplog, extra):
    (tmp_path / "a.png").write_bytes(with_chunks(extra))
    with caplog.at_level(logging.WARNING, "taichi2dgs"):
        image = taichi2dgs.read_image(tmp_path / "a.png")
    assert (image[0, 0] * 255).round().tolist() == list(PIXEL) and "is ignored" in caplog.text
