"""Splats as files of 3D viewers: the usual PLY, and glTF with KHR_gaussian_splatting."""

from __future__ import annotations

import json
import struct

import numpy as np

from taichi2dgs.exchange.splats import Splats

Y00 = 0.28209479177387814  # the spherical harmonic of degree 0: a colour is 0.5 + Y00 * coefficient
SIDE = 2.0  # length of the picture's longer side, in units of the scene
DEPTH = 0.02  # from the farthest splat to the nearest, which keeps them in order
FLAT = 1e-4  # deviation of a splat across the plane
FLOAT, ARRAY, POINTS = 5126, 34962, 0  # of glTF
ABOUT = "approximate: made of two-dimensional Gaussians, whose blend is not sorted opacity"


def ply(splats: Splats) -> bytes:
    """Return a PLY file as 3D Gaussian splatting has it: y down, seen along z.

    Scales are logarithms, opacities logits, rotations w, x, y, z.
    """
    place, scale = _in_scene(splats)
    opacity = splats.opacity.clip(1e-4, 1 - 1e-4)
    columns = {
        "x": place[:, 0], "y": place[:, 1], "z": place[:, 2],
        "nx": 0 * place[:, 0], "ny": 0 * place[:, 0], "nz": 0 * place[:, 0],
        **{f"f_dc_{c}": (splats.color[:, c] - 0.5) / Y00 for c in range(3)},
        "opacity": np.log(opacity / (1 - opacity)),
        **{f"scale_{axis}": np.log(scale[:, axis]) for axis in range(3)},
        "rot_0": np.cos(splats.theta / 2), "rot_1": 0 * splats.theta, "rot_2": 0 * splats.theta,
        "rot_3": np.sin(splats.theta / 2),
    }  # fmt: skip
    header = ["ply", "format binary_little_endian 1.0", f"comment {ABOUT}",
              f"element vertex {len(place)}", *(f"property float {name}" for name in columns),
              "end_header\n"]  # fmt: skip
    return "\n".join(header).encode() + np.stack(list(columns.values()), 1).astype("<f4").tobytes()


def glb(splats: Splats) -> bytes:
    """Return a binary glTF file with the extension KHR_gaussian_splatting: y up, seen along -z.

    Scales are linear, opacities in [0, 1], rotations x, y, z, w.
    """
    place, scale = _in_scene(splats)
    zero = 0 * splats.theta
    turn = np.stack([zero, zero, np.sin(-splats.theta / 2), np.cos(splats.theta / 2)], 1)
    arrays = {
        "POSITION": place * [1, -1, -1],
        "KHR_gaussian_splatting:ROTATION": turn,
        "KHR_gaussian_splatting:SCALE": scale,
        "KHR_gaussian_splatting:OPACITY": splats.opacity[:, None],
        "KHR_gaussian_splatting:SH_DEGREE_0_COEF_0": (splats.color - 0.5) / Y00,
    }
    binary, views, accessors = b"", [], []
    for name, array in arrays.items():
        data = np.ascontiguousarray(array, "<f4")
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": data.nbytes,
                      "target": ARRAY})  # fmt: skip
        kind = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}[data.shape[1]]
        accessor = {"bufferView": len(accessors), "componentType": FLOAT, "count": len(data),
                    "type": kind}  # fmt: skip
        if name == "POSITION":  # of which the standard wants the extent
            accessor |= {"min": data.min(0).tolist(), "max": data.max(0).tolist()}
        accessors.append(accessor)
        binary += data.tobytes()
    extension = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                 "sortingMethod": "cameraDistance", "projection": "perspective"}  # fmt: skip
    primitive = {
        "mode": POINTS,
        "attributes": {name: number for number, name in enumerate(arrays)},
        "extensions": {"KHR_gaussian_splatting": extension},
    }
    scene = {
        "asset": {"version": "2.0", "generator": "taichi2dgs", "extras": {"about": ABOUT}},
        "extensionsUsed": ["KHR_gaussian_splatting"],
        "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": len(binary)}], "bufferViews": views, "accessors": accessors,
    }  # fmt: skip
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _in_scene(splats: Splats) -> tuple[np.ndarray, np.ndarray]:
    """Return places and scales in a scene where y goes down and nearer is a smaller z. [N, 3]"""
    height, width = splats.size
    unit = SIDE / max(height, width)
    count = len(splats.xy)
    depth = DEPTH * (0.5 - np.arange(count) / max(count - 1, 1))
    middle = np.array([width / 2, height / 2])
    place = np.concatenate([(splats.xy - middle) * unit, depth[:, None]], 1)
    return place, np.concatenate([splats.scale * unit, np.full((count, 1), FLAT)], 1)
