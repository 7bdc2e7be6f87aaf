"""A copy of a network that follows it slowly: the momentum encoder of MoCo, the target of BYOL."""

import copy
import math
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import nn
from torchvision.ops import StochasticDepth


@dataclass(frozen=True)
class MomentumSchedule:
    """The share m of the copy that is kept at a step.

    Attributes:
        momentum: m at the first step.
        rises: to 1 at the last step k = K, as 1 − (1 − m)·(cos(πk/K) + 1)/2 (BYOL, §3.2).
        num_steps: K, steps of the run; only where it rises.
    """

    momentum: float
    rises: bool = False
    num_steps: int = 1

    def at(self, step: int) -> float:
        """Return m at a step, zero-based over the run."""
        if not self.rises:
            return self.momentum
        return (
            1 - (1 - self.momentum) * (math.cos(math.pi * min(1.0, step / self.num_steps)) + 1) / 2
        )


NetworkT = TypeVar("NetworkT", bound=nn.Module)


class MomentumCopy(nn.Module, Generic[NetworkT]):
    """θ_copy ← m·θ_copy + (1 − m)·θ, parameter by parameter; no gradient reaches it.

    Buffers (the statistics of batch norm) are the copy's own, as in the papers' code. Of a ViT
    whose paths are dropped (`encoders.drop_path`) the copy keeps them all, as DINO's teacher does.

    Args:
        source: the network that is copied and followed.
        schedule: m at each step.
    """

    network: NetworkT

    def __init__(self, source: NetworkT, schedule: MomentumSchedule) -> None:
        super().__init__()
        self.network = copy.deepcopy(source).requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, StochasticDepth):
                module.p = 0.0
        self.schedule = schedule

    @torch.no_grad()
    def follow(self, source: NetworkT, step: int) -> None:
        """Move towards the source, as the schedule has it for a step."""
        momentum = self.schedule.at(step)
        pairs = zip(source.parameters(), self.network.parameters(), strict=True)
        for ours, theirs in pairs:
            theirs.mul_(momentum).add_(ours, alpha=1 - momentum)
