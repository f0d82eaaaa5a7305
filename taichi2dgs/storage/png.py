"""Parts of PNG files that Pillow drops or refuses: colour spaces, long texts, 16-bit channels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from taichi2dgs.storage import color

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = 1 << 20  # bytes of comments that are kept; orientation may be there
PROFILE = 1 << 24  # bytes of a colour profile
GREY, RGB, GREY_ALPHA = 0, 2, 4  # colour types
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
            return color.of_codes(body[0], body[1])
        if kind == b"iCCP":
            packed = body.partition(b"\0")[2][1:]
            found = zlib.decompressobj().decompress(packed, PROFILE)
            if not found:
                raise ValueError("it is empty")
            return found
        if kind in (b"gAMA", b"cHRM"):
            return self._measured()
        return None

    def _measured(self) -> bytes | None:
        """Return the profile of a gamma and chromaticities, either of which may be absent."""
        gamma = int.from_bytes(self.chunks.get(b"gAMA", b"")[:4], "big") / 100_000
        found = np.frombuffer(self.chunks.get(b"cHRM", b""), ">u4") / 100_000
        chromaticities = found if len(found) == 8 else np.array(SRGB_CHROMATICITIES)
        is_usual = np.abs(chromaticities - SRGB_CHROMATICITIES).max() < 0.002
        if is_usual and (not gamma or abs(gamma / SRGB_GAMMA - 1) < 0.05):
            return None
        tone = (lambda v: v ** (1 / gamma)) if gamma else color.from_srgb
        return color.profile(chromaticities, tone)

    def pixels(self, mode: str, rawmode: str, size: tuple[int, int]) -> np.ndarray:
        """Decode the pixels in a way of which Pillow knows no mode. [H, W, bands of the mode]"""
        coded = b"".join(self.data[start:end] for start, end in self.spans)
        return np.asarray(
            Image.frombytes(mode, size, coded, "zip", rawmode, int(bool(self.interlaced)))
        )

    def transparent(self, picture: Image.Image) -> np.ndarray | None:
        """Return where colour of 16 bits is the transparent one, None if there is none. [H, W]"""
        key = self.chunks.get(b"tRNS", b"")
        if (self.depth, self.colors) != (16, RGB) or len(key) < 6:
            return None
        low = self.pixels("RGB", "RGB;16L", picture.size)  # the low bytes of big-endian numbers
        is_key = np.asarray(picture) == np.frombuffer(key[0:6:2], np.uint8)
        is_key &= low == np.frombuffer(key[1:6:2], np.uint8)
        return is_key.all(2)


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
