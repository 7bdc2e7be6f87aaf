"""CMA: AVID, and besides it samples that both modalities find alike attract each other within each.

Morgado et al., "Audio-Visual Instance Discrimination with Cross-Modal Agreement", CVPR 2021,
arXiv:2004.12943, §4. A sample's positives are those whose less similar modality is most similar to
its own, by the banks; they are looked for every few epochs. It goes on from an AVID run
(`gdt pretrain cma --init-from RUN`).

Legend: B rows, N samples, K negatives, P positives, D embedding.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from gdt import global_mean
from models.method import EmbedDataset, Losses, Setting
from models.methods.avid import CROSS, WITHIN, BankPairOptions, BankPairs
from models.parts import MemoryBank

_BLOCK = 1024  # rows of a bank compared with all others at a time


@dataclass(frozen=True)
class CMAOptions(BankPairOptions):
    """`[method]`: AVID across modalities, and agreement of both about positives within each.

    Attributes:
        name: "cma".
        num_positives: P of each sample.
        num_within: of the negatives, how many are compared within a modality.
        every_epochs: positives are looked for anew after so many.
    """

    name: Literal["cma"] = "cma"
    num_positives: int = 32
    num_within: int = 64
    every_epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("num_positives", "num_within", "every_epochs")
        fits = self.num_within <= self.num_negatives
        self._check("num_within", fits, f"at most num_negatives = {self.num_negatives}")


class CMA(BankPairs):
    """AVID's encoders and banks, and each sample's positives.

    Raises:
        ValueError: as `BankPairs`, or fewer samples than positives and one negative.
    """

    options_type = CMAOptions
    positives: Tensor  # int64 N × P

    def __init__(self, options: CMAOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options, count = options, self.facts.num_samples
        if count < options.num_positives + 2:
            raise ValueError(
                f"method.num_positives = {options.num_positives} of {count} samples leaves no "
                "negative: lower it, or train on more samples"
            )
        self.register_buffer(
            "positives", torch.zeros(count, options.num_positives, dtype=torch.int64)
        )

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Look for positives, where it is time; at first by what the encoders say now.

        The authors take AVID's banks over with its weights. Here the banks begin as noise, in which
        nothing agrees, and are filled by embedding the data set: it may be another one than AVID's.
        """
        banks = [cast(MemoryBank, bank).rows for bank in self.banks]
        if epoch == 0:
            found = embed_dataset(self.embed)
            for rows, modality in zip(banks, self.plan.modalities, strict=True):
                known = found[modality].any(dim=1)
                rows[known] = found[modality][known].to(rows)
        if epoch % self.options.every_epochs == 0:
            self.positives.copy_(agreeing(banks, self.options.num_positives))

    def losses(self, rows: tuple[Tensor, Tensor], samples: Tensor) -> Losses:
        """Return the mean of AVID's loss and of that of the positives, and each direction's."""
        own, alike = samples[:, None], self.positives[samples]
        negatives = self.draw(torch.cat([own, alike], dim=1))
        few = negatives[:, : self.options.num_within]
        parts = {
            self.direction(one, other): global_mean(
                self.told_from_noise(
                    self.scores(rows[one], other, right), self.scores(rows[one], other, wrong)
                )
            )
            for pairs, right, wrong in ((CROSS, own, negatives), (WITHIN, alike, few))
            for one, other in pairs
        }
        return Losses(torch.stack(list(parts.values())).mean(), parts)


def agreeing(banks: list[Tensor], count: int) -> Tensor:
    """Return, of each sample, those that all banks find similar, in increasing order.

    Similar is by the least of the banks' cosines; the most similar, itself, is left out.

    Args:
        banks: [N, D] each, rows of length 1.
        count: P.

    Returns:
        int64 [N, P].
    """
    found = []
    for first in range(0, len(banks[0]), _BLOCK):
        cosines = [rows[first : first + _BLOCK] @ rows.T for rows in banks]
        least = torch.stack(cosines).amin(dim=0)  # block × N
        found.append(least.topk(count + 1, dim=1).indices[:, 1:])
    return torch.cat(found).sort(dim=1).values
