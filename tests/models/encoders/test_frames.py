"""Frame encoders: each frame as the image encoder sees it alone, under the same names."""

import pytest
import torch

from models.encoders.frames import FrameEncoder
from models.encoders.image import IMAGE_ENCODERS
from models.encoders.video import VIDEO_ENCODERS


@pytest.mark.parametrize("name", ["resnet_small", "vit_mini"])
def test_each_frame_is_what_the_image_encoder_makes_of_it(name: str) -> None:
    torch.manual_seed(0)
    encoder = VIDEO_ENCODERS.build(name).eval()
    image = IMAGE_ENCODERS.build(name).eval()
    image.load_state_dict({k.removeprefix("trunk."): v for k, v in encoder.state_dict().items()})
    clips = torch.randn(2, 3, 4, 32, 48)
    with torch.no_grad():
        maps, features = encoder.maps(clips), encoder(clips)
        assert maps.shape[:3] == (2, encoder.embedding_dim, 4)
        for clip in range(2):
            frames = clips[clip].transpose(0, 1)  # T × 3 × H × W
            torch.testing.assert_close(maps[clip].transpose(0, 1), image.maps(frames))
            torch.testing.assert_close(features[clip], image(frames).mean(0))


def test_every_image_encoder_is_a_video_encoder_with_its_options() -> None:
    assert set(IMAGE_ENCODERS.constructors) <= set(VIDEO_ENCODERS.constructors)
    encoder = VIDEO_ENCODERS.build("vit_mini", patch_size=16)
    assert encoder.maps(torch.zeros(1, 3, 2, 32, 32)).shape == (1, 128, 2, 2, 2)
    with pytest.raises(ValueError, match=r"video encoder 'resnet_small' has no such choice"):
        VIDEO_ENCODERS.build("resnet_small", patch_size=16)


def test_single_pictures_are_refused() -> None:
    encoder = VIDEO_ENCODERS.build("resnet_small")
    with pytest.raises(ValueError, match=r"shape \[B, 3, T, H, W\], got \[2, 3, 32, 32\]"):
        encoder(torch.zeros(2, 3, 32, 32))


def test_the_image_encoder_is_what_is_arranged() -> None:
    encoder = VIDEO_ENCODERS.build("resnet_small")
    assert isinstance(encoder, FrameEncoder)
    encoder.arrange(channels_last=True)
    weight = next(m.weight for m in encoder.modules() if isinstance(m, torch.nn.Conv2d))
    assert weight.is_contiguous(memory_format=torch.channels_last)
