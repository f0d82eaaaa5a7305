"""Small renders and gradients in every configuration against the dense float64 reference.

Usage: run.sh python check_small.py, from the root of a checkout; about a minute
"""

import itertools
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from conftest import scatter
from test_render import PARAMETERS, with_gradients

import taichi2dgs
from taichi2dgs.rendering import reference

# The reference rounds the spread of small renders to float32.
BARS = {(torch.float32, None): 1e-4, (torch.float64, None): 1e-9, (torch.float64, (9, 17)): 1e-7}


def main() -> int:
    print("backend", taichi2dgs.init())
    worst = 0.0
    for channels, blend, dtype, size in itertools.product(
        (1, 3, 4), ("normalized", "sum"), (torch.float32, torch.float64), (None, (9, 17))
    ):
        g = scatter(40, (17, 33), channels=channels, dtype=dtype, margin=0.0)
        generator = torch.Generator().manual_seed(1)
        cotangent = torch.randn(*(size or g.size), channels, generator=generator)
        settings = {"blend": blend, "size": size}  # at half the size, which other kernels render
        image, grads = with_gradients(taichi2dgs.render, g, cotangent, **settings)
        right, exact = with_gradients(
            reference.render, g.to(dtype=torch.float64), cotangent, **settings
        )
        errors = {"image": float((image - right).abs().max() / right.abs().max())}
        for name in PARAMETERS:
            error = (grads[name] - exact[name]).abs().max() / exact[name].abs().max()
            errors[name] = float(error)
        worst = max(worst, max(errors.values()) / BARS.get((dtype, size), 1e-4))
        shown = " ".join(f"{name} {error:.1e}" for name, error in errors.items())
        print(channels, blend, str(dtype)[6:], size or g.size, shown, flush=True)
    print(f"the worst error is {worst:.3f} of its bar")
    return int(worst > 1)


if __name__ == "__main__":
    sys.exit(main())
