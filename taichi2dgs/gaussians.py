"""Gaussians: the one data type that every layer passes on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taichi2dgs import edit
from taichi2dgs.checks import checked_size, shown
from taichi2dgs.settings import DEFAULT, MAX_CHANNELS, Blend, Quality, RenderSettings
from taichi2dgs.storage import maps as maps_of
from taichi2dgs.tensors import check_dense, check_tensor, is_dense, kind_of

GEOMETRY = 5  # columns of packed parameters before those of colour


@dataclass(frozen=True, eq=False)
class Gaussians:
    """N two-dimensional Gaussians and the size of the picture that they stand for.

    Args:
        xy: centres in pixels, x right, y down; the top-left pixel's centre is (0.5, 0.5). [N, 2]
        log_scale: natural log of the two standard deviations in pixels. [N, 2]
        theta: rotation of the first axis in radians, from x towards y. [N]
        color: colour, linear in the render and not clamped; 1 to 16 channels. Of 2 or 4, the last
            is the opacity, by which the others are multiplied. [N, C]
        size: (height, width) of the picture in pixels.
        settings: how they are meant to blend.
        maps: what the channels are, see `taichi2dgs.storage.maps.Map`; none of a plain picture.

    All four tensors have the same float type (float32 or float64) and device.
    `len(g)` is N, and `g[mask]`, `g[:100]` or `g[indices]` are some of them, in that order.

    Raises:
        ValueError: a shape, type, device, size or value is not as stated.

    >>> g = Gaussians(torch.tensor([[8.0, 8.0]]), torch.ones(1, 2), torch.zeros(1),
    ...               torch.tensor([[1.0, 0.5, 0.0]]), (16, 16))
    >>> g
    Gaussians(1; 16x16; 3 channels; cpu)
    >>> g.render().shape
    torch.Size([16, 16, 3])
    """

    xy: Tensor
    log_scale: Tensor
    theta: Tensor
    color: Tensor
    size: tuple[int, int]
    settings: RenderSettings = DEFAULT
    maps: tuple[maps_of.Map, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", checked_size(self.size, "size"))
        n = self.xy.shape[0] if is_dense(self.xy) and self.xy.ndim else "N"
        expected = {"xy": (n, 2), "log_scale": (n, 2), "theta": (n,), "color": (n, None)}
        for name, shape in expected.items():
            check_tensor(name, getattr(self, name), shape, self.xy)
        channels = self.color.shape[1]
        if not 1 <= channels <= MAX_CHANNELS:
            raise ValueError(f"color has {channels} channels; expected 1 to {MAX_CHANNELS}")
        if not isinstance(self.settings, RenderSettings):
            raise ValueError(f"settings={shown(self.settings)}; expected RenderSettings")
        object.__setattr__(self, "maps", maps_of.checked(self.maps, channels))

    def __len__(self) -> int:
        return self.xy.shape[0]

    def __repr__(self) -> str:
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        height, width = self.size
        return f"Gaussians({len(self):,}; {height}x{width}; {channels}; {self.xy.device})"

    def __getitem__(self, index: Any) -> Gaussians:
        """Return some of the Gaussians: those of a slice, of booleans [N] or of indices.

        Raises:
            ValueError: it is none of these, or an index is out of range.
        """
        return self._map(lambda tensor: tensor[edit.rows(index, len(self), tensor.device)])

    @property
    def channels(self) -> int:
        """Number of colour channels C."""
        return self.color.shape[1]

    def replace(self, **changes: Any) -> Gaussians:
        """Return the same Gaussians with some fields changed: `g.replace(color=new)`.

        Raises:
            ValueError: there is no such field, or a value is not as stated for it.
        """
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            known = ", ".join(self.__dataclass_fields__)
            raise ValueError(f"{unknown[0]}: Gaussians have no such field; expected {known}")
        return replace(self, **changes)

    def covariance(self) -> Tensor:
        """Return R(theta) diag(exp(2 log_scale)) R(theta)^T, in pixels squared. [N, 2, 2]

        Source: paper Eq. 2.
        """
        rotation = edit.rotation(self.theta)
        return rotation @ torch.diag_embed((2 * self.log_scale).exp()) @ rotation.mT

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None):
        """Return the same Gaussians on another device, or of another float type.

        Raises:
            ValueError: torch has no such device, or the type is neither float32 nor float64.
        """
        try:
            parts = {name: t.to(device=device, dtype=dtype) for name, t in self._tensors()}
        except (AssertionError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"device={shown(device)}, dtype={shown(dtype)}: {reason}") from error
        return replace(self, **parts)

    def detach(self) -> Gaussians:
        """Return the same Gaussians without their autograd history."""
        return self._map(Tensor.detach)

    def packed(self) -> Tensor:
        """Return x, y, two log-scales, theta and colour side by side. [N, 5 + C]"""
        parts = (self.xy, self.log_scale, self.theta[:, None], self.color)
        plain = all(type(part) is Tensor and part.device.type == "cpu" for part in parts)
        if plain and not (torch.is_grad_enabled() and any(part.requires_grad for part in parts)):
            # By NumPy: torch's threads would keep a core busy for a while after their work, which
            # a render that follows needs.
            return torch.from_numpy(np.concatenate([part.detach().numpy() for part in parts], 1))
        return torch.cat(parts, dim=1)

    @classmethod
    def from_packed(
        cls,
        params: Tensor,
        size: tuple[int, int],
        settings: RenderSettings = DEFAULT,
        maps: Any = (),
    ) -> Gaussians:
        """Return the Gaussians of a packed tensor. [N, 5 + C]

        Raises:
            ValueError: it is of another shape or type, or the size is none.
        """
        check_dense(params, "params")
        if params.ndim != 2 or params.shape[1] <= GEOMETRY:
            raise ValueError(f"params has shape {list(params.shape)}; expected [N, 5 + C]")
        parts = params.split([2, 2, 1, params.shape[1] - GEOMETRY], dim=1)
        xy, log_scale, theta, color = (part.contiguous() for part in parts)
        return cls(xy, log_scale, theta[:, 0], color, size, settings, maps)

    def render(
        self,
        size: tuple[int, int] | None = None,
        crop: tuple[int, int, int, int] | None = None,
        *,
        scale: float | None = None,
        antialias: bool = True,
        top_k: int | None = None,
        cutoff: float | None = None,
        eps: float | None = None,
        blend: Blend | None = None,
        tile: bool | None = None,
    ) -> Tensor:
        """Render to an image; see `taichi2dgs.render`. [H, W, C]"""
        from taichi2dgs.rendering.render import render

        given = {"top_k": top_k, "cutoff": cutoff, "eps": eps, "blend": blend, "tile": tile}
        return render(self, size, crop, scale=scale, antialias=antialias, **given)  # type: ignore[arg-type]

    def save(
        self,
        path: str | os.PathLike[str],
        quality: Quality = "high",
        *,
        image: Any = None,
        refine: int = 0,
        progressive: bool = False,
    ) -> None:
        """Write a .t2d file, complete or not at all; `taichi2dgs.load` reads it.

        Args:
            path: of the file; one that is there is replaced.
            quality: "lossless" keeps float32 parameters and their order, bit for bit. "high",
                "medium" and "small" round them, and sort them along a Z-shaped curve.
            image: that they were fitted to, as `taichi2dgs.fit` takes it, for `refine`.
            refine: steps of a fit that makes up for what rounding costs; the Gaussians themselves
                stay as they are.
            progressive: whether the first quarter of the file is to be a coarse picture.

        Raises:
            ValueError: an argument does not fit, or the file cannot be written; the message names
                it.
        """
        from taichi2dgs.fitting.refine import encode_refined
        from taichi2dgs.storage import t2d

        t2d.write(path, encode_refined(self, quality, image, refine, None, progressive))

    def show(self, other: Any = None, *, height: int = 640) -> Any:
        """Return the page with these Gaussians in it, for the end of a notebook's cell.

        Args:
            other: beside them: an original, as `taichi2dgs.encode` takes, or other Gaussians.
            height: of the frame in pixels.

        Raises:
            ValueError: an argument does not fit, or the sizes differ.
        """
        from taichi2dgs.viewing import notebook

        return notebook.Page(self, other, height)

    def _repr_html_(self) -> str:
        from taichi2dgs.viewing import notebook

        return notebook.of_gaussians(self)

    def select(self, region) -> Gaussians:
        """Return those Gaussians whose centres lie in a part of the picture.

        Args:
            region: (top, left, height, width) in pixels; or booleans, one for each pixel. Centres
                outside the picture are in no mask. [H, W]

        Raises:
            ValueError: it is neither.
        """
        return self[edit.mask(self.xy, self.size, region)]

    def transform(self, matrix, size: tuple[int, int] | None = None) -> Gaussians:
        """Return the Gaussians moved by an affine map: centres and covariances, exactly.

        Args:
            matrix: A and t of x' = A x + t, in pixels, side by side. [2, 3]
            size: (height, width) of the new picture; as before if None.

        Raises:
            ValueError: the matrix is malformed or has no inverse.
        """
        xy, log_scale, theta = edit.affine(self.xy, self.log_scale, self.theta, matrix)
        size = self.size if size is None else size
        return replace(self, xy=xy, log_scale=log_scale, theta=theta, size=size)

    def concat(self, *others: Gaussians) -> Gaussians:
        """Return these Gaussians and others as one picture; where they overlap, they blend.

        Raises:
            ValueError: channels, size, settings, maps, type or device differ.
        """
        for index, other in enumerate(others):
            edit.check_like(self, other, f"others[{index}]")
        parts, names = (self, *others), [name for name, _ in self._tensors()]
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return replace(self, **joined)

    def recolor(self, matrix) -> Gaussians:
        """Return the Gaussians with new colours, linear in the old ones.

        As a normalised render is a mean of colours, it changes in the same way. With opacity, the
        other channels of the matrix are those multiplied by it.

        Args:
            matrix: each row makes a channel of the old ones; a last column, if there, is added.
                [C', C] or [C', C + 1]

        Raises:
            ValueError: the matrix is malformed.
        """
        color = edit.recolored(self.color, matrix)
        return replace(self, color=color, maps=self.maps if color.shape == self.color.shape else ())

    def _map(self, change) -> Gaussians:
        return replace(self, **{name: change(tensor) for name, tensor in self._tensors()})

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name in ("xy", "log_scale", "theta", "color"):
            yield name, getattr(self, name)


def check_gaussians(value: object) -> None:
    """Raise ValueError unless these are Gaussians."""
    if not isinstance(value, Gaussians):
        raise ValueError(f"gaussians is {kind_of(value)}; expected Gaussians")
