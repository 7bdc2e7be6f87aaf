"""LARS: each tensor's step is scaled to its own length.

You, Gitman, Ginsburg 2017 (arXiv:1708.03888). The papers' codes differ in where the learning rate
enters, what the ratio's denominator is and which tensors are adapted; `FORMS` has them as a table.

    g ← g + λ·w            unless the group is excluded
    r = η·|w| / |g|        1 where a length is 0, or the group is excluded
    v ← μ·v + r·g          w ← w − lr·v

Legend: w a tensor of weights, g its gradient, v its momentum buffer, η trust, λ weight decay.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["FORMS", "Lars", "LarsForm"]

#: (weights, gradient, gradient with decay, weight decay) → the ratio's denominator
Denominator = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def _decayed(w: Tensor, g: Tensor, decayed: Tensor, decay: float) -> Tensor:
    length: Tensor = decayed.norm()
    return length


@dataclass(frozen=True)
class LarsForm:
    """One of the papers' forms.

    Attributes:
        denominator: of the ratio.
        rate_inside: the buffer holds lr·r·g, so that an earlier step keeps its learning rate.
        adapts_all: excluded groups are adapted and decayed like the others.
        decays_where_still: decay also where a length is 0, and so nothing is adapted.
    """

    denominator: Denominator = _decayed
    rate_inside: bool = False
    adapts_all: bool = False
    decays_where_still: bool = True


#: Where each form comes from: google-research/simclr; facebookresearch/moco-v3 and barlowtwins;
#: zdaxie/PixPro; NVIDIA/apex LARC with clip=False around SGD, as SwAV has it.
FORMS: Final[dict[str, LarsForm]] = {
    "simclr": LarsForm(rate_inside=True),
    "moco_v3": LarsForm(),
    "pixpro": LarsForm(lambda w, g, decayed, decay: decayed.norm() + 1e-8),
    "larc": LarsForm(
        lambda w, g, decayed, decay: g.norm() + decay * w.norm() + 1e-8,
        adapts_all=True,
        decays_where_still=False,
    ),
}


class Lars(Optimizer):
    """SGD with momentum whose steps are scaled tensor by tensor.

    A parameter group with `excluded = True` (biases and norms) is neither decayed nor adapted,
    unless the form adapts all.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        momentum: μ.
        weight_decay: λ.
        trust: η.
        form: of `FORMS`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        form: str = "moco_v3",
    ) -> None:
        self.form = FORMS[form]
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "excluded": False,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; see `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        return loss

    def _step(self, parameter: Tensor, group: dict[str, Any]) -> None:
        assert parameter.grad is not None
        scaled = self._scaled(parameter, parameter.grad, group)
        if self.form.rate_inside:
            scaled = scaled * group["lr"]
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(scaled)
        parameter.sub_(buffer if self.form.rate_inside else group["lr"] * buffer)

    def _scaled(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Return r·g; without a wait for the device."""
        if group["excluded"] and not self.form.adapts_all:
            return gradient
        decay = group["weight_decay"]
        decayed = gradient.add(weights, alpha=decay)
        denominator = self.form.denominator(weights, gradient, decayed, decay)
        length = weights.norm()
        compared = gradient if self.form.adapts_all else decayed
        moves = (length > 0) & (compared.norm() > 0)
        ratio = torch.where(moves, group["trust"] * length / denominator, 1.0)
        if not self.form.decays_where_still:
            decayed = torch.where(moves, decayed, gradient)
        return decayed * ratio
