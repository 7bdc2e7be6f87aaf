"""Image encoders: torchvision's ResNets, ViTs, and small ones for 32 to 64 pixels on CPUs.

Forward and backward of 64 images of 64² on 2 CPU cores: resnet18 0.38 s, resnet_small 0.2 s.
`small_trunk` also serves the small audio encoder: a spectrogram is an image of one channel.
"""

import itertools

import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock

from models.encoders.encoder import Encoder, EncoderTable, trunk_of
from models.encoders.resnet_maps import NUM_STAGES, Padding, shaped
from models.encoders.vit import IMAGES, VIT_SIZES, vit

IMAGE_SHAPE = ("B", 3, "H", "W")


def resnet18(
    *,
    zero_init_residual: bool = False,
    num_stages: int = NUM_STAGES,
    map_stride: int | None = None,
    padding: Padding = "zeros",
) -> Encoder:
    """Return torchvision's ResNet-18 without its classifier: 11.2 M weights, 512 features."""
    network = torchvision.models.resnet18(weights=None, zero_init_residual=zero_init_residual)
    trunk = trunk_of(network, "avgpool", "fc")
    return _resnet(trunk, 512, num_stages, map_stride, padding)


def resnet50(
    *,
    zero_init_residual: bool = False,
    num_stages: int = NUM_STAGES,
    map_stride: int | None = None,
    padding: Padding = "zeros",
) -> Encoder:
    """Return torchvision's ResNet-50 without its classifier: 23.5 M weights, 2048 features."""
    network = torchvision.models.resnet50(weights=None, zero_init_residual=zero_init_residual)
    trunk = trunk_of(network, "avgpool", "fc")
    return _resnet(trunk, 2048, num_stages, map_stride, padding)


def _resnet(
    trunk: nn.Sequential, widest: int, num_stages: int, map_stride: int | None, padding: Padding
) -> Encoder:
    """Return an encoder of a ResNet whose stages each double the channels, to `widest`."""
    trunk = shaped(trunk, num_stages, map_stride, padding)
    features = widest // 2 ** (NUM_STAGES - num_stages)
    return Encoder(trunk, nn.AdaptiveAvgPool2d(1), features, IMAGE_SHAPE)


def resnet_small(
    *, num_stages: int = NUM_STAGES, map_stride: int | None = None, padding: Padding = "zeros"
) -> Encoder:
    """Return a ResNet of 10 layers with the CIFAR stem: 1.2 M weights, 256 features.

    The CIFAR stem (He et al. 2016, §4.2; SimCLR, appendix B.9) is one 3×3 convolution without
    pooling, here with stride 2, so that 64 pixels meet the first block as 32.
    """
    stem = nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
    )
    trunk = small_trunk(stem, widths=(32, 64, 128, 256))
    return _resnet(trunk, 256, num_stages, map_stride, padding)


def dcfnet() -> Encoder:
    """Return the two convolutions of DCFNet: 10,144 weights, 32 features; maps 4 pixels smaller.

    Wang et al. 2017, arXiv:1704.04057; the network of UDT (arXiv:1904.01828), with the size of
    pictures in its maps.
    """
    trunk = nn.Sequential(
        nn.Conv2d(3, 32, kernel_size=3),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 32, kernel_size=3),
        nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0),
    )
    return Encoder(trunk, nn.AdaptiveAvgPool2d(1), embedding_dim=32, input_shape=IMAGE_SHAPE)


def cell_cnn() -> Encoder:
    """Return one convolution over cells of 10 pixels: 9,696 weights, 32 features; maps S/10 wide.

    The small encoder of Kipf et al. 2020 (C-SWM, arXiv:1911.12247, appendix) up to its object maps:
    for pictures of things that stand in cells.
    """
    cells = nn.Conv2d(3, 32, kernel_size=10, stride=10)
    nn.init.xavier_uniform_(cells.weight)
    trunk = nn.Sequential(cells, nn.BatchNorm2d(32), nn.ReLU(inplace=True))
    return Encoder(trunk, nn.AdaptiveAvgPool2d(1), embedding_dim=32, input_shape=IMAGE_SHAPE)


def small_trunk(stem: nn.Module, widths: tuple[int, ...]) -> nn.Sequential:
    """Return stem and one residual block per width; each after the first halves H and W.

    Args:
        stem: what comes before the blocks; gives `widths[0]` channels.
        widths: channels of the residual blocks; the last is the number of features.
    """
    blocks = [_residual_block(widths[0], widths[0], stride=1)]
    blocks += [
        _residual_block(narrow, wide, stride=2) for narrow, wide in itertools.pairwise(widths)
    ]
    trunk = nn.Sequential(stem, *blocks)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk


def _residual_block(channels_in: int, channels_out: int, stride: int) -> nn.Module:
    shortcut = None
    if stride != 1 or channels_in != channels_out:
        shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(channels_out),
        )
    block: nn.Module = BasicBlock(channels_in, channels_out, stride, shortcut)
    return block


IMAGE_ENCODERS = EncoderTable(
    "image",
    {
        "resnet18": resnet18,
        "resnet50": resnet50,
        "resnet_small": resnet_small,
        "dcfnet": dcfnet,
        "cell_cnn": cell_cnn,
        **{f"vit_{name}": vit(IMAGES, size) for name, size in VIT_SIZES.items()},
    },
)
