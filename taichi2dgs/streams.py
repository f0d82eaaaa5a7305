"""Whole numbers to bytes and back: what .t2d files are made of; docs/FORMAT.md describes it."""

from __future__ import annotations

import lzma
import struct
from typing import Any

import numpy as np

from taichi2dgs.files import one_line

HEAD = struct.Struct("<iBB")
LENGTH = struct.Struct("<I")
PLAIN, COLOR = 0, 3  # bits of the number before that a coder looks at: colours go on
PLANES = 6  # bytes of the largest number: a distance along the curve, of 48 bits
SAMPLE = 1 << 14  # numbers that tell how many bits to leave uncoded


def write(whole: np.ndarray, context: int = PLAIN) -> bytes:
    """Code whole numbers: the least, their low bits as they are, the rest compressed. [N]

    Args:
        whole: the numbers.
        context: PLAIN or COLOR.
    """
    least = 0 if whole.dtype == np.uint32 else min(int(whole.min()), (1 << 31) - 1)
    above = whole.astype(np.int64) - least
    few = above[:SAMPLE]

    def bytes_with(low: int) -> float:
        return low * len(few) / 8 + sum(map(len, _planes(few >> low, context)))

    low = min(range(max(1, int(few.max()).bit_length() - 1)), key=bytes_with)
    planes = _planes(above >> low, context)
    parts = [HEAD.pack(least, low, len(planes)), pack(above, np.full(len(above), low))]
    for coded in planes:
        parts += [LENGTH.pack(len(coded)), coded]
    return b"".join(parts)


def _planes(whole: np.ndarray, context: int) -> list[bytes]:
    """Compress bytes of numbers, all least significant ones first."""
    count = max(1, -(-int(whole.max()).bit_length() // 8))
    octets = ((whole >> 8 * plane & 255).astype(np.uint8).tobytes() for plane in range(count))
    return [lzma.compress(plane, lzma.FORMAT_RAW, filters=_filters(context)) for plane in octets]


def _filters(context: int) -> list[dict[str, int]]:
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": context, "lp": 0, "pb": 0}
    return [lzma1]


def pack(whole: np.ndarray, counts: np.ndarray) -> bytes:
    """Return the low bits of numbers, all least significant ones first.

    Args:
        whole: the numbers. [N]
        counts: how many bits of each. [N]
    """
    bits = [whole[counts > bit] >> bit & 1 for bit in range(int(counts.max(initial=0)))]
    return np.packbits(np.concatenate(bits).astype(np.uint8)).tobytes() if bits else b""


class Reader:
    """Takes apart bytes that hold numbers for k Gaussians.

    Every method raises ValueError if the bytes are too few, or not what was written.
    """

    def __init__(self, data: bytes, k: int) -> None:
        self.data, self.k, self.at = data, k, 0

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("damaged: it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def stream(self, context: int = PLAIN) -> np.ndarray:
        """Read what `write` wrote. [K]"""
        least, low, count = self.unpack(HEAD)
        if low + 8 * count > 8 * PLANES + 7 or not count:
            raise ValueError("damaged: a number has too many bits")
        whole = self.bits(np.full(self.k, low)) + least
        for plane in range(count):
            octets = self._plane(self.take(*self.unpack(LENGTH)), context)
            whole += octets.astype(np.int64) << 8 * plane + low
        return whole

    def bits(self, counts: np.ndarray) -> np.ndarray:
        """Read what `pack` wrote. [K]"""
        total = int(counts.sum())
        flat = np.unpackbits(np.frombuffer(self.take(-(-total // 8)), np.uint8), count=total)
        whole, at = np.zeros(len(counts), np.int64), 0
        for bit in range(int(counts.max(initial=0))):
            has = np.flatnonzero(counts > bit)
            whole[has] |= flat[at : at + len(has)].astype(np.int64) << bit
            at += len(has)
        return whole

    def _plane(self, coded: bytes, context: int) -> np.ndarray:
        """Decompress one byte for each Gaussian, and never more than that."""
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_filters(context))
        try:
            octets = decoder.decompress(coded, self.k)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(f"damaged: {one_line(error)}") from error
        if len(octets) != self.k:
            raise ValueError("damaged: a plane of bytes is too short")
        return np.frombuffer(octets, np.uint8)
