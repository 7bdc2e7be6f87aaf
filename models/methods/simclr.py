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
from typing import Literal

from models.method import Needs
from models.methods.gdt import GDT, ContrastiveOptions
from models.parts.heads import simclr_head
from models.towers import HeadConstructor


@dataclass(frozen=True)
class SimCLROptions(ContrastiveOptions):
    """`[method]`: views of a sample against the views of all others in the batch.

    Attributes:
        name: "simclr".
    """

    name: Literal["simclr"] = "simclr"


class SimCLR(GDT):
    """An encoder trained by NT-Xent on two or more augmented views of each sample."""

    options_type = SimCLROptions
    needs = Needs(least_views=2, why="SimCLR compares views of a sample")

    @staticmethod
    def head(options: ContrastiveOptions) -> HeadConstructor:
        """Return the paper's projection head."""
        return lambda features_dim: simclr_head(
            features_dim, options.hidden_dim, options.embedding_dim, options.dropout
        )
