"""The paper's objects: factors and plan, contrast and weight, the loss. Needs torch only."""

from gdt.batch import Batch, Modality
from gdt.factor import Factor
from gdt.gather import gather_with_gradients
from gdt.loss import contrastive_loss, plan_loss
from gdt.named_plans import named_plan
from gdt.plan import Plan

__version__ = "0.1.0"

__all__ = [
    "Batch",
    "Factor",
    "Modality",
    "Plan",
    "contrastive_loss",
    "gather_with_gradients",
    "named_plan",
    "plan_loss",
]
