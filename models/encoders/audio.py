"""Audio encoders: over log-mel spectrograms [B, 1, F, L] here, over waveforms in waveform.py.

Forward and backward of 32 spectrograms of 40 × 99 on 2 CPU cores: resnet9 0.1 s, resnet9_small
0.05 s.
"""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from models.encoders.encoder import Encoder, EncoderTable, trunk_of
from models.encoders.image import small_trunk
from models.encoders.vit import SPECTROGRAMS, VIT_SIZES, vit
from models.encoders.waveform import waveform_cnn, waveform_cnn_small

AUDIO_SHAPE = ("B", 1, "F", "L")


def resnet9() -> Encoder:
    """Return the ResNet-9 of the GDT and XDC code: 4.9 M weights, 512 features.

    ResNet-18 with one block a stage in place of two, and one input channel (GDT, Patrick et al.
    2021, arXiv:2003.04298, §4: "the audio encoder is a 9-layer 2D ResNet").
    """
    return _spectrogram_resnet(layers=[1, 1, 1, 1])


def resnet18() -> Encoder:
    """Return torchvision's ResNet-18 with one input channel: 11.2 M weights, 512 features."""
    return _spectrogram_resnet(layers=[2, 2, 2, 2])


def _spectrogram_resnet(layers: list[int]) -> Encoder:
    network = ResNet(BasicBlock, layers=layers)
    network.conv1 = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    trunk = trunk_of(network, "avgpool", "fc")
    return Encoder(trunk, nn.AdaptiveAvgPool2d(1), embedding_dim=512, input_shape=AUDIO_SHAPE)


def resnet9_small() -> Encoder:
    """Return a ResNet-9 of half the width: 1.2 M weights, 256 features."""
    stem = nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    )
    trunk = small_trunk(stem, widths=(32, 64, 128, 256))
    return Encoder(trunk, nn.AdaptiveAvgPool2d(1), embedding_dim=256, input_shape=AUDIO_SHAPE)


AUDIO_ENCODERS = EncoderTable(
    "audio",
    {
        "resnet9": resnet9,
        "resnet18": resnet18,
        "resnet9_small": resnet9_small,
        **{f"vit_{name}": vit(SPECTROGRAMS, size) for name, size in VIT_SIZES.items()},
        "waveform_cnn": waveform_cnn,
        "waveform_cnn_small": waveform_cnn_small,
    },
)
