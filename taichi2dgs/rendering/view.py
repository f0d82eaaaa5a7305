"""Which pixels are rendered."""

from __future__ import annotations

from dataclasses import dataclass

from taichi2dgs.checks import checked_size, number, shown, wholes
from taichi2dgs.rendering import footprint

MAX_PIXELS_A_SIDE = 10**9  # beyond it, pixel numbers no longer fit the integers of the kernels


@dataclass(frozen=True)
class View:
    """The pixels to render: a crop of the picture, sampled on a grid of any size.

    Sample points are pixel centres scaled to the picture's own units, so rendering at s times the
    size is the same as scaling centres and standard deviations by s.
    """

    left: int
    top: int
    width: int
    height: int
    pitch_x: float
    pitch_y: float
    period_x: int = 0  # the picture's own width and height, after which it comes again if it tiles
    period_y: int = 0

    @property
    def spread(self) -> tuple[float, float]:
        """Variance that pixels larger than the picture's own add along x and along y."""
        return footprint.spread(self.pitch_x), footprint.spread(self.pitch_y)

    @classmethod
    def of(cls, picture: tuple[int, int], size=None, crop=None, scale=None) -> View:
        """Return the view of a picture of (height, width) at `size` or `scale`, cut to `crop`.

        Raises:
            ValueError: an argument is malformed, size and scale are both given, or the crop leaves
                the image.
        """
        height, width = picture if size is None else checked_size(size, "size")
        if scale is not None:
            height, width = _scaled(picture, size, scale)
        if max(height, width) > MAX_PIXELS_A_SIDE:
            raise ValueError(
                f"size={(height, width)!r}; expected at most {MAX_PIXELS_A_SIDE} pixels a side"
            )
        pitch_x, pitch_y = picture[1] / width, picture[0] / height
        if crop is None:
            return cls(0, 0, width, height, pitch_x, pitch_y, picture[1], picture[0])
        box = wholes(crop, 4)
        if box is None:
            raise ValueError(
                f"crop={shown(crop)}; expected (top, left, height, width), whole numbers of pixels"
            )
        top, left, rows, columns = box
        inside = top >= 0 and left >= 0 and top + rows <= height and left + columns <= width
        if not inside or rows < 1 or columns < 1:
            raise ValueError(f"crop={shown(crop)} does not lie in an image of {height}x{width}")
        return cls(left, top, columns, rows, pitch_x, pitch_y, picture[1], picture[0])


def _scaled(picture: tuple[int, int], size: object, scale: object) -> tuple[int, int]:
    """Return the size of a picture at so many times its own, at least one pixel."""
    if size is not None:
        raise ValueError(
            f"size={shown(size)} and scale={shown(scale)} are given; expected one of them"
        )
    factor = number(scale)
    if not 0 < factor <= MAX_PIXELS_A_SIDE:
        raise ValueError(f"scale={shown(scale)}; expected a positive number")
    height, width = (max(1, round(extent * factor)) for extent in picture)
    return height, width
