"""A reader of .t2d files written from docs/FORMAT.md alone: nothing of the library is used."""

import lzma
import math
import struct
import zlib

import numpy as np

LZMA = {"id": lzma.FILTER_LZMA1, "dict_size": 65536, "lp": 0, "pb": 0}


def read_by_the_document(path):
    data = path.read_bytes()
    fields = struct.unpack_from("<8sHBBIIIBBdd", data)
    magic, version, preset, c, height, width, k, top_k, blend, cutoff, eps = fields
    assert magic == b"\x8aT2D\r\n\x1a\n" and version in (2, 3, 4)
    assert struct.unpack("<I", data[-4:])[0] == zlib.crc32(data[:-4])
    at, maps = 42, []
    if version == 4:
        version, count = data[42:44]
        at = 44
        for _ in range(count):
            name = data[at + 1 : at + 1 + data[at]].decode()
            at += 1 + data[at]
            maps.append((name, *struct.unpack_from("<BBBff", data, at)))
            at += 11

    def bits(counts):
        nonlocal at
        total, numbers = int(counts.sum()), np.zeros(k, np.int64)
        flags = np.unpackbits(np.frombuffer(data, np.uint8, (total + 7) // 8, at))
        at, used = at + (total + 7) // 8, 0
        for b in range(max(counts, default=0)):
            for i in range(k):
                if counts[i] > b:
                    numbers[i] += int(flags[used]) << b
                    used += 1
        return numbers

    def plane(coder, octets):
        if coder == 2:
            return zlib.decompress(octets, wbits=-15)
        lzma1 = [LZMA | {"lc": 3 * coder}]
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, None, lzma1).decompress(octets, k)

    def stream():
        nonlocal at
        least, low, coder, planes = struct.unpack_from("<iBBB", data, at)
        at += 7
        total = least + bits(np.full(k, low))
        for p in range(planes):
            (length,) = struct.unpack_from("<I", data, at)
            octets = plane(coder, data[at + 4 : at + 4 + length])
            total += np.frombuffer(octets, np.uint8).astype(np.int64) << 8 * p + low
            at += 4 + length
        return total

    def mixed(counts):
        nonlocal at
        found = np.empty(k, np.int64)
        for first in range(0, k, 256):
            share = range(first, min(first + 256, k))
            size = ((math.prod(counts[i] for i in share) - 1).bit_length() + 7) // 8
            digits = int.from_bytes(data[at : at + size], "little")
            at += size
            for i in share:
                digits, found[i] = divmod(digits, counts[i])
        return found

    def section(code):
        log_size, stretch = stream(), stream()
        stored = [stream() for _ in range(c)]
        for channel in range(1, c):
            follows = sum(w * stored[i] for i, w in enumerate(weights[channel]))
            stored[channel] = stored[channel] + ((follows + 2**7) >> 8)
        a = (log_size - usual) * octaves
        p = np.clip((a + 2**15) >> 16, -3, 3)
        q = np.clip(-((a + 2**16) >> 17), -2, 2)
        colors = np.empty((c, k))
        colors[:, np.argsort(q, kind="stable")] = stored
        angle = mixed([1 + 8 * int(length) for length in stretch])
        column, row = (sum((code >> 2 * b + axis & 1) << b for b in range(24)) for axis in (0, 1))
        x = (column + left) * 2 ** (3 - p) + bits(3 - p)
        y = (row + top) * 2 ** (3 - p) + bits(3 - p)
        theta = angle * (math.pi / (1 + 8 * stretch))
        size, length = steps[1] * log_size, steps[2] * stretch
        place = [x * (steps[0] * 2.0**p), y * (steps[0] * 2.0**p)]
        shape = [size + length / 2, size - length / 2, theta]
        return np.stack([*place, *shape, *(colors * (steps[3] * 2.0**q))], 1).astype(np.float32)

    how = (top_k, cutoff, eps, ["normalized", "sum"][blend % 2], blend >= 2)
    if preset == 0:
        params = np.stack([stream().astype("<u4").view("<f4") for _ in range(5 + c)], 1)
        return {"size": (height, width), "settings": how, "maps": maps, "params": params}
    *steps, usual, octaves, left, top = struct.unpack_from("<4f4i", data, at)
    at += 32
    weights = {}
    for channel in range(c):
        weights[channel] = struct.unpack_from(f"<{channel}h", data, at)
        at += 2 * channel
    if version == 2:
        params = section(np.cumsum(stream()))
        return {"size": (height, width), "settings": how, "maps": maps, "params": params}
    end, sections = struct.unpack_from("<QB", data, at)
    at += 9
    all_of_them, places, parts = k, {}, []
    for s in range(sections):
        half = 2 ** (sections - 1 - s)
        mine = range(half, all_of_them, 2 * half) if s else range(0, all_of_them, half)
        (length,), k = struct.unpack_from("<I", data, at), len(mine)
        at += 4
        stop = at + length
        if s == 0:
            code = np.cumsum(stream())
        else:
            before = [places[i - half] for i in mine]
            spans = [places.get(i + half, end) - b for i, b in zip(mine, before, strict=True)]
            low = np.array([max(0, span.bit_length() - 16) for span in spans])
            digits = mixed([(span >> int(e)) + 1 for span, e in zip(spans, low, strict=True)])
            code = np.array(before) + (digits << low) + bits(low)
        places |= zip(mine, code.tolist(), strict=True)
        parts.append(section(code))
        assert at == stop
    return {"size": (height, width), "settings": how, "maps": maps, "params": np.concatenate(parts)}
