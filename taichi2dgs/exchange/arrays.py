"""Gaussians as arrays of NumPy, exactly; and the files of others that become Gaussians."""

from __future__ import annotations

import io
import math
import pickle
import warnings
import zipfile
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from taichi2dgs.checks import checked_size
from taichi2dgs.gaussians import Gaussians
from taichi2dgs.settings import MAX_CHANNELS, RenderSettings
from taichi2dgs.storage import maps, t2d
from taichi2dgs.storage.paths import contents, one_line
from taichi2dgs.storage.streams import Reader

OURS = ("xy", "log_scale", "theta", "color", "size", "top_k", "cutoff", "eps", "blend")
MAPS = "maps"  # where channels have names or other kinds, as a .t2d file has them
VIEWERS = ("xyz", "scaling", "rotation", "color", "resolution")
MOST_BYTES = t2d.MAX_K * (5 + MAX_CHANNELS) * 8  # of all arrays, uncompressed
# GaussianImage sums all Gaussians, and leaves out weights below 1/255. Its pixels have their
# centres at whole numbers, and it adds a bound to what it stores of scales.
SUM = RenderSettings(blend="sum", cutoff=math.sqrt(2 * math.log(255)))
HALF, BOUND = 0.5, 0.5
SMALLEST = 1e-3  # pixels


class Imported(NamedTuple):
    """Gaussians of a file of others.

    Args:
        gaussians: those that are whole.
        kind: of the file, in a few words.
        left_out: how many were not, as a number of theirs is not finite.
    """

    gaussians: Gaussians
    kind: str
    left_out: int


def npz(gaussians: Gaussians) -> bytes:
    """Return a NumPy archive with everything that makes the Gaussians, exactly as it is."""
    g, s = gaussians, gaussians.settings
    tensors = {name: getattr(g, name).detach().cpu().numpy() for name in OURS[:4]}
    more: dict[str, Any] = {}
    if g.maps:
        more[MAPS] = np.frombuffer(maps.packed(g.maps), np.uint8)
    stream = io.BytesIO()
    np.savez(
        stream, **tensors, size=np.array(g.size), top_k=np.array(s.top_k),
        cutoff=np.array(s.cutoff), eps=np.array(s.eps), blend=np.array(s.blend),
        **more,
    )  # fmt: skip
    return stream.getvalue()


def read(path: str, size: tuple[int, int] | None = None) -> Imported:
    """Read Gaussians from a file that is not a .t2d: nothing in it is run.

    Args:
        path: of the file: an archive that `npz` made, one of the viewer gaussian_image, or a
            checkpoint of GaussianImage.
        size: (height, width) of the picture in pixels, which a checkpoint does not hold.

    Raises:
        ValueError: it is none of these, or damaged; the message names it.
    """
    data = contents(path, t2d.MAX_BYTES)
    try:
        found = _arrays(data)
        if found is not None and set(OURS) <= set(found):
            return _own(found)
        if found is not None and set(VIEWERS) <= set(found):
            return _of_viewer(found)
        if found is not None:
            raise ValueError(f"an archive of {', '.join(sorted(found)[:9]) or 'nothing'}")
        return _of_checkpoint(_checkpoint(data), size)
    except ValueError as error:
        raise ValueError(f"{path}: no Gaussians of a known kind ({one_line(error)})") from error


