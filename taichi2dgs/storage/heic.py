"""HEIC files, such as iPhones make, by the package pillow-heif."""

from __future__ import annotations

import io

import numpy as np

from taichi2dgs.storage.raw import Raw, check_pixels, package

PACKAGE, EXTRA = "pillow_heif", "heic"
BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
ANY = (b"mif1", b"msf1")  # brands of pictures that say elsewhere how they are coded


def is_heic(data: bytes) -> bool:
    """Whether a file's first bytes say that it is one; AVIF files, which begin alike, are none."""
    brand, others = data[8:12], data[16 : int.from_bytes(data[:4], "big")][:99]
    known = brand in BRANDS or (brand in ANY and any(b in others for b in BRANDS))
    return data[4:8] == b"ftyp" and known


def read(data: bytes) -> tuple[Raw, tuple[int, int] | None]:
    """Read a file, turned as it says, at 8 or 16 bits.

    Returns:
        What it has, and the numbers of its colours' primaries and curve, if it has them.

    Raises:
        RefusedError: pillow-heif is not there, or the picture has too many pixels.
        Exception: it is damaged.
    """
    heif = package(PACKAGE, EXTRA, "a HEIC picture")
    picture = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    check_pixels(picture.size[1], picture.size[0])
    pixels = np.asarray(picture)
    opacity = None
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels, opacity = pixels[..., :3], pixels[..., 3]
    codes = picture.info.get("nclx_profile")
    numbers = codes and (codes["color_primaries"], codes["transfer_characteristics"])
    return Raw(pixels, opacity, picture.info.get("icc_profile") or None), numbers or None
