"""InstDisc: every sample is a class of its own; a memory bank holds what each last looked like.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018,
arXiv:1805.01978, §3. As in the authors' code the proximal term of §3.3 is left out: the bank's
momentum damps what it was to damp.

Legend: B rows, K drawn entries, N samples of the data set, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts import MemoryBank, NoiseContrast
from models.towers import Towers


@dataclass(frozen=True)
class BankOptions(MethodOptions):
    """What methods with a memory bank share: its rows, what is drawn of it, how it is compared.

    Attributes:
        embedding_dim: length of the L2-normalised embedding.
        temperature: that similarities are divided by.
        num_negatives: K, entries drawn from the whole bank for each row.
        bank_momentum: share of a bank's row that is kept in an update.
        objective: "nce", each entry told from noise, or "softmax", a cross-entropy over entries.
    """

    embedding_dim: int = 128
    temperature: float = 0.07
    num_negatives: int = 4096
    bank_momentum: float = 0.5
    objective: Literal["nce", "softmax"] = "nce"

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim", "num_negatives")
        self._check_temperatures("temperature")
        self._check_shares("bank_momentum")


@dataclass(frozen=True)
class InstDiscOptions(BankOptions):
    """`[method]`: every sample a class of its own, against a memory bank.

    Attributes:
        name: "instdisc".
        num_negatives: K, entries drawn for each row; 0 for all N, with the objective "softmax".
    """

    name: Literal["instdisc"] = "instdisc"

    def __post_init__(self) -> None:
        if self.num_negatives == 0:
            self._check("objective", self.objective == "softmax", '"softmax" without negatives')
            self._check_counts("embedding_dim")
            self._check_temperatures("temperature")
            self._check_shares("bank_momentum")
        else:
            super().__post_init__()


class InstDisc(Method):
    """An encoder with a linear head, and a bank with a row for every sample."""

    options_type = InstDiscOptions
    needs = Needs(
        1, 1, positives=False, one_modality=True, why="InstDisc compares one view with a bank"
    )

    def __init__(self, options: InstDiscOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.check_fits("num_negatives", options.num_negatives)
        self.options, dim = options, options.embedding_dim
        self.towers = Towers(
            setting.encoders, self.plan, lambda features_dim: nn.Linear(features_dim, dim)
        )
        self.bank = MemoryBank(self.facts.num_samples, dim, options.bank_momentum)
        self.contrast = NoiseContrast(
            self.facts.num_samples, options.temperature, options.objective
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also update the bank."""
        embeddings, codes = self.towers(batch)  # B × D
        samples = codes[:, self.plan.names.index("sample")]
        with torch.autocast(embeddings.device.type, enabled=False):
            loss = global_mean(self._compare(embeddings, samples))
        if self.training:
            with torch.no_grad():
                rows, of = gather_with_gradients(embeddings, samples[:, None])
                self.bank.update(of[:, 0], rows)
        return Losses(loss)

    def _compare(self, embeddings: Tensor, samples: Tensor) -> Tensor:
        """Return the loss of each row, [B]."""
        if self.options.num_negatives:
            entries = self.bank.candidates(samples, self.options.num_negatives)  # B × (1+K)
            losses: Tensor = self.contrast(self.bank.scores(embeddings, entries))
            return losses
        rows = self.bank.rows.to(embeddings, copy=True)  # the bank moves before gradients are taken
        logits = embeddings @ rows.T / self.options.temperature  # B × N
        return F.cross_entropy(logits, samples, reduction="none")
