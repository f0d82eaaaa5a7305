"""Parts of PNG files that Pillow drops or refuses: colour spaces, long texts, 16-bit channels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from taichi2dgs.storage import color, curves

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = 1 << 20  # bytes of comments that are kept; orientation may be there
PROFILE = 1 << 24  # bytes of a colour profile
GREY, RGB, GREY_ALPHA, RGB_ALPHA = 0, 2, 4, 6  # colour types
UP = 2  # the filter that subtracts the byte above
COLOR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
SRGB_GAMMA = 0.45455  # of PNG files; as libpng, we take gammas within 5 % of it as sRGB's
SRGB_CHROMATICITIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # white first


class Png:
    """A PNG file taken apart.

    Args:
        data: the file, whole or not.

    Attributes:
        plain: the file without its colour profile and long comments, which Pillow may refuse.
        chunks: its other chunks but those of pixels, by name; of several the first.
        depth, colors, interlaced: of its header.
    """

    def __init__(self, data: bytes) -> None:
        self.chunks: dict[bytes, bytes] = {}
        self.spans: list[tuple[int, int]] = []  # where compressed pixels begin and end
        self.data, kept, room, since = data, [], TEXT, 0
        for kind, start, end in _chunks(data):
            if kind == b"IDAT":
                self.spans.append((start, end))
                continue
            body = data[start:end]
            self.chunks.setdefault(kind, body)
            if kind in (b"tEXt", b"zTXt", b"iTXt"):
                length = _length(kind, body, room)
                dropped = length > room
                room -= 0 if dropped else length
            else:
                dropped = kind == b"iCCP"
            if dropped:
                kept.append(data[since : start - 8])
                since = end + 4
        self.plain = b"".join([*kept, data[since:]]) if kept else data
        header = self.chunks.get(b"IHDR", b"").ljust(13, b"\0")
        self.depth, self.colors, self.interlaced = header[8], header[9], header[12]

    def space(self) -> bytes | None:
        """Return the ICC profile of the colours, made where the file has another description.

        Raises:
            ValueError: it is damaged.
        """
        kind = next((kind for kind in COLOR if kind in self.chunks), None)
        body = self.chunks.get(kind, b"") if kind else b""
        if kind == b"cICP":
            return color.of_codes(*self.codes())
        if kind == b"iCCP":
            packed = body.partition(b"\0")[2][1:]
            found = zlib.decompressobj().decompress(packed, PROFILE)
            if not found:
                raise ValueError("it is empty")
            return found
        if kind in (b"gAMA", b"cHRM"):
            return self._measured()
        return None

    def codes(self) -> tuple[int, int]:
        """Return the numbers of the primaries and of the curve that the file names, else 0."""
        body = self.chunks.get(b"cICP", b"\0\0")
        return body[0], body[1]

    def _measured(self) -> bytes | None:
        """Return the profile of a gamma and chromaticities, either of which may be absent."""
        gamma = int.from_bytes(self.chunks.get(b"gAMA", b"")[:4], "big") / 100_000
        found = np.frombuffer(self.chunks.get(b"cHRM", b""), ">u4") / 100_000
        chromaticities = found if len(found) == 8 else np.array(SRGB_CHROMATICITIES)
        is_usual = np.abs(chromaticities - SRGB_CHROMATICITIES).max() < 0.002
        if is_usual and (not gamma or abs(gamma / SRGB_GAMMA - 1) < 0.05):
            return None
        tone = (lambda v: v ** (1 / gamma)) if gamma else curves.from_srgb
        return color.profile(chromaticities, tone)

    def pixels(self, mode: str, rawmode: str, size: tuple[int, int]) -> np.ndarray:
        """Decode the pixels in a way of which Pillow knows no mode. [H, W, bands of the mode]"""
        coded = b"".join(self.data[start:end] for start, end in self.spans)
        return np.asarray(
            Image.frombytes(mode, size, coded, "zip", rawmode, int(bool(self.interlaced)))
        )

    def deep(self, picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
        """Return what has 16 bits and is not grey alone, and its opacity if it has any.

        Args:
            picture: what Pillow makes of it: of colours the upper 8 bits.

        Returns:
            uint16. [H, W] or [H, W, 3], [H, W]
        """
        if self.colors == GREY_ALPHA:
            both = self.pixels("RGBA", "RGBA", picture.size).view(">u2").astype(np.uint16)
            return both[..., 0], both[..., 1]
        mode = "RGB" if self.colors == RGB else "RGBA"
        low = self.pixels(mode, f"{mode};16L", picture.size)  # low bytes of big-endian numbers
        whole = np.asarray(picture.convert(mode)).astype(np.uint16) << 8 | low
        key = np.frombuffer(self.chunks.get(b"tRNS", b"")[:6], ">u2")
        if self.colors == RGB and len(key) == 3:
            return whole, np.where((whole == key).all(2), 0, 65535).astype(np.uint16)
        return whole[..., :3], whole[..., 3] if mode == "RGBA" else None


def write(path: str, pixels: np.ndarray) -> None:
    """Write pixels of 16 bits, which Pillow can do for grey only.

    Args:
        path: of the file.
        pixels: uint16; of 2 or 4 channels the last is the opacity. [H, W, C]
    """
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, width * channels * 2)
    above = np.concatenate([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.concatenate([np.full((height, 1), UP, np.uint8), rows - above], axis=1)
    kind = {1: GREY, 2: GREY_ALPHA, 3: RGB, 4: RGB_ALPHA}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes())), (b"IEND", b"")]
    with open(path, "wb") as out:
        out.write(SIGNATURE)
        for name, body in parts:
            crc = zlib.crc32(name + body)
            out.write(struct.pack(">I4s", len(body), name) + body + struct.pack(">I", crc))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of every chunk that is whole."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        kind, start = data[at + 4 : at + 8], at + 8
        end = start + int.from_bytes(data[at : at + 4], "big")
        if end + 4 > len(data):
            return
        yield kind, start, end
        if kind == b"IEND":
            return
        at = end + 4


def _length(kind: bytes, body: bytes, most: int) -> int:
    """Return the length of a comment, decompressed; one over `most` if it is longer."""
    text = body.partition(b"\0")[2]
    packed = text[1:] if kind == b"zTXt" else b""
    if kind == b"iTXt" and text[:1] == b"\1":
        packed = text[2:].split(b"\0", 2)[-1]
    try:
        found = len(zlib.decompressobj().decompress(packed, most + 1)) if packed else len(body)
    except zlib.error:
        found = most + 1  # damaged: not to be kept
    return min(max(found, len(body)), most + 1)
