"""One file for each method: what owns the encoders and turns a batch into losses."""

from typing import Final

from models.method import Method, MethodOptions, Setting
from models.methods.avid import AVID
from models.methods.barlow_twins import BarlowTwins
from models.methods.block_contrast import BlockContrast
from models.methods.byol import BYOL
from models.methods.classifier import Classifier
from models.methods.clip import CLIP
from models.methods.cma import CMA
from models.methods.cmc import CMC
from models.methods.coca import CoCa
from models.methods.colorization import Colorization
from models.methods.contrastive_captioning import ContrastiveCaptioning
from models.methods.cpc import CPC
from models.methods.cpc_image import CPCImage
from models.methods.crw import CRW
from models.methods.cswm import CSWM
from models.methods.deepcluster import DeepCluster
from models.methods.deepcluster_v2 import DeepClusterV2
from models.methods.detco import DetCo
from models.methods.dino import DINO
from models.methods.distillation import Distillation
from models.methods.gdt import GDT
from models.methods.infomin import InfoMin
from models.methods.instdisc import InstDisc
from models.methods.mae import MAE
from models.methods.mast import MAST
from models.methods.moco import MoCo
from models.methods.moco_v3 import MoCoV3
from models.methods.pcl import PCL
from models.methods.pirl import PIRL
from models.methods.pixpro import PixPro
from models.methods.sela import SeLa
from models.methods.selavi import SeLaVi
from models.methods.siglip import SigLIP
from models.methods.simclr import SimCLR
from models.methods.simcse import SimCSE
from models.methods.simsiam import SimSiam
from models.methods.swav import SwAV
from models.methods.timecycle import TimeCycle
from models.methods.tracked_patches import TrackedPatches
from models.methods.udt import UDT
from models.methods.uvc import UVC
from models.methods.videomae import VideoMAE

__all__ = [
    "AVID",
    "BYOL",
    "CLIP",
    "CMA",
    "CMC",
    "CPC",
    "CRW",
    "CSWM",
    "DINO",
    "GDT",
    "MAE",
    "MAST",
    "METHODS",
    "PCL",
    "PIRL",
    "UDT",
    "UVC",
    "BarlowTwins",
    "BlockContrast",
    "CPCImage",
    "Classifier",
    "CoCa",
    "Colorization",
    "ContrastiveCaptioning",
    "DeepCluster",
    "DeepClusterV2",
    "DetCo",
    "Distillation",
    "InfoMin",
    "InstDisc",
    "MoCo",
    "MoCoV3",
    "PixPro",
    "SeLa",
    "SeLaVi",
    "SigLIP",
    "SimCLR",
    "SimCSE",
    "SimSiam",
    "SwAV",
    "TimeCycle",
    "TrackedPatches",
    "VideoMAE",
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
    "moco_v3": MoCoV3,
    "dino": DINO,
    "mae": MAE,
    "pixpro": PixPro,
    "pirl": PIRL,
    "infomin": InfoMin,
    "deepcluster": DeepCluster,
    "distillation": Distillation,
    "detco": DetCo,
    "cmc": CMC,
    "sela": SeLa,
    "block_contrast": BlockContrast,
    "crw": CRW,
    "colorization": Colorization,
    "mast": MAST,
    "udt": UDT,
    "timecycle": TimeCycle,
    "uvc": UVC,
    "tracked_patches": TrackedPatches,
    "classifier": Classifier,
    "clip": CLIP,
    "siglip": SigLIP,
    "cpc": CPC,
    "cpc_image": CPCImage,
    "cswm": CSWM,
    "coca": CoCa,
    "contrastive_captioning": ContrastiveCaptioning,
    "avid": AVID,
    "cma": CMA,
    "selavi": SeLaVi,
    "videomae": VideoMAE,
    "simcse": SimCSE,
}


def build_method(options: MethodOptions, setting: Setting) -> Method:
    """Return a new method with random weights; torch.manual_seed before it determines them.

    Raises:
        ValueError: the plan lacks what the method needs.
    """
    return METHODS[options.name](options, setting)
