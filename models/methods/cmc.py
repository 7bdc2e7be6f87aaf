"""CMC: each view of a sample is told from noise in the memory banks of its other views.

Tian et al., "Contrastive Multiview Coding", 2019, arXiv:1906.05849, §3. A view is a modality, or a
group of channels of a picture that has an encoder of its own (`encoders.channel_groups`): L, and a
with b, of Lab. Every view has a bank; all are asked for the same drawn samples.

Legend: B rows, V views, K drawn entries, D embedding.
"""

import itertools
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import Losses, Method, Needs, Setting
from models.methods.instdisc import BankOptions
from models.parts import MemoryBank, NoiseContrast
from models.towers import Towers


@dataclass(frozen=True)
class CMCOptions(BankOptions):
    """`[method]`: each view against the memory banks of the others.

    Attributes:
        name: "cmc".
        graph: "full" for all pairs of views, or "core" for those with the first view.
    """

    name: Literal["cmc"] = "cmc"
    num_negatives: int = 16384
    graph: Literal["full", "core"] = "full"


class CMC(Method):
    """An encoder and a bank for each view, and a constant of noise for each ordered pair."""

    options_type = CMCOptions
    needs = Needs(1, 1, positives=False, why="CMC compares one draw of each view with the banks")

    def __init__(self, options: CMCOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options, dim = options, options.embedding_dim
        groups = len(setting.encoders.channel_groups) or 1
        self.num_groups = {name: groups if name == "image" else 1 for name in self.plan.modalities}
        num_views = sum(self.num_groups.values())
        if num_views < 2:
            raise ValueError(
                "CMC compares views of a sample, and there is one: set encoders.channel_groups = "
                '[1, 2] with image_augment.channels = "lab", or name a second modality in '
                "plan.modality.values"
            )
        self.check_fits("num_negatives", options.num_negatives)
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        self.heads = nn.ModuleList(
            nn.Linear(self.towers.encoder(name).embedding_dim // count, dim)
            for name, count in self.num_groups.items()
            for _ in range(count)
        )
        num_samples = self.facts.num_samples
        self.banks = nn.ModuleList(
            MemoryBank(num_samples, dim, options.bank_momentum) for _ in range(num_views)
        )
        pairs = itertools.permutations(range(num_views), 2)
        self.pairs = [pair for pair in pairs if options.graph == "full" or 0 in pair]
        self.contrasts = nn.ModuleList(
            NoiseContrast(num_samples, options.temperature, options.objective) for _ in self.pairs
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also update the banks."""
        views, samples = self.embed_views(batch)
        entries = self._bank(0).candidates(samples, self.options.num_negatives)  # B × (1+K)
        parts = {}
        with torch.autocast(views[0].device.type, enabled=False):
            for (one, other), contrast in zip(self.pairs, self.contrasts, strict=True):
                scores = self._bank(other).scores(views[one], entries)
                parts[f"view{one}_in_bank{other}"] = global_mean(contrast(scores))
        if self.training:
            with torch.no_grad():
                for number, view in enumerate(views):
                    rows, of = gather_with_gradients(view, samples[:, None])
                    self._bank(number).update(of[:, 0], rows)
        return Losses(torch.stack(list(parts.values())).sum(), parts)

    def embed_views(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        """Return each view's embeddings, [B, D] of length 1, and their samples, int64 [B].

        Raises:
            ValueError: the modalities' rows are not of the same samples.
        """
        column = self.plan.names.index("sample")
        found = self.towers.views(batch)
        samples = found[0].codes[:, column]
        features: list[Tensor] = []
        for view in found:
            if not torch.equal(view.codes[:, column], samples):
                raise ValueError(f"{batch}: {view.modality} has rows of other samples")
            whole = self.towers.features(view.modality, view.values)
            features += whole.chunk(self.num_groups[view.modality], dim=1)
        pairs = zip(self.heads, features, strict=True)
        return [F.normalize(head(feature).float(), dim=1) for head, feature in pairs], samples

    def _bank(self, number: int) -> MemoryBank:
        return cast(MemoryBank, self.banks[number])
