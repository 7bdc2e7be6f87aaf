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

from gdt import Plan
from models.heads import simclr_head
from models.methods.gdt import GDT
from models.options import ModelOptions


class SimCLR(GDT):
    """An encoder trained by NT-Xent on two or more augmented views of each sample.

    Args:
        options: encoder, head sizes and temperature.
        plan: with the factor `augmentation`, of at least two draws.

    Raises:
        ValueError: the plan draws a single view.
    """

    def __init__(self, options: ModelOptions, plan: Plan) -> None:
        if plan.draws("augmentation") < 2:
            raise ValueError(
                "SimCLR compares views of a sample: the plan needs [plan.augmentation] with "
                f'relation = "invariant" and draws = 2; got {plan.draws("augmentation")} draw'
            )
        super().__init__(options, plan, head=simclr_head)
