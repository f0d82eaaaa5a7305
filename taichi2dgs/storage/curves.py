"""Curves between the stored values of pictures and light: sRGB's, and those of HDR video."""

from __future__ import annotations

import numpy as np

REFERENCE_WHITE = 203.0  # cd/m^2 of a film's or HDR picture's white, which becomes 1 (BT.2408)
PQ_PEAK = 10_000 / REFERENCE_WHITE  # light of PQ's largest value
# Constants of SMPTE ST 2084.
POWER, SHARPNESS = 2610 / 16384, 2523 / 32
C1, C2, C3 = 0.8359375, 18.8515625, 18.6875


def from_srgb(stored: np.ndarray) -> np.ndarray:
    """Return the light of sRGB's stored values."""
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


def to_srgb(light: np.ndarray) -> np.ndarray:
    """Return the stored values of light in sRGB."""
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def from_pq(stored: np.ndarray) -> np.ndarray:
    """Return light as a share of the most, by SMPTE ST 2084.

    >>> float(from_pq(np.array(1.0))), round(float(from_pq(np.array(0.508))) * 10_000)
    (1.0, 100)
    """
    root = stored ** (1 / SHARPNESS)
    return ((root - C1).clip(0) / (C2 - C3 * root)) ** (1 / POWER)


def to_pq(light: np.ndarray) -> np.ndarray:
    """Undo `from_pq`.

    >>> round(float(to_pq(from_pq(np.array(0.3)))), 9)
    0.3
    """
    root = light**POWER
    return ((C1 + C2 * root) / (1 + C3 * root)) ** SHARPNESS


def from_hlg(stored: np.ndarray) -> np.ndarray:
    """Return the light of BT.2100's HLG on a screen of 1000 cd/m^2, for each channel alone."""
    above = (np.exp((stored - 0.55991073) / 0.17883277) + 0.28466892) / 12
    scene = np.where(stored <= 0.5, stored**2 / 3, above)
    return scene**1.2 * 1000 / REFERENCE_WHITE
