"""Encoders by modality and name, and the [encoders] table of a config."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from models.encoders.audio import AUDIO_ENCODERS
from models.encoders.channel_groups import GroupedEncoder, take_channels
from models.encoders.encoder import Encoder, EncoderTable
from models.encoders.image import IMAGE_ENCODERS
from models.encoders.resnet_maps import NUM_STAGES, Padding
from models.encoders.text import TEXT_ENCODERS, VOCAB_SIZE
from models.encoders.video import VIDEO_ENCODERS

__all__ = ["ENCODERS", "Encoder", "EncoderOptions", "EncoderTable"]

#: modality → its encoders by name
ENCODERS: Final[dict[str, EncoderTable]] = {
    table.modality: table
    for table in (VIDEO_ENCODERS, AUDIO_ENCODERS, IMAGE_ENCODERS, TEXT_ENCODERS)
}


#: Modalities whose encoder may be a ResNet of pictures.
_PICTURES: Final = ("video", "image")
_COLORS: Final = 3
_MOST_CHANNELS: Final = 64


@dataclass(frozen=True)
class EncoderOptions:
    """`[encoders]`: an encoder for each modality. Only those of the plan's modalities are built.

    Attributes:
        video: "r2plus1d_18" (GDT), "mc3_18", "s3d", "video_vit_small", "video_vit_base"
            (VideoMAE), or "r2plus1d_small" and "video_vit_mini" for CPUs; or an image encoder,
            which then sees the frames one by one.
        audio: "resnet9" (GDT), "resnet18", "vit_small", "vit_base", or "resnet9_small" and
            "vit_mini" for CPUs; of waveforms "waveform_cnn" (CPC), or "waveform_cnn_small".
        image: "resnet18", "resnet50", "vit_small", "vit_base", or "resnet_small" and "vit_mini" for
            CPUs.
        text: "text_small", or "text_mini" for CPUs.
        vocab_size: tokens that the text encoder knows, at least as many as the tokenizer's.
        dropout: of the text encoder, in training.
        zero_init_residual: start every residual block of a torchvision ResNet as the identity: its
            last batch norm's scale is 0 (Goyal et al. 2017, §5.1).
        patch_size: of a ViT, in pixels; 16 (8 of vit_mini) by default.
        drop_path: of a ViT: probability with which each half of its last block is left out for a
            row in training, rising from 0 in the first block (DINO: 0.1).
        freeze_patch_projection: leave a ViT's patch projection as it was drawn (MoCo v3, §4.2).
        num_stages: of an image encoder that is a ResNet: residual stages that are kept, 1 to 4.
        map_stride: of such a one: pixels from one cell of its map to the next, a power of two; the
            strides of its last stages are left out until it is so. 32 (16 of resnet_small) with all
            stages.
        padding: of such a one: what its convolutions see beyond the border: "zeros", or the picture
            mirrored ("reflect").
        image_channels: of the pictures that an image encoder sees: 3, or 2 of Sobel filters
            (DeepCluster).
        channel_groups: channels of a picture that an image encoder of their own sees, in order:
            [1, 2] for L, and a with b (CMC); features lie behind one another. Empty: one encoder.

    Raises:
        ValueError: a name that no table has.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    video: str = "r2plus1d_18"
    audio: str = "resnet9"
    image: str = "resnet18"
    text: str = "text_small"
    vocab_size: int = VOCAB_SIZE
    dropout: float = 0.0
    zero_init_residual: bool = False
    patch_size: int | None = None
    freeze_patch_projection: bool = False
    drop_path: float = 0.0
    num_stages: int | None = None
    map_stride: int | None = None
    padding: Padding = "zeros"
    image_channels: int = 3
    channel_groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for modality, table in ENCODERS.items():
            table.check(getattr(self, modality))
        if self.patch_size is not None and self.patch_size < 1:
            raise ValueError(f"patch_size = {self.patch_size}, must be at least 1 pixel")
        if self.vocab_size < 2:
            raise ValueError(f"vocab_size = {self.vocab_size}, must be at least 2 tokens")
        for key in ("dropout", "drop_path"):
            if not 0 <= getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)}, must be at least 0, less than 1")
        if self.num_stages is not None and not 1 <= self.num_stages <= NUM_STAGES:
            raise ValueError(f"num_stages = {self.num_stages}, must be 1 to {NUM_STAGES}")
        channels, groups = self.image_channels, self.channel_groups
        if not 1 <= channels <= _MOST_CHANNELS:
            raise ValueError(f"image_channels = {channels}, must lie in [1, {_MOST_CHANNELS}]")
        if groups and (min(groups) < 1 or sum(groups) != channels or len(groups) < 2):
            raise ValueError(
                f"channel_groups = {list(groups)}, must be at least 2 counts that sum to the "
                f"{channels} channels of a picture"
            )

    def build(self, modality: str) -> Encoder:
        """Return a new encoder of a modality, with random weights from torch's generator.

        Raises:
            ValueError: an option that the named encoder does not take.
        """
        options = self.choices(modality)
        channels, groups = options.pop("image_channels", None), options.pop("channel_groups", ())

        def make() -> Encoder:
            return ENCODERS[modality].build(getattr(self, modality), **options)

        if groups:
            return GroupedEncoder(make, groups)
        encoder = make()
        if channels is not None:
            take_channels(encoder, channels)
        return encoder

    def choices(self, modality: str) -> dict[str, Any]:
        """Return what is set for the encoder of a modality, beside its name."""
        shows, is_image = modality in _PICTURES, modality == "image"
        has_colors = self.image_channels == _COLORS
        asked = {
            "zero_init_residual": self.zero_init_residual or None,
            "patch_size": self.patch_size,
            "drop_path": self.drop_path or None,
            "freeze_patch_projection": self.freeze_patch_projection or None,
            "vocab_size": self.vocab_size if modality == "text" else None,
            "dropout": (self.dropout or None) if modality == "text" else None,
            "num_stages": self.num_stages if shows else None,
            "map_stride": self.map_stride if shows else None,
            "padding": self.padding if shows and self.padding != "zeros" else None,
            "image_channels": self.image_channels if is_image and not has_colors else None,
            "channel_groups": (self.channel_groups or None) if is_image else None,
        }
        return {key: value for key, value in asked.items() if value is not None}
