"""Depth, transparency, orientation and damage of picture files, by format."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import taichi2dgs
from taichi2dgs.storage import pictures


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra=()) -> bytes:
    """The bytes of a PNG file, whose header need not tell the truth about the rows."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        *extra,
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def read(tmp_path, data: bytes, name: str = "a.png") -> torch.Tensor:
    (tmp_path / name).write_bytes(data)
    return taichi2dgs.read_image(tmp_path / name)


def tiff(bits, photometric, data, order="<", sample_format=1, compress=False, extra=()) -> bytes:
    """A grey TIFF file of 16x4 pixels."""
    data = zlib.compress(data) if compress else data
    entries = [(256, 4, 16), (257, 4, 4), (258, 3, bits), (259, 3, 8 if compress else 1),
               (262, 3, photometric), (273, 4, 8), (277, 3, 1), (278, 4, 4), (279, 4, len(data)),
               (339, 3, sample_format), *extra]  # fmt: skip
    table = b"".join(
        struct.pack(order + "HHI", tag, kind, 1)
        + struct.pack(order + ("I" if kind == 4 else "Hxx"), value)
        for tag, kind, value in sorted(entries)
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    count = struct.pack(order + "H", len(entries))
    return mark + struct.pack(order + "I", 8 + len(data)) + data + count + table + bytes(4)


RAMP = np.tile(np.linspace(0, 1, 16), (4, 1))


def packed(bits: int) -> bytes:
    whole = np.rint(RAMP * ((1 << bits) - 1)).astype(int).ravel()
    text = "".join(format(value, f"0{bits}b") for value in whole)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_grey_tiffs_are_right_or_refused(tmp_path, bits, photometric, order, compress):
    data = packed(bits)
    if bits == 16:
        data = np.rint(RAMP * 65535).astype(order + "u2").tobytes()
    steps = np.rint(RAMP * ((1 << bits) - 1)) / ((1 << bits) - 1)
    try:
        image = read(tmp_path, tiff(bits, photometric, data, order, compress=compress), "a.tif")
    except ValueError as error:
        assert bits in (12, 16) and "not a readable picture" in str(
            error
        )  # Pillow has no such mode
        assert not (bits == 16 and photometric == 1)
        return
    wanted = steps if photometric else 1 - steps
    assert image.shape == (4, 16, 1)
    np.testing.assert_allclose(image[..., 0], wanted, atol=1e-6)


@pytest.mark.parametrize("bits, kind", [(32, 1), (32, 2), (16, 2)])
def test_tiffs_of_32_bits_or_with_a_sign_are_refused(tmp_path, bits, kind):
    data = np.rint(RAMP * 255).astype("<u4" if bits == 32 else "<u2").tobytes()
    with pytest.raises(ValueError, match=r"a\.tif: pixels of .*expected 8 or 16 bits a channel"):
        read(tmp_path, tiff(bits, 1, data, sample_format=kind), "a.tif")
    with pytest.raises(ValueError, match="image has pixels of 32 bits"):
        pictures.as_image(Image.fromarray(np.full((4, 4), 255, np.int32)))


def test_sixteen_bit_ppm_is_read_at_full_depth(tmp_path):
    data = b"P5 2 1 65535\n" + struct.pack(">2H", 32768, 1)
    image = read(tmp_path, data, "a.pgm")
    assert (image * 65535).round().flatten().tolist() == [32768, 1]


@pytest.mark.parametrize("depth, row, key", [
    (1, b"\x40", 1), (2, b"\x1b", 2), (4, b"\x0a\x50", 10), (8, b"\0\x0a\x0b\xff", 10),
    (16, struct.pack(">4H", 0, 2570, 2571, 65535), 2570)])  # fmt: skip
def test_the_transparent_grey_of_a_png_of_any_depth(tmp_path, depth, row, key):
    transparency = chunk(b"tRNS", struct.pack(">H", key))
    image = read(tmp_path, png(4, 1, depth, 0, b"\0" + row, [transparency]))
    text = "".join(format(byte, "08b") for byte in row)
    levels = [int(text[at * depth : (at + 1) * depth], 2) for at in range(4)]
    opaque = [float(level != key) for level in levels]
    assert 0 in opaque and image.shape == (1, 4, 2) and image[0, :, 1].tolist() == opaque
    peak = (1 << depth) - 1
    wanted = [level / peak * seen for level, seen in zip(levels, opaque, strict=True)]
    assert image[0, :, 0].tolist() == pytest.approx(wanted)


@pytest.mark.parametrize("depth", [8, 16])
def test_the_transparent_colour_of_a_png_is_that_colour_alone(tmp_path, depth):
    kind = {8: "B", 16: "H"}[depth]
    pixels = [(10, 20, 30), (10, 20, 31), (11, 20, 30), (10, 21, 30)]
    if depth == 16:  # whose upper 8 bits are equal
        pixels = [(2560, 5120, 7680), (2560, 5120, 7681), (2561, 5120, 7680), (2560, 5121, 7680)]
    row = b"\0" + b"".join(struct.pack(f">3{kind}", *pixel) for pixel in pixels)
    key = chunk(b"tRNS", struct.pack(">3H", *pixels[0]))
    image = read(tmp_path, png(4, 1, depth, 2, row, [key]))
    assert image.shape == (1, 4, 4) and image[0, :, 3].tolist() == [0, 1, 1, 1]
    assert image[0, 0].tolist() == [0] * 4
    assert (image[0, 1] * 255).round()[:3].tolist() == [10, 20, 30 + (depth == 8)]


@pytest.mark.parametrize("interlaced", [False, True])
def test_grey_of_16_bits_with_opacity_has_two_channels_at_full_depth(tmp_path, interlaced):
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 7, 2)).astype(">u2")
    if interlaced:  # Adam7
        passes = [
            (0, 0, 8, 8),
            (0, 4, 8, 8),
            (4, 0, 8, 4),
            (0, 2, 4, 4),
            (2, 0, 4, 2),
            (0, 1, 2, 2),
            (1, 0, 2, 1),
        ]
        parts = [pixels[y::dy, x::dx] for y, x, dy, dx in passes]
        rows = [row for part in parts if part.size for row in part]
    else:
        rows = list(pixels)
    data = png(7, 9, 16, 4, b"".join(b"\0" + row.tobytes() for row in rows))
    head = bytearray(data[12:29])
    head[-1] = interlaced
    data = data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]
    image = read(tmp_path, data)
    shares = pixels.astype(np.float32) / 65535
    np.testing.assert_array_equal(image[..., 1], shares[..., 1])
    np.testing.assert_allclose(image[..., 0], shares[..., 0] * shares[..., 1], rtol=1e-6)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"tEXt"])
