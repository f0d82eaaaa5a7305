"""Picture codecs to compare files with: each from its lowest to its highest setting."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from PIL import Image, features


@dataclass(frozen=True)
class Codec:
    """One way to write a picture, at settings that span 0.1 to 1.5 bits a pixel of photographs.

    Args:
        name: as tables have it.
        settings: numbers, from the smallest file to the largest.
        encode: from pixels, uint8 [H, W, 3], and a setting to a complete file.
        decode: from a file to pixels.
        version: of what does it.
    """

    name: str
    settings: tuple[float, ...]
    encode: Callable[[np.ndarray, float], bytes]
    decode: Callable[[bytes], np.ndarray]
    version: str


def available() -> list[Codec]:
    """Return the codecs that are installed: Pillow's, and those of imagecodecs if it is there."""
    found = [
        _pillow("JPEG", "JPEG", (3, 6, 10, 15, 20, 30, 40, 50, 60, 70, 78, 84, 90, 94)),
        _pillow("WebP", "WEBP", (0, 3, 6, 10, 15, 20, 30, 40, 50, 60, 70, 80, 88, 94, 97)),
    ]
    if features.check("avif"):
        qualities = (5, 12, 20, 27, 35, 42, 50, 57, 63, 70, 76, 83, 90, 95)
        found += [
            _pillow(f"AVIF {sampling}", "AVIF", qualities, subsampling=sampling)
            for sampling in ("4:2:0", "4:4:4")
        ]
    try:
        import imagecodecs
    except ImportError:
        return found
    return [*found, _jpeg2000(imagecodecs), _jpeg_xl(imagecodecs)]


def _pillow(name: str, form: str, qualities: tuple[float, ...], **more: Any) -> Codec:
    def encode(pixels: np.ndarray, quality: float) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form, quality=int(quality), **more)
        return file.getvalue()

    def decode(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    return Codec(name, qualities, encode, decode, f"Pillow {PIL.__version__}")


def _jpeg2000(imagecodecs: Any) -> Codec:
    """OpenJPEG's, by the PSNR that it is to keep, in dB."""
    return Codec(
        "JPEG 2000",
        (22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 43, 46),
        lambda pixels, level: imagecodecs.jpeg2k_encode(
            pixels, level=level, codecformat="j2k", mct=True
        ),
        imagecodecs.jpeg2k_decode,
        f"imagecodecs {imagecodecs.__version__}",
    )


def _jpeg_xl(imagecodecs: Any) -> Codec:
    """libjxl's at its own default effort, by the distance that eyes see, 1 just noticeable."""
    return Codec(
        "JPEG XL",
        (20, 14, 10, 7, 5, 3.5, 2.5, 1.8, 1.2, 0.8, 0.5, 0.35),
        lambda pixels, distance: imagecodecs.jpegxl_encode(pixels, distance=distance, effort=7),
        imagecodecs.jpegxl_decode,
        f"imagecodecs {imagecodecs.__version__}, effort 7",
    )
