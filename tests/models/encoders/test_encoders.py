"""Encoders: shapes, sizes, gradients, memory formats, and the names that are allowed."""

from collections.abc import Iterable
from typing import cast

import pytest
import torch
from torchvision.models.vision_transformer import EncoderBlock

from models.encoders.audio import AUDIO_ENCODERS
from models.encoders.encoder import EncoderTable
from models.encoders.image import IMAGE_ENCODERS
from models.encoders.video import VIDEO_ENCODERS
from models.parts import MomentumCopy, MomentumSchedule

# table, name, one small batch, features, weights (the papers' and torchvision's numbers)
CASES = [
    (VIDEO_ENCODERS, "r2plus1d_18", (2, 3, 4, 32, 32), 512, 31_300_125),
    (VIDEO_ENCODERS, "r2plus1d_small", (2, 3, 8, 64, 64), 256, 3_124_492),
    (VIDEO_ENCODERS, "mc3_18", (2, 3, 4, 32, 32), 512, 11_490_240),
    (VIDEO_ENCODERS, "s3d", (2, 3, 16, 64, 64), 1024, 7_910_048),
    (VIDEO_ENCODERS, "video_vit_small", (2, 3, 4, 32, 32), 384, 21_884_544),
    (VIDEO_ENCODERS, "video_vit_base", (2, 3, 4, 32, 32), 768, 86_236_416),
    (VIDEO_ENCODERS, "video_vit_mini", (2, 3, 4, 32, 32), 128, 842_624),
    (AUDIO_ENCODERS, "resnet9", (2, 1, 40, 99), 512, 4_899_520),
    (AUDIO_ENCODERS, "resnet18", (2, 1, 40, 99), 512, 11_170_240),
    (AUDIO_ENCODERS, "resnet9_small", (2, 1, 40, 99), 256, 1_227_104),
    (AUDIO_ENCODERS, "waveform_cnn", (2, 1, 3200), 256, 1_317_120),
    (AUDIO_ENCODERS, "waveform_cnn_small", (2, 1, 3200), 64, 83_520),
    (AUDIO_ENCODERS, "vit_small", (2, 1, 32, 35), 384, 21_393_408),
    (AUDIO_ENCODERS, "vit_base", (2, 1, 32, 35), 768, 85_254_144),
    (AUDIO_ENCODERS, "vit_mini", (2, 1, 40, 99), 128, 801_792),
    (IMAGE_ENCODERS, "resnet18", (2, 3, 64, 64), 512, 11_176_512),
    (IMAGE_ENCODERS, "resnet50", (2, 3, 64, 64), 2048, 23_508_032),
    (IMAGE_ENCODERS, "resnet_small", (2, 3, 64, 64), 256, 1_226_400),
    (IMAGE_ENCODERS, "cell_cnn", (2, 3, 20, 20), 32, 9_696),
    (IMAGE_ENCODERS, "dcfnet", (2, 3, 32, 32), 32, 10_144),
    (IMAGE_ENCODERS, "vit_small", (2, 3, 32, 32), 384, 21_590_016),
    (IMAGE_ENCODERS, "vit_base", (2, 3, 32, 32), 768, 85_647_360),
    (IMAGE_ENCODERS, "vit_mini", (2, 3, 32, 32), 128, 818_176),
]
IDS = [name for _, name, *_ in CASES]


@pytest.mark.parametrize(("table", "name", "shape", "features", "weights"), CASES, ids=IDS)
def test_shape_size_and_gradient(
    table: EncoderTable, name: str, shape: tuple[int, ...], features: int, weights: int
) -> None:
    torch.manual_seed(0)
    encoder = table.build(name)
    assert encoder.embedding_dim == features
    assert sum(p.numel() for p in encoder.parameters()) == weights
    out = encoder(torch.randn(shape))
    assert out.shape == (shape[0], features)
    (out * torch.randn_like(out)).sum().backward()  # not out.sum(): batch norm would cancel it
    for parameter_name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_every_table_entry_is_tested() -> None:
    tables = (VIDEO_ENCODERS, AUDIO_ENCODERS, IMAGE_ENCODERS)
    by_frame = list(IMAGE_ENCODERS.constructors)  # among the video encoders, see test_frames.py
    every = sorted(name for table in tables for name in table.constructors)
    assert sorted([*IDS, *by_frame]) == every


