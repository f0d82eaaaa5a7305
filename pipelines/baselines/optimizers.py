"""The optimisers that methods move their leaves by."""

from __future__ import annotations

from typing import Any

import torch

from pipelines.baselines.adan import Adan
from pipelines.baselines.parameters import Leaves
from taichi2dgs.checks import number, shown

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adan": Adan}


def check_betas(betas: object, optimizer: str) -> None:
    """Raise ValueError unless an optimiser takes these betas; None, for its own, always goes."""
    if betas is None:
        return
    if optimizer == "adan":
        raise ValueError("betas goes with the optimizers adam and adamw, not with adan")
    pair = betas if isinstance(betas, tuple | list) else ()
    if len(pair) != 2 or not all(0 <= number(beta) < 1 for beta in pair):
        raise ValueError(f"betas={shown(betas)}; expected two numbers of 0 or more, less than 1")


def optimizer_of(
    name: str,
    leaves: Leaves,
    rates: dict[str, float],
    weight_decay: float,
    betas: tuple[float, float] | None,
) -> torch.optim.Optimizer:
    """Return an optimiser of leaves, whose groups also remember the first learning rate.

    Args:
        name: one of `OPTIMIZERS`.
        leaves: what it moves.
        rates: the first learning rate of each leaf.
        weight_decay: of AdamW.
        betas: of Adam and AdamW; None for torch's.
    """
    groups = [
        {"params": [leaf], "lr": rates[name], "first": rates[name]} for name, leaf in leaves.items()
    ]
    more: dict[str, Any] = {"weight_decay": weight_decay} if name == "adamw" else {}
    return OPTIMIZERS[name](groups, **more | ({"betas": tuple(betas)} if betas else {}))
