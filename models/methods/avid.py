"""AVID: tell a clip's sound from others' by its picture, and its picture from others' by its sound.

Morgado et al., "Audio-Visual Instance Discrimination with Cross-Modal Agreement", CVPR 2021,
arXiv:2004.12943, §3. Every sample has a row in a bank of each modality; a score is the cosine of an
embedding with rows of a bank, over the temperature. The constants of the noise are those of
facebookresearch/AVID-CMA.

Legend: B rows, N samples, K negatives, P positives, D embedding.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import Losses, Method, MethodOptions, Setting
from models.parts import MemoryBank
from models.parts.heads import mlp_head
from models.parts.noise_contrast import fixed_mean_exp
from models.parts.pairs import check_pairs, in_pairs
from models.towers import Towers

#: Which modality's rows are scored with which modality's bank.
CROSS: Final = ((0, 1), (1, 0))
WITHIN: Final = ((0, 0), (1, 1))


@dataclass(frozen=True)
class BankPairOptions(MethodOptions):
    """What AVID and CMA share.

    Attributes:
        hidden_dim: width of the two hidden layers of each modality's head.
        embedding_dim: D, length of the embedding and of the banks' rows.
        temperature: of the cosines.
        num_negatives: K, drawn from the banks for each sample.
        bank_momentum: share of a bank's row that an update keeps.
    """

    hidden_dim: int = 512
    embedding_dim: int = 128
    temperature: float = 0.07
    num_negatives: int = 1024
    bank_momentum: float = 0.5

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim", "num_negatives")
        self._check_temperatures("temperature")
        self._check_shares("bank_momentum")


@dataclass(frozen=True)
class AVIDOptions(BankPairOptions):
    """`[method]`: each row told from noise in the banks of its sample's modalities.

    Attributes:
        name: "avid".
        cross_weight: of scores with the other modality's bank.
        within_weight: of scores with the row's own modality's bank.
    """

    name: Literal["avid"] = "avid"
    cross_weight: float = 1.0
    within_weight: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = self.cross_weight, self.within_weight
        ok = min(weights) >= 0 and 0 < sum(weights) < math.inf
        self._check("cross_weight", ok, "at least 0, and more than 0 together with within_weight")


class BankPairs(Method):
    """Encoders, heads and memory banks of two modalities, and one constant of noise.

    Z is the mean of exp score over the negatives of the first direction that is scored, in the
    first step and over all ranks; it never changes again, as in the authors' code.

    Raises:
        ValueError: the plan does not give each sample one row in each of two modalities, or there
            are too few samples to draw from.
    """

    options_type: ClassVar[type[MethodOptions]] = BankPairOptions
    mean_exp: Tensor  # scalar: Z; 0 until the first step

    def __init__(self, options: BankPairOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        check_pairs(self.plan, f"{type(self).__name__} compares two modalities of each sample")
        self.temperature, self.num_negatives = options.temperature, options.num_negatives
        dim, num_samples = options.embedding_dim, self.facts.num_samples
        if num_samples < 2:
            raise ValueError(f"{num_samples} sample: there is no other to tell it from")
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: mlp_head(features_dim, options.hidden_dim, dim, num_layers=3),
        )
        banks = [MemoryBank(num_samples, dim, options.bank_momentum) for _ in range(2)]
        for bank in banks:
            bank.rows.copy_(F.normalize(bank.rows, dim=1))
        self.banks = nn.ModuleList(banks)
        self.register_buffer("mean_exp", torch.zeros(()))

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar, and update the banks in training."""
        embeddings, codes = self.towers(batch)
        rows = in_pairs(self.plan, embeddings, codes)  # B × D each
        modality = codes[:, self.plan.names.index("modality")]
        samples = codes[modality == 0, self.plan.names.index("sample")]
        with torch.autocast(embeddings.device.type, enabled=False):
            losses = self.losses(rows, samples)
        if self.training:
            self.update(rows, samples)
        return losses

    def losses(self, rows: tuple[Tensor, Tensor], samples: Tensor) -> Losses:
        """Return the loss of both modalities' rows [B, D] of samples int64 [B]."""
        raise NotImplementedError

    def direction(self, one: int, other: int) -> str:
        """Return the name of a direction: "video_to_audio"."""
        return f"{self.plan.modalities[one]}_to_{self.plan.modalities[other]}"

    def draw(self, kept_out: Tensor) -> Tensor:
        """Draw K entries of the banks uniformly, with replacement, from torch's generator.

        Args:
            kept_out: int64 [B, P], different ones that are not drawn for each row.

        Returns:
            int64 [B, K].
        """
        num_rows, num_out = kept_out.shape
        count = self.facts.num_samples - num_out
        drawn = torch.randint(count, (num_rows, self.num_negatives)).to(kept_out.device)
        for entries in kept_out.sort(dim=1).values.unbind(1):
            drawn = drawn + (drawn >= entries[:, None]).long()
        return drawn

    def scores(self, rows: Tensor, bank: int, entries: Tensor) -> Tensor:
        """Return the scores of rows [B, D] with each one's entries [B, K] of a bank: [B, K]."""
        return cast(MemoryBank, self.banks[bank]).scores(rows, entries) / self.temperature

    def told_from_noise(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return the loss of each row, [B]: − log h of positives' mean, − log (1 − h) summed.

        h = exp s / (exp s + K·Z); the first call in training fixes Z.

        Args:
            positives: scores [B, P].
            negatives: scores [B, K].
        """
        mean_exp = fixed_mean_exp(self.mean_exp, negatives, self.training)
        noise = math.log(negatives.shape[1]) + mean_exp.log()
        right = -F.logsigmoid(positives - noise).mean(dim=1)
        return right - F.logsigmoid(noise - negatives).sum(dim=1)

    @torch.no_grad()
    def update(self, rows: tuple[Tensor, Tensor], samples: Tensor) -> None:
        """Move the banks towards all ranks' rows."""
        for bank, embeddings in zip(self.banks, rows, strict=True):
            gathered, of = gather_with_gradients(embeddings, samples[:, None])
            cast(MemoryBank, bank).update(of[:, 0], gathered)


class AVID(BankPairs):
    """Instance discrimination across modalities, within them, or both."""

    options_type = AVIDOptions

    def __init__(self, options: AVIDOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        whole = options.cross_weight + options.within_weight
        kinds = ((CROSS, options.cross_weight), (WITHIN, options.within_weight))
        self.weights = {
            pair: weight / whole / 2 for pairs, weight in kinds for pair in pairs if weight
        }

    def losses(self, rows: tuple[Tensor, Tensor], samples: Tensor) -> Losses:
        """Return the weighted mean over directions, and each direction's loss."""
        own = samples[:, None]
        negatives = self.draw(own)
        parts = {
            self.direction(one, other): global_mean(
                self.told_from_noise(
                    self.scores(rows[one], other, own), self.scores(rows[one], other, negatives)
                )
            )
            for one, other in self.weights
        }
        pairs = zip(parts.values(), self.weights.values(), strict=True)
        return Losses(torch.stack([part * weight for part, weight in pairs]).sum(), parts)