@pytest.mark.parametrize("name", ["r2plus1d_small", "r2plus1d_18"])
def test_r2plus1d_splits_each_convolution_over_space_and_time(name: str) -> None:
    kernels = {
        tuple(module.kernel_size)
        for module in VIDEO_ENCODERS.build(name).modules()
        if isinstance(module, torch.nn.Conv3d)
    }
    assert kernels == {(1, 7, 7), (3, 1, 1), (1, 3, 3), (1, 1, 1)}


def test_video_encoders_take_other_lengths_and_sizes() -> None:
    encoder = VIDEO_ENCODERS.build("r2plus1d_small").eval()
    with torch.no_grad():
        for frames, height, width in [(16, 112, 112), (8, 64, 112), (30, 56, 56), (1, 64, 64)]:
            assert encoder(torch.randn(1, 3, frames, height, width)).shape == (1, 256)


def test_small_video_encoder_sees_the_direction_of_time() -> None:
    torch.manual_seed(0)
    encoder = VIDEO_ENCODERS.build("r2plus1d_small").eval()
    video = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        assert not torch.allclose(encoder(video), encoder(video.flip(2)), atol=1e-3)


def test_channels_last_3d_gives_the_same_features() -> None:
    torch.manual_seed(0)
    encoder = VIDEO_ENCODERS.build("r2plus1d_small").eval()
    video = torch.randn(2, 3, 8, 64, 64)
    with torch.no_grad():
        expected = encoder(video)
        encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        got = encoder(video.to(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(VIDEO_ENCODERS.build("r2plus1d_small").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_wrong_shape_says_what_is_taken() -> None:
    encoder = VIDEO_ENCODERS.build("r2plus1d_small")
    with pytest.raises(ValueError, match=r"shape \[B, 3, T, H, W\], got \[2, 8, 3, 64, 64\]"):
        encoder(torch.zeros(2, 8, 3, 64, 64))
    with pytest.raises(ValueError, match=r"shape \[B, 1, F, L\], got \[2, 40, 99\]"):
        AUDIO_ENCODERS.build("resnet9_small")(torch.zeros(2, 40, 99))


def test_unknown_name_lists_what_is_allowed() -> None:
    with pytest.raises(
        ValueError,
        match=r"unknown audio encoder 'resnet8'; allowed: resnet18, resnet9, resnet9_small",
    ):
        AUDIO_ENCODERS.build("resnet8")


def test_dropped_paths_leave_out_whole_branches_of_some_rows_in_training() -> None:
    torch.manual_seed(0)
    encoder = IMAGE_ENCODERS.build("vit_mini", drop_path=0.6)
    blocks = cast(Iterable[EncoderBlock], encoder.get_submodule("trunk.blocks"))
    rates = [getattr(block.dropout, "p", 0.0) for block in blocks]
    assert rates == pytest.approx([0.0, 0.2, 0.4, 0.6])
    last = list(blocks)[-1]
    tokens = torch.randn(200, 5, 128)
    out, kept = last(tokens), last.eval()(tokens)
    same = (out == tokens).all(dim=(1, 2))  # neither half of the block was added
    assert 0.2 < same.float().mean() < 0.55  # 0.6²
    assert not (kept == tokens).all(dim=(1, 2)).any()
    attended = tokens + last.self_attention(*[last.ln_1(tokens)] * 3, need_weights=False)[0]
    torch.testing.assert_close(kept, attended + last.mlp(last.ln_2(attended)))
    plain = IMAGE_ENCODERS.build("vit_mini").state_dict()
    assert plain.keys() == encoder.state_dict().keys()


def test_a_momentum_copy_drops_no_path() -> None:
    torch.manual_seed(0)
    encoder = IMAGE_ENCODERS.build("vit_mini", drop_path=0.5)
    copy = MomentumCopy(encoder, MomentumSchedule(0.9)).network
    values = torch.randn(4, 3, 16, 16)
    assert torch.equal(copy.train()(values), encoder.eval()(values))
    assert not torch.equal(encoder.train()(values), encoder.eval()(values))