def test_a_png_with_megabytes_of_text_is_read_and_turned(tmp_path, kind):
    text = {
        b"zTXt": b"Comment\0\0" + zlib.compress(bytes(3 << 20)),
        b"iTXt": b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(3 << 20)),
        b"tEXt": b"Comment\0" + b"a" * (70 << 20),
    }
    extra = [chunk(kind, text[kind]), chunk(b"eXIf", exif((0x0112, 3, 1, 6))[6:])]
    image = read(tmp_path, png(2, 1, 8, 0, b"\0\0\xff", extra))
    assert image.flatten().tolist() == [0, 1] and image.shape == (2, 1, 1)


def exif(*entries: tuple[int, int, int, int]) -> bytes:
    """EXIF data with these entries, each a tag, a type, a count, and a value or its place."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)


TURN = (0x0112, 3, 1, 6)
DAMAGED = [(0x011A, 5, 1, 9999), (0x010F, 2, 100, 5000), (0x0100, 2, 3, 0x6261),
           (0x011A, 2, 4, 0x6261), (0x8769, 4, 1, 99999), (0x9999, 99, 1, 0),
           (0x0100, 5, 3, 9999)]  # fmt: skip


@pytest.mark.parametrize("damaged", DAMAGED)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_orientation_is_kept_where_another_tag_is_damaged(tmp_path, kind, damaged):
    out = io.BytesIO()
    wide = Image.new("RGB", (32, 16), (0, 0, 0))
    wide.paste((255, 255, 255), (16, 0, 32, 16))
    wide.save(out, kind, exif=exif(*sorted([TURN, damaged])))
    image = read(tmp_path, out.getvalue())
    assert image.shape == (32, 16, 3) and image[:8].max() < 0.1 and image[-8:].min() > 0.9


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_found_in_both_orders_of_bytes(order):
    """The tag before it makes Pillow give up, and its number has 16 or 32 bits."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    for kind, value in ((3, struct.pack(order + "H2x", 6)), (4, struct.pack(order + "I", 6))):
        table = struct.pack(order + "HHII", 0x0100, 5, 3, 9999)
        table += struct.pack(order + "HHI", 0x0112, kind, 1) + value
        data = head + struct.pack(order + "IH", 8, 2) + table + bytes(4)
        picture = Image.new("L", (3, 2))
        picture.info["exif"] = b"Exif\0\0" + data
        assert pictures.as_image(picture).shape == (3, 2, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_pil_images_are_turned_as_their_files_are(tmp_path, kind, orientation):
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    tags = Image.Exif()
    tags[0x0112] = orientation
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(corners).save(path, kind, exif=tags)
    with Image.open(path) as picture:
        image = pictures.as_image(picture)
        assert torch.equal(image, taichi2dgs.read_image(path))
        turned = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_allclose(image, turned / 255, atol=1e-6)
    assert image.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))


def test_sixteen_bit_pictures_are_turned_too(tmp_path):
    extra = [chunk(b"eXIf", exif(TURN)[6:])]
    for colour, row in (
        (0, struct.pack(">2H", 1, 65535)),
        (4, struct.pack(">4H", 1, 65535, 9, 65535)),
    ):
        assert read(tmp_path, png(2, 1, 16, colour, b"\0" + row, extra)).shape[:2] == (2, 1)


OPTIONS = [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}]


def noise(**options) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "JPEG", **options)
    return out.getvalue()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_its_end_marker_is_read(tmp_path, options, missing):
    data = noise(**options)
    assert torch.equal(read(tmp_path, data[:-missing], "a.jpg"), read(tmp_path, data, "b.jpg"))


@pytest.mark.parametrize("options", OPTIONS)
def test_a_jpeg_that_lacks_more_is_refused(tmp_path, options):
    data = noise(**options)
    for missing in range(6, len(data) - 4, 7):
        with pytest.raises(ValueError, match=r"a\.jpg: not a readable picture"):
            read(tmp_path, data[:-missing], "a.jpg")


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused(tmp_path):
    """Decoders take such a file without a complaint, but coefficients lack their lowest bits."""
    data = noise(progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for end in scans[1:]:
        with pytest.raises(ValueError, match=r"a\.jpg: not a readable picture"):
            read(tmp_path, data[:end], "a.jpg")
