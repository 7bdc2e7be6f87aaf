"""SimCLR: two views of a sample attract each other, views of different samples repel.

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
arXiv:2002.05709. Its algorithm 1 is GDT's forward under the plan (sample distinctive, augmentation
invariant with two draws):

    algorithm 1                               here
    draw two augmentations t, t' ~ 𝒯          the rows with augmentation code 0 and 1
    h = f(x̃), z = g(h)                        towers: encoder f, projection head g
    s_ij = zᵢᵀzⱼ / (‖zᵢ‖‖zⱼ‖)                  L2-normalised embeddings, their products
    ℓ(i,j) over all k ≠ i (NT-Xent)           w = 0 only on the diagonal, c = 1 on the other view

so that only the head and what a plan must hold are its own.
"""

from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from models.method import Needs, Setting
from models.methods.gdt import GDT, ContrastiveOptions
from models.parts.heads import SIMCLR_LAYER, simclr_head
from models.towers import HeadConstructor, at_least_float32


@dataclass(frozen=True)
class SimCLROptions(ContrastiveOptions):
    """`[method]`: views of a sample against the views of all others in the batch.

    Attributes:
        name: "simclr".
        head_layers: of the projection head: 2, or 3 in v2 (arXiv:2006.10029).
        feature_layers: how many of the head's layers belong to the features that are evaluated or
            fine-tuned: 0, or 1 in v2, whose fine-tuning begins in the head's middle.
    """

    name: Literal["simclr"] = "simclr"
    head_layers: int = 2
    feature_layers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("head_layers")
        ok = 0 <= self.feature_layers < self.head_layers
        self._check("feature_layers", ok, f"at least 0, less than head_layers = {self.head_layers}")


class SimCLR(GDT):
    """An encoder trained by NT-Xent on two or more augmented views of each sample."""

    options_type = SimCLROptions
    needs = Needs(least_views=2, why="SimCLR compares views of a sample")

    def __init__(self, options: SimCLROptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.feature_layers = options.feature_layers
        if self.feature_layers:
            self.beyond_encoder = f"features end after {self.feature_layers} layers of the head"

    @staticmethod
    def head(options: ContrastiveOptions) -> HeadConstructor:
        """Return the paper's projection head."""
        assert isinstance(options, SimCLROptions)
        return lambda features_dim: simclr_head(
            features_dim,
            options.hidden_dim,
            options.embedding_dim,
            options.dropout,
            options.head_layers,
        )

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows up to the head's layer where the features end; see `Towers.features`."""
        features = self.towers.features(modality, values)
        head = cast(nn.Sequential, self.towers.heads[modality])
        return at_least_float32(head[: SIMCLR_LAYER * self.feature_layers](features))