def _arrays(data: bytes) -> dict[str, np.ndarray] | None:
    """Return the arrays of an archive of NumPy, or None if it is none."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except Exception:  # damaged archives raise anything, NotImplementedError too
        return None
    if not entries or not all(entry.filename.endswith(".npy") for entry in entries):
        return None
    if sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise ValueError(f"arrays of more than {MOST_BYTES} bytes")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # of zipfile, zlib and NumPy
        raise ValueError(one_line(error)) from error


def _own(arrays: dict[str, np.ndarray]) -> Imported:
    _check_numbers(arrays, OURS[:8])
    if arrays["blend"].dtype.kind != "U" or any(arrays[name].ndim for name in OURS[5:]):
        raise ValueError("top_k, cutoff, eps and blend are not one number each, and a name")
    settings = RenderSettings(*(arrays[name].item() for name in OURS[5:]))
    xy, log_scale, theta, color = (torch.from_numpy(arrays[name].copy()) for name in OURS[:4])
    size = arrays["size"].tolist()
    data = arrays[MAPS].tobytes() if MAPS in arrays else b""
    found = maps.unpacked(Reader(data, len(xy)), color.shape[1]) if data else ()
    return Imported(Gaussians(xy, log_scale, theta, color, size, settings, found), "taichi2dgs", 0)


def _of_viewer(arrays: dict[str, np.ndarray]) -> Imported:
    """Gaussians of the viewer gaussian_image: centres in [-1, 1], angles of the other sign."""
    _check_numbers(arrays, VIEWERS)
    width, height = checked_size(arrays["resolution"].tolist(), "resolution")
    xyz, scaling, rotation, color = (
        torch.from_numpy(arrays[name].astype(np.float32)) for name in VIEWERS[:4]
    )
    return _made(xyz, scaling, -rotation.reshape(-1), color, (height, width), "gaussian_image")


def _check_numbers(arrays: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    for name in names:
        if arrays[name].dtype.kind not in "fiu":
            raise ValueError(f"{name} is of {arrays[name].dtype}, no numbers")


def _checkpoint(data: bytes) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint, by torch's reader that runs nothing of it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of pickle
            found = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, OSError) as error:
        raise ValueError(f"no archive of NumPy, and no checkpoint: {one_line(error)}") from error
    except Exception as error:  # whatever else damaged bytes make of it
        raise ValueError(
            f"no archive of NumPy, and no checkpoint: {type(error).__name__}"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"a checkpoint of a {type(found).__name__}")
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    return {str(name): value.detach().float() for name, value in tensors.items()}


def _of_checkpoint(found: dict[str, Tensor], size: tuple[int, int] | None) -> Imported:
    """Gaussians of GaussianImage, with Cholesky factors or with rotation and scale."""
    factors = {"_xyz", "_features_dc", "_cholesky"} <= set(found)
    if not factors and not {"_xyz", "_features_dc", "_scaling", "_rotation"} <= set(found):
        raise ValueError(f"a checkpoint of {', '.join(sorted(found)[:9]) or 'no tensors'}")
    if size is None:
        raise ValueError("a checkpoint of GaussianImage has no size; expected --size HxW too")
    xyz, color = found["_xyz"].tanh(), found["_features_dc"]
    if "_opacity" in found:
        color = color * found["_opacity"].reshape(-1, 1)
    if factors:
        scaling, theta = _axes(found["_cholesky"])
    else:
        scaling = (found["_scaling"] + BOUND).abs()
        theta = -2 * math.pi * found["_rotation"].reshape(-1).sigmoid()
    return _made(xyz, scaling, theta, color, checked_size(size, "size"), "GaussianImage")


def _axes(stored: Tensor) -> tuple[Tensor, Tensor]:
    """Return deviations and angles of Cholesky factors, as stored. [N, 3] -> [N, 2], [N]"""
    l0, l1, l2 = (stored + stored.new_tensor([BOUND, 0.0, BOUND])).double().unbind(1)
    factor = torch.stack([torch.stack([l0, 0 * l0], 1), torch.stack([l1, l2], 1)], 1)
    whole = factor.isfinite().all(2).all(1)
    safe = torch.where(whole[:, None, None], factor, torch.eye(2).to(factor))
    axes, values, _ = torch.linalg.svd(safe)
    theta = torch.atan2(axes[:, 1, 0], axes[:, 0, 0])
    return torch.where(whole[:, None], values, math.nan).float(), theta.float()


def _made(
    xyz: Tensor, scaling: Tensor, theta: Tensor, color: Tensor, size: tuple[int, int], kind: str
) -> Imported:
    """Return Gaussians of GaussianImage's numbers, without those that are not finite."""
    n = len(xyz)
    if xyz.shape != (n, 2) or scaling.shape != (n, 2) or theta.shape != (n,) or len(color) != n:
        shapes = ", ".join(str(list(part.shape)) for part in (xyz, scaling, theta, color))
        raise ValueError(f"centres, scales, angles and colours of shapes {shapes}")
    height, width = size
    xy = (xyz + 1) / 2 * torch.tensor([width, height], dtype=torch.float32) + HALF
    parts = [xy, scaling.clamp(min=SMALLEST).log(), theta[:, None], color.reshape(n, -1)]
    packed = torch.cat(parts, dim=1)
    whole = packed.isfinite().all(1)
    return Imported(Gaussians.from_packed(packed[whole], size, SUM), kind, int((~whole).sum()))
