"""Parts that methods share: each is one file, and all its state is in the checkpoint."""

from models.parts.jigsaw import Jigsaw
from models.parts.key_queue import KeyQueue
from models.parts.memory_bank import MemoryBank
from models.parts.momentum_copy import MomentumCopy, MomentumSchedule
from models.parts.noise_contrast import NoiseContrast
from models.parts.predictors import Predictors
from models.parts.prototypes import Prototypes, sinkhorn

__all__ = [
    "Jigsaw",
    "KeyQueue",
    "MemoryBank",
    "MomentumCopy",
    "MomentumSchedule",
    "NoiseContrast",
    "Predictors",
    "Prototypes",
    "sinkhorn",
]
