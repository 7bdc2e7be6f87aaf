"""One file for each method: what owns the encoders and turns a batch into losses."""

from typing import Final

from models.method import Method, MethodOptions, Setting
from models.methods.barlow_twins import BarlowTwins
from models.methods.byol import BYOL
from models.methods.deepcluster_v2 import DeepClusterV2
from models.methods.gdt import GDT
from models.methods.instdisc import InstDisc
from models.methods.moco import MoCo
from models.methods.pcl import PCL
from models.methods.simclr import SimCLR
from models.methods.simsiam import SimSiam
from models.methods.swav import SwAV

__all__ = [
    "BYOL",
    "GDT",
    "METHODS",
    "PCL",
    "BarlowTwins",
    "DeepClusterV2",
    "InstDisc",
    "MoCo",
    "SimCLR",
    "SimSiam",
    "SwAV",
    "build_method",
]

#: name → method; its options' `name` is the same
METHODS: Final[dict[str, type[Method]]] = {
    "gdt": GDT,
    "simclr": SimCLR,
    "moco": MoCo,
    "byol": BYOL,
    "swav": SwAV,
    "instdisc": InstDisc,
    "deepcluster_v2": DeepClusterV2,
    "pcl": PCL,
    "simsiam": SimSiam,
    "barlow_twins": BarlowTwins,
}


def build_method(options: MethodOptions, setting: Setting) -> Method:
    """Return a new method with random weights; torch.manual_seed before it determines them.

    Raises:
        ValueError: the plan lacks what the method needs.
    """
    return METHODS[options.name](options, setting)
