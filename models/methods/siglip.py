"""SigLIP: tell of every picture and every caption of the batch if they belong together.

Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023, arXiv:2303.15343, §3.2 and
algorithm 1. Temperature and bias are learned; the bias starts where almost no pair belongs
together, as almost none does.

Legend: B pairs of this rank, K pairs of all ranks, D embedding.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Plan
from models.method import Setting
from models.methods.clip import CLIP, PairOptions
from models.parts.pairs import of_all_ranks


@dataclass(frozen=True)
class SigLIPOptions(PairOptions):
    """`[method]`: a yes or no for every pair of rows of the two modalities.

    Attributes:
        name: "siglip".
        bias: b at the start; it is learned.
    """

    name: Literal["siglip"] = "siglip"
    temperature: float = 0.1
    bias: float = -10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("bias", math.isfinite(self.bias), "a number")


class SigLIP(CLIP):
    """CLIP's encoders and projections, a learned temperature, and a learned bias."""

    options_type = SigLIPOptions

    def __init__(self, options: SigLIPOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.bias = nn.Parameter(torch.tensor(options.bias))

    def row_losses(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of each row of `first`, [B]: summed over all rows of `second`."""
        every, own = of_all_ranks(second)  # K × D
        logits = self.log_scale.exp() * first @ every.T + self.bias  # B × K
        belongs = F.one_hot(own, len(every)) == 1
        return F.softplus(torch.where(belongs, -logits, logits)).sum(dim=1)

    @classmethod
    def loss_of_equal_embeddings(cls, plan: Plan, batch_size: int) -> float | None:
        """Return None: it depends on temperature and bias, which are learned."""
        return None
