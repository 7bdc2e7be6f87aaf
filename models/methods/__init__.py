"""One file for each method: what owns the encoders and turns a batch into a loss.

Every method is called with a `gdt.Batch` and returns its loss, and has `plan`,
`features(modality, values)` and `embed(modality, values)`.
"""

from collections.abc import Callable
from typing import Final

from gdt import Plan
from models.methods.gdt import GDT
from models.methods.moco import MoCo
from models.methods.simclr import SimCLR
from models.options import ModelOptions

__all__ = ["GDT", "METHODS", "Method", "MoCo", "SimCLR", "build_method"]

Method = GDT | MoCo  # SimCLR is a GDT

METHODS: Final[dict[str, Callable[[ModelOptions, Plan], Method]]] = {
    "gdt": GDT,
    "simclr": SimCLR,
    "moco": MoCo,
}


def build_method(options: ModelOptions, plan: Plan) -> Method:
    """Return a new method with random weights; torch.manual_seed before it determines them.

    Raises:
        ValueError: the plan lacks what the method needs.
    """
    return METHODS[options.method](options, plan)
