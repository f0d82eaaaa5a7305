"""Gaussians as a drawing of ellipses: approximate, as a drawing paints and does not mix."""

from __future__ import annotations

import numpy as np

from taichi2dgs.exchange.splats import Splats

LEVELS = 31  # of each colour: ellipses of one colour share a gradient
# Where from the centre to the edge, at three deviations, and how much of a Gaussian is left there.
STOPS = [(r, float(np.exp(-0.5 * (3 * r) ** 2))) for r in (0.0, 0.15, 0.3, 0.45, 0.6, 0.8)]
ABOUT = "Approximate: ellipses with gradients, painted one over the other."


def drawing(splats: Splats) -> str:
    """Return an SVG: each splat as an ellipse with a radial gradient, the farthest first."""
    height, width = splats.size
    keys = np.rint(splats.color * LEVELS).astype(int)
    known, which = np.unique(keys, axis=0, return_inverse=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}"><desc>{ABOUT}</desc>\n<defs>\n'
    ]
    parts += [_gradient(number, color) for number, color in enumerate(known)]
    parts.append(f'</defs>\n<rect width="{width}" height="{height}"/>\n')  # black, as elsewhere
    degrees = np.degrees(splats.theta)
    for (x, y), (a, b), turn, opacity, number in zip(
        splats.xy, 3 * splats.scale, degrees, splats.opacity, which.reshape(-1), strict=True
    ):
        faint = f' opacity="{opacity:.2f}"' if opacity < 0.98 else ""
        parts.append(
            f'<ellipse rx="{a:.2f}" ry="{b:.2f}" fill="url(#c{number})"{faint} '
            f'transform="translate({x:.2f} {y:.2f})rotate({turn % 180:.1f})"/>\n'
        )
    return "".join([*parts, "</svg>\n"])


def _gradient(number: int, color: np.ndarray) -> str:
    red, green, blue = np.rint(255 / LEVELS * color).astype(int)
    ink = f"#{red:02x}{green:02x}{blue:02x}"
    stops = "".join(
        f'<stop offset="{at:g}" stop-color="{ink}" stop-opacity="{left:.3f}"/>'
        for at, left in STOPS
    )
    edge = f'<stop offset="1" stop-color="{ink}" stop-opacity="0"/>'
    return f'<radialGradient id="c{number}">{stops}{edge}</radialGradient>\n'
