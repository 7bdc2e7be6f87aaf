"""The paper's objects: factors and plan, contrast and weight, the loss. Needs torch only."""

from gdt.batch import Batch, View
from gdt.factor import Factor
from gdt.gather import gather_with_gradients, global_mean, num_ranks, sum_over_ranks
from gdt.in_chunks import embed_in_chunks
from gdt.loss import contrastive_loss, normalize, plan_loss
from gdt.loss_options import LossOptions
from gdt.named_plans import named_plan
from gdt.noise_contrastive import mean_exponential, nce_loss
from gdt.plan import Plan

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Factor",
    "LossOptions",
    "Plan",
    "View",
    "contrastive_loss",
    "embed_in_chunks",
    "gather_with_gradients",
    "global_mean",
    "mean_exponential",
    "named_plan",
    "nce_loss",
    "normalize",
    "num_ranks",
    "plan_loss",
    "sum_over_ranks",
]
