"""Video encoders: R(2+1)D-18, as in the GDT paper, MC3-18, S3D, a small one, and frame encoders.

An R(2+1)D block is a residual block whose 3×3×3 convolutions are each split into a 1×3×3 one over
space and a 3×1×1 one over time, with as many weights (Tran et al., CVPR 2018, arXiv:1711.11248).

Forward and backward of 32 segments on 2 CPU cores: r2plus1d_small 0.2 s at 8 × 64² and 1.9 s at
16 × 112²; r2plus1d_18 14 s at 8 × 64².
"""

import itertools

import torchvision
from torch import nn
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D

from models.encoders.encoder import Encoder, EncoderTable, trunk_of
from models.encoders.frames import by_frame
from models.encoders.image import IMAGE_ENCODERS
from models.encoders.video_vit import video_vit_base, video_vit_mini, video_vit_small

VIDEO_SHAPE = ("B", 3, "T", "H", "W")


def r2plus1d_18() -> Encoder:
    """Return torchvision's R(2+1)D-18 without its classifier: 31.3 M weights, 512 features."""
    return _without_classifier(torchvision.models.video.r2plus1d_18(weights=None))


def mc3_18() -> Encoder:
    """Return torchvision's MC3-18 without its classifier: 11.5 M weights, 512 features.

    Convolutions over space and time in the stem and first stage, over space alone in the others
    (Tran et al., CVPR 2018, arXiv:1711.11248).
    """
    return _without_classifier(torchvision.models.video.mc3_18(weights=None))


def _without_classifier(network: nn.Module) -> Encoder:
    trunk = trunk_of(network, "avgpool", "fc")
    return Encoder(trunk, nn.AdaptiveAvgPool3d(1), embedding_dim=512, input_shape=VIDEO_SHAPE)


def s3d() -> Encoder:
    """Return torchvision's S3D without its classifier: 7.9 M weights, 1024 features.

    Xie et al., ECCV 2018, arXiv:1712.04851. Takes 8 frames or more.
    """
    network = torchvision.models.video.s3d(weights=None)
    return Encoder(
        network.features, nn.AdaptiveAvgPool3d(1), embedding_dim=1024, input_shape=VIDEO_SHAPE
    )


def r2plus1d_small() -> Encoder:
    """Return an R(2+1)D net of 10 layers and half the width: 3.1 M weights, 256 features.

    Its stem strides by 2 in time and by 4 in space, so that everything after it sees few positions:
    8 × 64² becomes 4 × 16². Made for 8 to 16 frames of 64 to 112 pixels.
    """
    widths = (32, 64, 128, 256)
    stages = [_residual_stage(widths[0], widths[0], stride=1)]
    stages += [
        _residual_stage(narrow, wide, stride=2) for narrow, wide in itertools.pairwise(widths)
    ]
    trunk = nn.Sequential(_small_stem(widths[0]), *stages)
    _initialise(trunk)
    return Encoder(trunk, nn.AdaptiveAvgPool3d(1), widths[-1], VIDEO_SHAPE)


def _small_stem(width: int) -> nn.Sequential:
    """Return torchvision's R(2+1)D stem with longer strides: T, H, W → T/2, H/4, W/4."""
    between = 24  # channels between the convolution over space and the one over time
    return nn.Sequential(
        nn.Conv3d(3, between, (1, 7, 7), stride=(1, 4, 4), padding=(0, 3, 3), bias=False),
        nn.BatchNorm3d(between),
        nn.ReLU(inplace=True),
        nn.Conv3d(between, width, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0), bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


def _residual_stage(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """Return one residual block, strided in time and space alike."""
    shortcut = None
    if stride != 1 or channels_in != channels_out:
        shortcut = nn.Sequential(
            nn.Conv3d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm3d(channels_out),
        )
    block: nn.Module = BasicBlock(channels_in, channels_out, Conv2Plus1D, stride, shortcut)
    return block


def _initialise(network: nn.Module) -> None:
    """Draw the weights as torchvision does for R(2+1)D-18 (He et al., fan out)."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


VIDEO_ENCODERS = EncoderTable(
    "video",
    {
        "r2plus1d_18": r2plus1d_18,
        "mc3_18": mc3_18,
        "s3d": s3d,
        "r2plus1d_small": r2plus1d_small,
        "video_vit_small": video_vit_small,
        "video_vit_base": video_vit_base,
        "video_vit_mini": video_vit_mini,
        **by_frame(IMAGE_ENCODERS.constructors),
    },
)
