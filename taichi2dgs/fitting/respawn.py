"""Moving the Gaussians that matter least to where the error is, a few times during a fit.

Gradients carry Gaussians only so far: where many lie too close together, and few where there is
detail, a fit does not even it out. So at a few moments each Gaussian is asked what leaving it out
would cost, in squared error (`kernels/cores_removal.py`), and each pixel how wrong it is. The
cheapest Gaussians go to the worst pixels, the cheapest to the worst, as long as that pays. The
learning rates go on as if nothing had happened: begun anew they would undo what was won.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FEWEST, MOMENTS = 2, 5  # where Gaussians lie close together, and where they have room
SPACING = 2.29  # pixels: of 50,000 Gaussians on 512x512
CELL = 8  # pixels: at most one Gaussian is set down in each square of this side, at its worst pixel
# Pixels, a deviation of what is set down: it reaches the pixels next to its own. Where a fit looks
# between the pixels, it has to fill one.
SCALE, BETWEEN_SCALE = 0.4, 0.8
UNTIL = 0.5  # of the budget: what is moved later has too little time left
NEIGHBOURS, AT_ONCE = 8, 4  # of so many Gaussians in a row, at most so many move at once
RECOVERY = 12  # steps that a fit needs to make up for what goes, and to win by what comes
PAYS = 8.0  # a move pays where leaving a Gaussian out costs less than this times the pixel's error


def moves(
    costs: Tensor,
    target: Tensor,
    residual: Tensor,
    share: float,
    blend: str,
    scale: float,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose Gaussians to move and what becomes of them.

    Args:
        costs: squared error that leaving out each Gaussian costs, in the order in which a fit keeps
            them: along a curve through the picture, so that neighbours in it are close by. [N]
        target: the picture. [H, W, C]
        residual: the clamped render minus the picture. [H, W, C]
        share: of the Gaussians, at most, that move.
        blend: how they blend; what is set down mends its pixel by itself, or with those around it.
        scale: a deviation of what is set down, in pixels.
        weight: how much each pixel counts; None for all alike. [H, W]

    Returns:
        Their indices, and their packed parameters. int64 [M], [M, 5 + C]
    """
    errors, places = worst_pixels(errors_of(residual, weight), int(share * len(costs)))
    cheapest, rows = spared(costs).sort(stable=True)
    cheapest, rows = cheapest[: len(places)], rows[: len(places)]
    pays = (cheapest < PAYS * errors) & (errors >= 0)
    rows, places = rows[pays], places[pays]
    return rows, set_down(places, target, residual, blend, scale)


def spared(costs: Tensor) -> Tensor:
    """Return costs in which those are infinite that must not go together with their neighbours.

    A Gaussian costs little where its neighbours can stand in for it. Where a sky loses all that it
    has at once, each of which costs nothing, a fit falls by 15 dB and has to come back.

    Args:
        costs: as `moves` takes them. [N]
    """
    rest = -len(costs) % NEIGHBOURS
    rows = torch.cat([costs, costs.new_full((rest,), math.inf)]).view(-1, NEIGHBOURS)
    rank = rows.argsort(dim=1, stable=True).argsort(dim=1)
    kept = (rank >= AT_ONCE) & (rows > 0)
    return rows.masked_fill(kept, math.inf).view(-1)[: len(costs)]


