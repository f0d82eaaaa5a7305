"""Whole numbers to bytes and back: what .t2d files are made of; docs/FORMAT.md describes it."""

from __future__ import annotations

import itertools
import lzma
import math
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from taichi2dgs.storage.paths import one_line

HEAD = struct.Struct("<iBBB")
LENGTH = struct.Struct("<I")
PLANES = 6  # bytes of the largest number: a distance along the curve, of 48 bits
SAMPLE = 1 << 14  # numbers that tell how to code the others, in runs of RUN
RUN = 1 << 11
CHUNK = 256  # numbers that `pack_mixed` makes one of


Coder = tuple[Callable[[bytes], bytes], Callable[[bytes, int], bytes]]


def _lzma(context: int) -> Coder:
    """Return LZMA that expects a byte by so many of the highest bits of the byte before it."""
    lzma1 = {"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": context, "lp": 0, "pb": 0}

    def compress(octets: bytes) -> bytes:
        return lzma.compress(octets, lzma.FORMAT_RAW, filters=[lzma1])

    def decompress(coded: bytes, most: int) -> bytes:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[lzma1]).decompress(coded, most)

    return compress, decompress


def _huffman() -> Coder:
    """Return a coder of bytes one by one, of which frequent ones get short codes."""

    def compress(octets: bytes) -> bytes:
        coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
        return coder.compress(octets) + coder.flush()

    return compress, lambda coded, most: zlib.decompressobj(-15).decompress(coded, most)


CODERS = (_lzma(0), _lzma(3), _huffman())


def write(whole: np.ndarray) -> bytes:
    """Code whole numbers: the least, their low bits as they are, the rest compressed. [N]

    Of 1000, 1001, 1258 and 1002 the least is 1000, and 0, 1, 258 and 2 are above it. Their lowest
    bits 0, 1, 0, 0 are one byte, 01000000; the rests 0, 0, 129, 1 are a plane of four bytes, which
    the last of CODERS makes six. So few numbers gain nothing, and their head is longer than they.

    >>> coded = write(np.array([1000, 1001, 1258, 1002]))
    >>> HEAD.unpack(coded[:7])  # the least, low bits, which coder, how many planes
    (1000, 1, 2, 1)
    >>> f"{coded[7]:08b}", LENGTH.unpack(coded[8:12])
    ('01000000', (6,))
    """
    least = 0 if whole.dtype == np.uint32 else min(int(whole.min()), (1 << 31) - 1)
    above = whole.astype(np.int64) - least
    few = _sample(above)

    def bytes_with(choice: tuple[int, int]) -> float:
        low, coder = choice
        return low * len(few) / 8 + sum(map(len, _planes(few >> low, coder)))

    lows = range(max(1, int(few.max()).bit_length() - 1))
    low, coder = min(itertools.product(lows, range(len(CODERS))), key=bytes_with)
    planes = _planes(above >> low, coder)
    parts = [HEAD.pack(least, low, coder, len(planes)), pack(above, np.full(len(above), low))]
    for coded in planes:
        parts += [LENGTH.pack(len(coded)), coded]
    return b"".join(parts)


def _sample(whole: np.ndarray) -> np.ndarray:
    """Return runs of numbers from the first to the last: one part of a picture is unlike another.

    >>> len(_sample(np.arange(50_000))), len(_sample(np.arange(9)))
    (16384, 9)
    """
    if len(whole) <= SAMPLE:
        return whole
    starts = np.linspace(0, len(whole) - RUN, SAMPLE // RUN).astype(int)
    return np.concatenate([whole[start : start + RUN] for start in starts])


def _planes(whole: np.ndarray, coder: int) -> list[bytes]:
    """Compress bytes of numbers, all least significant ones first.

    The numbers 3, 258 and 515 have the bytes 3, 2 and 3 in the first plane, and 0, 1 and 2 in the
    second.

    >>> [list(CODERS[2][1](plane, 3)) for plane in _planes(np.array([3, 258, 515]), 2)]
    [[3, 2, 3], [0, 1, 2]]
    """
    count = max(1, -(-int(whole.max()).bit_length() // 8))
    octets = ((whole >> 8 * plane & 255).astype(np.uint8).tobytes() for plane in range(count))
    return [CODERS[coder][0](plane) for plane in octets]


def pack_mixed(whole: np.ndarray, counts: np.ndarray) -> bytes:
    """Return numbers as the digits of large ones, each in a base of its own.

    Args:
        whole: the numbers, from 0. [N]
        counts: of values that each can have. [N]

    The digits 2, 3 and 1 in the bases 3, 5 and 4 are 2 + 3 (3 + 5 1) = 26, one byte for the
    3 x 5 x 4 = 60 values that three such digits can have.

    >>> list(pack_mixed(np.array([2, 3, 1]), np.array([3, 5, 4])))
    [26]
    """
    out = []
    for digits, bases in zip(_chunks(whole), _chunks(counts), strict=True):
        total = 0
        for digit, base in zip(reversed(digits), reversed(bases), strict=True):
            total = total * base + digit
        out.append(total.to_bytes(_bytes_of(bases), "little"))
    return b"".join(out)


def _chunks(whole: np.ndarray) -> list[list[int]]:
    return [whole[at : at + CHUNK].tolist() for at in range(0, len(whole), CHUNK)]


def _bytes_of(bases: list[int]) -> int:
    """Return how many bytes hold any number with digits in these bases."""
    return -(-(math.prod(bases) - 1).bit_length() // 8)


def pack(whole: np.ndarray, counts: np.ndarray) -> bytes:
    """Return the low bits of numbers, all least significant ones first.

    Args:
        whole: the numbers. [N]
        counts: how many bits of each. [N]

    Of 5, 2 and 7 with 3, 2 and 3 bits the lowest bits are 1, 0, 1, the next are 0, 1, 1, and the
    first and the last number have a third: 1, 1.

    >>> f"{pack(np.array([5, 2, 7]), np.array([3, 2, 3]))[0]:08b}"
    '10101111'
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
        """Return the next bytes."""
        if self.at + count > len(self.data):
            raise ValueError("damaged: it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the next numbers, in a fixed layout."""
        return layout.unpack(self.take(layout.size))

    def stream(self) -> np.ndarray:
        """Read what `write` wrote. [K]"""
        least, low, coder, count = self.unpack(HEAD)
        if low + 8 * count > 8 * PLANES + 7 or not count or coder >= len(CODERS):
            raise ValueError("damaged: its numbers are coded in an unknown way")
        whole = self.bits(np.full(self.k, low)) + least
        for plane in range(count):
            octets = self._plane(self.take(*self.unpack(LENGTH)), coder)
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

    def mixed(self, counts: np.ndarray) -> np.ndarray:
        """Read what `pack_mixed` wrote. [K]"""
        digits: list[int] = []
        for bases in _chunks(counts):
            total = int.from_bytes(self.take(_bytes_of(bases)), "little")
            for base in bases:
                total, digit = divmod(total, base)
                digits.append(digit)
            if total:
                raise ValueError("damaged: a number is out of range")
        return np.array(digits, np.int64)

    def _plane(self, coded: bytes, coder: int) -> np.ndarray:
        """Decompress one byte for each Gaussian, and never more than that."""
        try:
            octets = CODERS[coder][1](coded, self.k)
        except (lzma.LZMAError, zlib.error, EOFError) as error:
            raise ValueError(f"damaged: {one_line(error)}") from error
        if len(octets) != self.k:
            raise ValueError("damaged: a plane of bytes is too short")
        return np.frombuffer(octets, np.uint8)
