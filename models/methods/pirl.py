"""PIRL: a picture, and what a pretext task makes of it, each near the sample's row of a bank.

Misra & van der Maaten, "Self-Supervised Learning of Pretext-Invariant Representations", CVPR 2020,
arXiv:1912.01991, §3. View 0 is the picture, view 1 is to be transformed: cut into a jigsaw, or
turned. Where the pretext task is to name what was done, here it is to make no difference. As in the
authors' code only the picture moves the bank, the pieces' scores of the first batch fix the
constant of noise, and each of the two draws negatives of its own.

Legend: B rows, K drawn entries, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gdt import Batch, View, gather_with_gradients, global_mean, normalize
from models.method import Losses, Method, Needs, Setting
from models.methods.instdisc import BankOptions
from models.parts import Jigsaw, MemoryBank, NoiseContrast
from models.parts.heads import moco_head
from models.towers import Towers, at_least_float32

PICTURE, TRANSFORMED = 0, 1  # codes of the factor `augmentation`


@dataclass(frozen=True)
class PIRLOptions(BankOptions):
    """`[method]`: a view and its jigsaw, or itself turned, against a memory bank.

    Attributes:
        name: "pirl".
        num_negatives: K, entries drawn from the whole bank for each row, anew for the transformed.
        pretext: "jigsaw" of the second view's patches, or "rotation" of it by quarter turns.
        num_pieces: of the jigsaw: the n · n patches of the second view's `grid`.
        transformed_share: λ, weight of the transformed view; the picture has 1 − λ.
        head: "linear", or "mlp" with a hidden layer of `hidden_dim`.
        hidden_dim: width of that layer.
    """

    name: Literal["pirl"] = "pirl"
    num_negatives: int = 32000
    pretext: Literal["jigsaw", "rotation"] = "jigsaw"
    num_pieces: int = 9
    transformed_share: float = 0.5
    head: Literal["linear", "mlp"] = "linear"
    hidden_dim: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("num_pieces", "hidden_dim")
        self._check_shares("transformed_share")


class PIRL(Method):
    """An encoder, a head for pictures, one for what is made of them, and a bank."""

    options_type = PIRLOptions
    needs = Needs(
        2, 2, one_modality=True, why="PIRL compares a view and a transformed one with a bank"
    )

    def __init__(self, options: PIRLOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.check_fits("num_negatives", options.num_negatives)
        self.options, dim = options, options.embedding_dim
        hidden_dim = options.hidden_dim if options.head == "mlp" else None

        def head(features_dim: int) -> nn.Module:
            return moco_head(features_dim, hidden_dim, dim, dropout=0.0)

        self.towers = Towers(setting.encoders, self.plan, head)
        other = head(self.towers.encoder(self.plan.modalities[0]).embedding_dim)
        is_jigsaw = options.pretext == "jigsaw"
        self.transformed = Jigsaw(other, dim, options.num_pieces) if is_jigsaw else other
        self.bank = MemoryBank(self.facts.num_samples, dim, options.bank_momentum)
        self.contrast = NoiseContrast(
            self.facts.num_samples,
            options.temperature,
            options.objective,
            torch.finfo(torch.float32).eps,  # as in the authors' code
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also update the bank."""
        column = self.plan.names.index("augmentation")
        pictures, codes = self.towers(batch.where(column, PICTURE))  # B × D, B × M
        (view,) = self.towers.views(batch.where(column, TRANSFORMED))
        transformed = self.embed_transformed(view)  # B × D
        sample, share = self.plan.names.index("sample"), self.options.transformed_share
        with torch.autocast(pictures.device.type, enabled=False):
            of_transformed = self._compare(transformed, view.codes[:, sample])
            of_picture = self._compare(pictures, codes[:, sample])
        if self.training:
            with torch.no_grad():
                rows, of = gather_with_gradients(pictures, codes[:, [sample]])
                self.bank.update(of[:, 0], rows)
        parts = {"picture": of_picture, "transformed": of_transformed}
        return Losses(share * of_transformed + (1 - share) * of_picture, parts)

    def embed_transformed(self, view: View) -> Tensor:
        """Embed what is made of the rows of a view, [B, D] of length 1."""
        if isinstance(self.transformed, Jigsaw):
            return self.transformed.embed(self.towers, view)
        turned = quarter_turned(view.values, self.draw_turns(len(view)))
        return normalize(
            at_least_float32(self.transformed(self.towers.features(view.modality, turned)))
        )

    def draw_turns(self, num_rows: int) -> Tensor:
        """Draw how often each row is turned by 90°, from torch's generator: int64 [B]."""
        return torch.randint(4, (num_rows,))  # on the CPU: the same on any device

    def _compare(self, embeddings: Tensor, samples: Tensor) -> Tensor:
        entries = self.bank.candidates(samples, self.options.num_negatives)  # B × (1+K)
        return global_mean(self.contrast(self.bank.scores(embeddings, entries)))


def quarter_turned(values: Tensor, turns: Tensor) -> Tensor:
    """Turn each row of [B, …, S, S] counter-clockwise by 90° so many times.

    Raises:
        ValueError: rows that are not square.
    """
    if values.shape[-1] != values.shape[-2]:
        raise ValueError(f"quarter turns are for square pictures, got {list(values.shape)}")
    every = torch.stack([torch.rot90(values, turn, (-2, -1)) for turn in range(4)])
    return every[turns.to(values.device), torch.arange(len(values), device=values.device)]
