"""The [model] table of a config: which method, which encoders, and their few numbers."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from models.audio import AUDIO_ENCODERS
from models.image import IMAGE_ENCODERS
from models.video import VIDEO_ENCODERS

METHOD_NAMES = ("gdt", "simclr", "moco")


@dataclass(frozen=True)
class ModelOptions:
    """A method and its encoders. Only the encoders of the plan's modalities are built.

    Attributes:
        method: "gdt", "simclr" or "moco".
        video: name in models.video.VIDEO_ENCODERS.
        audio: name in models.audio.AUDIO_ENCODERS.
        image: name in models.image.IMAGE_ENCODERS.
        hidden_dim: width of the projection head's hidden layer.
        embedding_dim: length of the L2-normalised embedding that the loss compares.
        temperature: ρ of the loss; similarities are divided by it.
        dropout: probability with which the projection head drops its inputs, 0 for none.
        momentum: MoCo only: share of the momentum encoder that is kept at each step.
        queue_size: MoCo only: number of earlier keys that serve as negatives.
        batch_norm_groups: MoCo only: groups of a rank's rows with batch statistics of their own,
            among which the keys are shuffled; 1 for none.

    Raises:
        ValueError: a name that no table has, or a number outside its range.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    method: str = "gdt"
    video: str = "r2plus1d_18"
    audio: str = "resnet9"
    image: str = "resnet18"
    hidden_dim: int = 512
    embedding_dim: int = 256
    temperature: float = 0.07
    dropout: float = 0.0
    momentum: float = 0.999
    queue_size: int = 65536
    batch_norm_groups: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHOD_NAMES:
            raise ValueError(
                f"unknown method {self.method!r}; allowed: {', '.join(METHOD_NAMES)}. "
                "Set model.method"
            )
        VIDEO_ENCODERS.check(self.video)
        AUDIO_ENCODERS.check(self.audio)
        IMAGE_ENCODERS.check(self.image)
        for name in ("hidden_dim", "embedding_dim", "queue_size", "batch_norm_groups"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"model.{name} is a count, at least 1; got {value}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(
                f"model.temperature divides the similarities and is above 0 (the papers take 0.07 "
                f"to 0.5); got {self.temperature}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is a probability in [0, 1); got {self.dropout}")
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"model.momentum is in [0, 1): 1 would never change the momentum encoder "
                f"(MoCo takes 0.999); got {self.momentum}"
            )
