"""ResNets with other maps: stages, strides and borders, against torchvision's own layers."""

import pytest
import torch
import torchvision
from torch import nn

from models.encoders import EncoderOptions
from models.encoders.image import IMAGE_ENCODERS

SIZES = [  # encoder, stages, stride → cells of 64 pixels, channels
    ("resnet18", 4, None, 2, 512),
    ("resnet18", 4, 8, 8, 512),
    ("resnet18", 3, 8, 8, 256),
    ("resnet18", 3, None, 4, 256),
    ("resnet18", 4, 4, 16, 512),
    ("resnet50", 3, 8, 8, 1024),
    ("resnet_small", 3, None, 8, 128),
    ("resnet_small", 4, 4, 16, 256),
    ("resnet_small", 1, None, 32, 32),
]


@pytest.mark.parametrize(("name", "stages", "stride", "cells", "channels"), SIZES)
def test_cells_and_channels(
    name: str, stages: int, stride: int | None, cells: int, channels: int
) -> None:
    encoder = IMAGE_ENCODERS.build(name, num_stages=stages, map_stride=stride).eval()
    with torch.no_grad():
        maps = encoder.maps(torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, channels, cells, cells)
    assert encoder.embedding_dim == channels


def test_maps_are_those_of_torchvisions_layers_with_stride_1() -> None:
    torch.manual_seed(0)
    encoder = IMAGE_ENCODERS.build("resnet18", map_stride=8).eval()
    network = torchvision.models.resnet18(weights=None).eval()
    names = {key.removeprefix("trunk."): value for key, value in encoder.state_dict().items()}
    network.load_state_dict(names, strict=False)
    for stage in (network.layer3, network.layer4):
        stage[0].conv1.stride = stage[0].downsample[0].stride = (1, 1)
    pictures = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stem = network.maxpool(network.relu(network.bn1(network.conv1(pictures))))
        expected = network.layer4(network.layer3(network.layer2(network.layer1(stem))))
        torch.testing.assert_close(encoder.maps(pictures), expected)


def test_borders_are_mirrored() -> None:
    encoder = IMAGE_ENCODERS.build("resnet_small", num_stages=1, padding="reflect").eval()
    torch.manual_seed(0)
    pictures = torch.randn(1, 3, 16, 16)
    first = next(m for m in encoder.modules() if isinstance(m, nn.Conv2d))
    mirrored = nn.functional.pad(pictures, (1, 1, 1, 1), mode="reflect")
    with torch.no_grad():
        expected = nn.functional.conv2d(mirrored, first.weight, stride=2)
        torch.testing.assert_close(first(pictures), expected)
        flat = encoder.maps(torch.ones(1, 3, 16, 16))  # no border to be seen
        torch.testing.assert_close(flat, flat[:, :, :1, :1].expand_as(flat))


def test_strides_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"map_stride = 2: .* can be 4, 8, 16, 32 pixels wide"):
        IMAGE_ENCODERS.build("resnet18", map_stride=2)
    with pytest.raises(ValueError, match=r"map_stride = 32: .* can be 4, 8, 16 pixels wide"):
        IMAGE_ENCODERS.build("resnet50", num_stages=3, map_stride=32)
    with pytest.raises(ValueError, match=r"num_stages = 5, must be 1 to 4"):
        EncoderOptions(num_stages=5)


def test_the_options_of_a_config_reach_pictures_and_frames_alone() -> None:
    options = EncoderOptions(
        video="resnet_small", audio="resnet9_small", num_stages=2, map_stride=2, padding="reflect"
    )
    maps = options.build("video").maps(torch.zeros(1, 3, 2, 32, 32))
    assert maps.shape == (1, 64, 2, 16, 16)
    options.build("audio")
    with pytest.raises(ValueError, match=r"num_stages is set, and the video encoder 'r2plus1d_18'"):
        EncoderOptions(num_stages=2).build("video")
