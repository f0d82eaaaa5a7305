"""The optimiser that GaussianImage uses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class Adan(torch.optim.Optimizer):
    """Adaptive Nesterov momentum: Adam with a third average, of the change of the gradient.

    Args:
        params: tensors or groups of them.
        lr: learning rate.
        betas: what the averages of gradient, change and square keep per step (1 - beta of the
            paper).
        eps: added to the denominator.

    Source: Xie et al., arXiv 2208.06677, Algorithm 1, without weight decay and restarts.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        """Make one step."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._move(param, self.state[param], group)
        return loss

    @staticmethod
    def _move(param: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        grad = param.grad
        assert grad is not None
        if not state:
            state.update({name: torch.zeros_like(param) for name in ("mean", "change", "square")})
            state.update(step=0, before=grad.clone())
        state["step"] += 1
        keep_mean, keep_change, keep_square = group["betas"]
        change = grad - state["before"]
        ahead = grad + keep_change * change
        state["mean"].lerp_(grad, 1 - keep_mean)
        state["change"].lerp_(change, 1 - keep_change)
        state["square"].mul_(keep_square).addcmul_(ahead, ahead, value=1 - keep_square)
        state["before"].copy_(grad)
        unbias = [1 - keep ** state["step"] for keep in group["betas"]]
        towards = state["mean"] / unbias[0] + keep_change * state["change"] / unbias[1]
        size = (state["square"] / unbias[2]).sqrt() + group["eps"]
        param.addcdiv_(towards, size, value=-group["lr"])
