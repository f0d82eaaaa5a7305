"""A picture becomes K two-dimensional Gaussians, and a picture again at any size, on any device.

Conventions: centres in pixels, x right, y down, with the centre of the top-left pixel at
(0.5, 0.5); log_scale is the natural log of the standard deviations in pixels; theta in radians;
colour is linear in the render and not clamped; images are float32 [H, W, C] in [0, 1]. Of 2 or 4
channels the last is the opacity, by which the others are multiplied, in images and in Gaussians.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taichi2dgs.faces import lazy

if TYPE_CHECKING:
    from taichi2dgs import draw
    from taichi2dgs.encoding import encode, encode_batch
    from taichi2dgs.fitting.batch import fit_batch
    from taichi2dgs.fitting.fit import fit
    from taichi2dgs.fitting.options import FitInterrupted, FitOptions, FitResult, Report
    from taichi2dgs.gaussians import Gaussians
    from taichi2dgs.limits import set_memory_limit
    from taichi2dgs.metrics import psnr
    from taichi2dgs.rendering import reference
    from taichi2dgs.rendering.mips import render_mips
    from taichi2dgs.rendering.passes import free
    from taichi2dgs.rendering.render import render
    from taichi2dgs.rendering.stack import render_stack
    from taichi2dgs.runtime import current as backend
    from taichi2dgs.runtime import init
    from taichi2dgs.settings import RenderSettings
    from taichi2dgs.storage.files import write_image
    from taichi2dgs.storage.maps import Map
    from taichi2dgs.storage.pictures import read_image
    from taichi2dgs.storage.stacks import read_stack
    from taichi2dgs.storage.t2d import load

__version__ = "0.1.0"
_HOMES = {
    "backend": "taichi2dgs.runtime.current",
    "draw": "taichi2dgs.draw",
    "encode": "taichi2dgs.encoding.encode",
    "encode_batch": "taichi2dgs.encoding.encode_batch",
    "fit": "taichi2dgs.fitting.fit.fit",
    "fit_batch": "taichi2dgs.fitting.batch.fit_batch",
    "FitInterrupted": "taichi2dgs.fitting.options.FitInterrupted",
    "FitOptions": "taichi2dgs.fitting.options.FitOptions",
    "FitResult": "taichi2dgs.fitting.options.FitResult",
    "free": "taichi2dgs.rendering.passes.free",
    "Gaussians": "taichi2dgs.gaussians.Gaussians",
    "init": "taichi2dgs.runtime.init",
    "load": "taichi2dgs.storage.t2d.load",
    "Map": "taichi2dgs.storage.maps.Map",
    "psnr": "taichi2dgs.metrics.psnr",
    "read_image": "taichi2dgs.storage.pictures.read_image",
    "read_stack": "taichi2dgs.storage.stacks.read_stack",
    "reference": "taichi2dgs.rendering.reference",
    "render": "taichi2dgs.rendering.render.render",
    "render_mips": "taichi2dgs.rendering.mips.render_mips",
    "render_stack": "taichi2dgs.rendering.stack.render_stack",
    "RenderSettings": "taichi2dgs.settings.RenderSettings",
    "Report": "taichi2dgs.fitting.options.Report",
    "set_memory_limit": "taichi2dgs.limits.set_memory_limit",
    "write_image": "taichi2dgs.storage.files.write_image",
}
__all__ = [
    "FitInterrupted",
    "FitOptions",
    "FitResult",
    "Gaussians",
    "Map",
    "RenderSettings",
    "Report",
    "backend",
    "draw",
    "encode",
    "encode_batch",
    "fit",
    "fit_batch",
    "free",
    "init",
    "load",
    "psnr",
    "read_image",
    "read_stack",
    "reference",
    "render",
    "render_mips",
    "render_stack",
    "set_memory_limit",
    "write_image",
]

__getattr__, __dir__ = lazy(__name__, _HOMES)
