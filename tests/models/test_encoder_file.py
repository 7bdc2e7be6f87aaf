"""An exported encoder is torchvision's network to torchvision, and itself to us."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from models import ENCODERS, EncoderOptions, load_encoder
from models.encoder_file import EncoderFile, EncoderFileError, describe_encoder, save_encoder


def saved(path: Path, modality: str, name: str, **options: int) -> nn.Module:
    torch.manual_seed(0)
    encoder = ENCODERS[modality].build(name, **options).eval()
    about = EncoderFile(modality, name, encoder.embedding_dim, options, {"size": 112}, {"step": 3})
    save_encoder(encoder, about, path)
    return encoder


@pytest.mark.parametrize(
    ("modality", "name", "shape"),
    [
        ("video", "r2plus1d_18", (1, 3, 4, 32, 32)),
        ("video", "mc3_18", (1, 3, 4, 32, 32)),
        ("image", "resnet18", (1, 3, 32, 32)),
    ],
)
def test_torchvision_takes_the_weights(
    tmp_path: Path, modality: str, name: str, shape: tuple[int, ...]
) -> None:
    encoder = saved(tmp_path / "encoder.safetensors", modality, name)
    weights = load_file(tmp_path / "encoder.safetensors")
    home = torchvision.models.video if modality == "video" else torchvision.models
    network = getattr(home, name)(weights=None)
    found = network.load_state_dict(weights, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    network.fc = nn.Identity()
    network.load_state_dict(weights)
    values = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(values), encoder(values))


def test_s3d_has_torchvisions_names_too(tmp_path: Path) -> None:
    saved(tmp_path / "s3d.safetensors", "video", "s3d")
    network = torchvision.models.video.s3d(weights=None)
    found = network.load_state_dict(load_file(tmp_path / "s3d.safetensors"), strict=False)
    assert found.unexpected_keys == []
    assert all(name.startswith("classifier.") for name in found.missing_keys)


@pytest.mark.parametrize(
    ("modality", "name", "options", "shape"),
    [
        ("audio", "resnet9_small", {}, (2, 1, 40, 49)),
        ("image", "vit_mini", {"patch_size": 4}, (2, 3, 16, 16)),
        ("video", "resnet_small", {"num_stages": 3, "map_stride": 4}, (2, 3, 2, 16, 16)),
    ],
)
def test_it_comes_back_as_it_was(
    tmp_path: Path,
    modality: str,
    name: str,
    options: dict[str, int],
    shape: tuple[int, ...],
) -> None:
    path = tmp_path / "folder" / "encoder.safetensors"
    encoder, values = saved(path, modality, name, **options), torch.randn(shape)
    back = load_encoder(path)
    assert not back.training
    with torch.inference_mode():
        assert torch.equal(back(values), encoder(values))
    about = describe_encoder(path)
    assert (about.modality, about.name, about.options) == (modality, name, options)
    assert (about.inputs, about.facts) == ({"size": 112}, {"step": 3})


@pytest.mark.parametrize(
    ("options", "channels"), [({"channel_groups": (1, 2)}, 3), ({"image_channels": 2}, 2)]
)
def test_encoders_of_other_channels_come_back_too(
    tmp_path: Path, options: dict[str, Any], channels: int
) -> None:
    path, asked = tmp_path / "encoder.safetensors", EncoderOptions(image="resnet_small", **options)
    encoder, values = asked.build("image").eval(), torch.randn(2, channels, 16, 16)
    about = EncoderFile("image", "resnet_small", encoder.embedding_dim, asked.choices("image"))
    save_encoder(encoder, about, path)
    with torch.inference_mode():
        assert torch.equal(load_encoder(path)(values), encoder(values))
    with pytest.raises(ValueError, match=rf"takes a tensor of shape \[B, {channels}, H, W\]"):
        encoder(torch.randn(2, channels + 1, 16, 16))


def test_what_is_no_encoder_is_said(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(EncoderFileError, match="is not an encoder of this version"):
        load_encoder(path)
    path.write_bytes(b"nothing")
    with pytest.raises(EncoderFileError, match="cannot be read as an encoder"):
        load_encoder(path)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "encoder.safetensors"
    encoder = ENCODERS["image"].build("resnet_small")
    save_encoder(encoder, EncoderFile("image", "resnet18", 512), path)
    message = re.compile(r"its weights are not those of the image encoder 'resnet18': .* differ")
    with pytest.raises(EncoderFileError, match=message):
        load_encoder(path)
    save_encoder(encoder, EncoderFile("image", "resnet19", 512), path)
    with pytest.raises(EncoderFileError, match="this version has no such encoder"):
        load_encoder(path)
