"""A picture becomes K two-dimensional Gaussians, and a picture again at any size, on any device.

Conventions: centres in pixels, x right, y down, with the centre of the top-left pixel at
(0.5, 0.5); log_scale is the natural log of the standard deviations in pixels; theta in radians;
colour is linear in the render and not clamped; images are float32 [H, W, C] in [0, 1]. Of 2 or 4
channels the last is the opacity, by which the others are multiplied, in images and in Gaussians.
"""

from taichi2dgs.runtime import init  # isort: skip  (before anything that imports Taichi)
from taichi2dgs import reference
from taichi2dgs.encode import encode
from taichi2dgs.files import read_image, write_image
from taichi2dgs.fit import FitOptions, FitResult, Report, fit
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.limits import set_memory_limit
from taichi2dgs.render import render
from taichi2dgs.settings import RenderSettings
from taichi2dgs.t2d import load
from taichi2dgs.workspace import free

__version__ = "0.1.0"
__all__ = [
    "FitOptions", "FitResult", "Gaussians", "RenderSettings", "Report", "encode", "fit", "free",
    "init", "load", "read_image", "reference", "render", "set_memory_limit", "write_image",
]  # fmt: skip