def resized(
    costs: Tensor,
    target: Tensor,
    residual: Tensor,
    k: int,
    blend: str,
    scale: float,
    weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose Gaussians to keep, and others to add at the worst pixels, so that there are k.

    Args:
        k: how many there are to be; at most one more for each pixel.
        costs, target, residual, blend, scale, weight: as `moves` takes them.

    Returns:
        Indices of those that stay, in their order, and packed parameters of those that come.
        int64 [M], [k - M, 5 + C]
    """
    order = costs.sort(descending=True, stable=True).indices
    _, places = worst_pixels(errors_of(residual, weight), max(0, k - len(costs)))
    return order[:k].sort().values, set_down(places, target, residual, blend, scale)


def set_down(places: Tensor, target: Tensor, residual: Tensor, blend: str, scale: float) -> Tensor:
    """Return packed parameters of Gaussians that mend some pixels. [M, 5 + C]

    Args:
        places: indices into the flattened picture. int64 [M]
        target, residual, blend, scale: as `moves` takes them.
    """
    y, x = places // target.shape[1], places % target.shape[1]
    centres = torch.stack([x, y], 1).to(target) + 0.5
    shapes = centres.new_tensor([math.log(scale), math.log(scale), 0.0])
    colors = target[y, x] if blend == "normalized" else -residual[y, x]
    return torch.cat([centres, shapes.expand(len(places), 3), colors], 1)


def moments(share: float, spacing: float, grows: bool = False) -> list[tuple[float, float]]:
    """Return when Gaussians move, as shares of the budget, and how many, as shares of them all.

    With a share of 0.2 and a spacing of 5 pixels or more, at most 0.2 of the Gaussians move after
    a tenth of the budget, at most 0.16 after two tenths, and so on; at most 0.04 after half of it.

    Args:
        share: of the Gaussians that may move at the first moment; 0 for no moments.
        spacing: side of the square that each Gaussian has to itself, in pixels. Where they lie
            closer, they move at fewer moments, of which each takes as long as two steps, and closer
            than `SPACING`, fewer move: there each one costs little, but all of them much.
        grows: whether their number changes at these moments, too, which then are as many as can be.
    """
    share *= room(spacing)
    count = MOMENTS if grows else min(max(round(spacing), FEWEST), MOMENTS)
    count *= share > 0
    return [(UNTIL * (n + 1) / count, share * (1 - n / count)) for n in range(count)]


def recovery(spacing: float) -> int:
    """Return how many steps a fit must have left for a moment to pay at some spacing.

    Where Gaussians are crowded few move, so that little is won by the time that a moment takes:
    with 100,000 on 512x512 pixels it is 48 steps. Fits of 24 to 48 steps lost 0.4 dB by two moments
    at equal time, and fits of 100, in which 75 and 50 steps are left then, won 0.2.
    """
    return round(RECOVERY / room(spacing))


def room(spacing: float) -> float:
    """Return how far Gaussians at some spacing are from being crowded: 1 where they are not."""
    return min(1.0, spacing / SPACING) ** 4


def errors_of(residual: Tensor, weight: Tensor | None) -> Tensor:
    """Return the squared error of each pixel by its weight, -1 where it does not count. [H, W]

    Args:
        residual, weight: as `moves` takes them.
    """
    errors = residual.square().sum(2)
    return errors if weight is None else (errors * weight).masked_fill(weight == 0, -1.0)


def worst_pixels(errors: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the worst pixel of each cell, of as many cells as asked for, the worst first.

    Cells have a side of `CELL` pixels, or half of that, or a quarter, where there are too few of
    them that have a pixel that counts. For 3 pixels of a picture of 6x8 there is only one cell of
    8x8, but there are four of 4x4, of which the lower two are cut off by the edge.

    Args:
        errors: of each pixel, below 0 where it does not count. [H, W]
        count: of pixels wanted.

    Returns:
        Errors and indices into the flattened picture. [M], int64 [M]
    """
    width = errors.shape[1]
    count, cell = min(count, errors.numel()), CELL
    worst, inside = _worst_of_cells(errors, cell)
    while cell > 1 and int((worst >= 0).sum()) < count:
        cell //= 2
        worst, inside = _worst_of_cells(errors, cell)
    columns = -(-width // cell)
    worst, order = worst.sort(descending=True, stable=True)
    worst, order, inside = worst[:count], order[:count], inside[order[:count]]
    y, x = order // columns * cell + inside // cell, order % columns * cell + inside % cell
    return worst, y * width + x


def _worst_of_cells(errors: Tensor, cell: int) -> tuple[Tensor, Tensor]:
    """Return the largest error of each cell of some side, and its pixel in the cell, row by row."""
    height, width = errors.shape
    rows, columns = -(-height // cell), -(-width // cell)
    padded = errors.new_full((rows * cell, columns * cell), -1.0)
    padded[:height, :width] = errors
    cells = padded.reshape(rows, cell, columns, cell).transpose(1, 2).flatten(2).flatten(0, 1)
    return cells.max(1)  # type: ignore[return-value]
