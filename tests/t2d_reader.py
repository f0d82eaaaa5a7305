"""A reader of .t2d files written from docs/FORMAT.md alone: nothing of the library is used."""

import lzma
import math
import struct
import zlib

import numpy as np

LZMA = [{"id": lzma.FILTER_LZMA1, "dict_size": 65536, "lc": 0, "lp": 0, "pb": 0}]


def read_by_the_document(path):
    data = path.read_bytes()
    fields = struct.unpack_from("<8sHBBIIIBBdd", data)
    magic, version, preset, c, height, width, k, top_k, blend, cutoff, eps = fields
    assert magic == b"\x8aT2D\r\n\x1a\n" and version == 1
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    at = 42

    def stream():
        nonlocal at
        least, planes = struct.unpack_from("<iB", data, at)
        at, total = at + 5, np.full(k, least, np.int64)
        for p in range(planes):
            (length,) = struct.unpack_from("<I", data, at)
            octets = lzma.LZMADecompressor(lzma.FORMAT_RAW, None, LZMA).decompress(
                data[at + 4 : at + 4 + length], k
            )
            total += np.frombuffer(octets, np.uint8).astype(np.int64) << 8 * p
            at += 4 + length
        return total

    how = (top_k, cutoff, eps, ["normalized", "sum"][blend])
    if preset == 0:
        params = np.stack([stream().astype("<u4").view("<f4") for _ in range(5 + c)], 1)
        return {"size": (height, width), "settings": how, "params": params}
    table = np.frombuffer(data, "<f4", 2 * (4 + c), at).astype(np.float64).reshape(-1, 2)
    at += 8 * (4 + c)
    code = np.cumsum(stream())
    x, y = (sum((code >> 2 * b + axis & 1) << b for b in range(24)) for axis in (0, 1))
    log_size, stretch, turned = stream(), stream(), stream()
    colors = [stream() for _ in range(c)]
    if c >= 3:
        luma, orange, lime = colors[:3]
        t = luma - (lime >> 1)
        blue = t - (orange >> 1)
        colors[:3] = [blue + orange, lime + t, blue]
    whole = np.stack([x, y, log_size, stretch, *colors])
    values = table[:, :1] + table[:, 1:] * whole
    angle = np.empty(k, np.int64)
    angle[np.argsort(stretch, kind="stable")] = turned
    theta = angle * (math.pi / (1 + 7 * stretch))
    shape = [values[2] + values[3] / 2, values[2] - values[3] / 2, theta]
    params = np.stack([*values[:2], *shape, *values[4:]], 1).astype(np.float32)
    return {"size": (height, width), "settings": how, "params": params}
