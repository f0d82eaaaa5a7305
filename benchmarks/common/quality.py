"""What a picture of Gaussians is like beside the original, and what it takes as a file."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from common.costs import seconds_of
from pipelines.baselines.similarity import similarity_package
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.storage import t2d

SMALLEST_MS_SSIM = 161  # pixels a side
FLIP = "FLIP needs the package flip-evaluator; pip install 'taichi2dgs[bench]'"


def check_packages() -> None:
    """Raise ImportError if a package is missing: before hours of fits, not after."""
    similarity_package()
    _flip_package()


def similarities(image: Tensor, reference: Tensor) -> dict[str, float | None]:
    """Compare a clamped image with the original. [H, W, C], [H, W, C]

    Returns:
        "ssim" and "ms_ssim", 1 for the same, the latter None for a picture too small for it; and
        "flip", the mean of the FLIP map at 67 pixels a degree, 0 for the same, None unless RGB.
    """
    shown, original = image.detach().clamp(0, 1), reference.detach()
    pair = [one.permute(2, 0, 1)[None] for one in (shown, original)]
    package = similarity_package()
    return {
        "ssim": round(float(package.ssim(*pair, data_range=1.0)), 5),
        "ms_ssim": ms_ssim(image, reference),
        "flip": _flip(shown, original) if image.shape[2] == 3 else None,
    }


def _flip(image: Tensor, reference: Tensor) -> float:
    """[H, W, 3], [H, W, 3]"""
    pair = (one.cpu().contiguous().numpy() for one in (reference, image))
    return round(float(_flip_package().evaluate(*pair, "LDR", applyMagma=False)[1]), 5)


def ms_ssim(image: Tensor, reference: Tensor) -> float | None:
    """Multi-scale structural similarity of the clamped image; None if it is too small for that."""
    if min(image.shape[:2]) < SMALLEST_MS_SSIM:
        return None
    pair = (one.clamp(0, 1).permute(2, 0, 1)[None] for one in (image, reference))
    return round(float(similarity_package().ms_ssim(*pair, data_range=1.0)), 5)


def of_files(gaussians: Gaussians) -> dict[str, float | None]:
    """Return bits a pixel, as float32 numbers and as a `.t2d` file, and seconds to decode it.

    The latter two are None for a fit that ended in numbers that are not finite.
    """
    pixels = gaussians.size[0] * gaussians.size[1]
    raw = {"bpp_float32": round(32 * gaussians.packed().numel() / pixels, 3)}
    try:
        data = t2d.encode(gaussians, "high")
    except ValueError:
        return {**raw, "bpp_high": None, "decode_seconds": None}
    return {
        **raw,
        "bpp_high": round(8 * len(data) / pixels, 3),
        "decode_seconds": round(seconds_of(lambda: t2d.decode(data)), 4),
    }


def _flip_package() -> Any:
    try:
        import flip_evaluator
    except ImportError as error:
        raise ImportError(FLIP) from error
    return flip_evaluator
