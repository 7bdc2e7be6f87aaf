"""CLIP: of the batch's captions each picture finds its own, and each caption its picture.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021,
arXiv:2103.00020, §2.3 and figure 3. The temperature is learned. Any two modalities will do: video,
images or sound with text, or video with sound. With a temperature that stays it is the method gdt
under the plan "clip".

Legend: B pairs of this rank, K pairs of all ranks, D embedding.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, Plan, embed_in_chunks, global_mean
from models.method import Losses, Method, MethodOptions, Setting
from models.parts.pairs import check_pairs, in_pairs, of_all_ranks
from models.towers import Towers

#: Least temperature that is learned, as in the authors' code (and open_clip's, for SigLIP too).
LEAST_TEMPERATURE = 0.01


@dataclass(frozen=True)
class PairOptions(MethodOptions):
    """What CLIP and SigLIP share.

    Attributes:
        embedding_dim: length of the embedding that both modalities are projected to.
        temperature: ρ at the start; from then on it is learned, and never below 0.01.
    """

    embedding_dim: int = 512
    temperature: float = 0.07

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim")
        ok = LEAST_TEMPERATURE <= self.temperature <= 1
        self._check("temperature", ok, f"from {LEAST_TEMPERATURE} to 1, where it is kept")


@dataclass(frozen=True)
class CLIPOptions(PairOptions):
    """`[method]`: each row of one modality against all of the other, both ways.

    Attributes:
        name: "clip".
    """

    name: Literal["clip"] = "clip"


class CLIP(Method):
    """An encoder and a linear projection for each of two modalities, and a learned temperature.

    Raises:
        ValueError: the plan does not give each sample one row in each of two modalities.
    """

    options_type: ClassVar[type[MethodOptions]] = CLIPOptions
    embeds_in_chunks = True

    def __init__(self, options: PairOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        check_pairs(self.plan, f"{type(self).__name__} compares two modalities of each sample")
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: nn.Linear(features_dim, options.embedding_dim, bias=False),
        )
        self.log_scale = nn.Parameter(torch.tensor(-math.log(options.temperature)))

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar, and the temperature."""
        if self.num_chunks == 1:
            embeddings, codes = self.towers(batch)
        else:
            embeddings, codes = embed_in_chunks(self.towers, batch.parts(self.num_chunks))
        first, second = in_pairs(self.plan, embeddings, codes)  # B × D each
        with torch.autocast(embeddings.device.type, enabled=False):
            loss = global_mean(self.row_losses(first, second))
        return Losses(loss, {"temperature": (-self.log_scale).exp()})

    def row_losses(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the loss of each pair, [B], of embeddings of length 1."""
        scale = self.log_scale.exp()
        return (
            row_cross_entropy(first, second, scale) + row_cross_entropy(second, first, scale)
        ) / 2

    def after_step(self, step: int) -> None:
        """Keep the temperature from 0.01 to 1."""
        with torch.no_grad():
            self.log_scale.clamp_(0, -math.log(LEAST_TEMPERATURE))

    @classmethod
    def loss_of_equal_embeddings(cls, plan: Plan, batch_size: int) -> float | None:
        """Return log B: every row of the other modality is as likely."""
        return math.log(batch_size)


def row_cross_entropy(queries: Tensor, keys: Tensor, scale: Tensor | float) -> Tensor:
    """Return how surprising each query's own key is among those of all ranks, [B].

    Args:
        queries: [B, D].
        keys: [B, D], one for each query.
        scale: that their products are multiplied by.
    """
    every, own = of_all_ranks(keys)  # K × D
    return F.cross_entropy(scale * queries @ every.T, own, reduction="none")
