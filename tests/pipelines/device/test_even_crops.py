"""Several crops of evaluation, against pictures cut by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gdt.plan import Plan
from pipelines.device.options import VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from tests.pipelines.device.test_transform import raw_batch

PLAN = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video", "audio"]},
    }
)
STRONG = VideoAugment(
    size=16,
    center_scale=0.5,
    crop="random_resized",
    hue=0.3,
    gray_probability=1.0,
    blur_probability=1.0,
    solarize_probability=1.0,
)


def transform(test_crops: int, options: VideoAugment = STRONG) -> DeviceTransform:
    device_options = DeviceOptions(video_augment=options)
    return DeviceTransform(PLAN, device_options, training=False, test_crops=test_crops)


def upright(raw: RawBatch) -> RawBatch:
    """A tall batch: the gray picture of the wide one, transposed."""
    assert raw.frames is not None
    luma = raw.frames[..., : raw.height * raw.width].unflatten(-1, (raw.height, raw.width)).mT
    chroma = torch.full_like(raw.frames[..., raw.height * raw.width :], 128)
    frames = torch.cat([luma.flatten(-2), chroma], dim=-1)
    return replace(raw, frames=frames.contiguous(), height=raw.width, width=raw.height)


def test_three_crops_are_left_middle_and_right() -> None:
    raw = raw_batch()
    batch = transform(3)(raw)
    view = batch.view("video")
    assert view.values.shape == (12, 3, 4, 16, 16)  # 4 raw rows, each with its crops in order
    assert view.boxes is not None
    boxes = view.boxes.unflatten(0, (4, 3)) * torch.tensor([32, 48, 32, 48])
    lefts = torch.tensor([0.0, 16.0, 32.0])
    assert torch.allclose(boxes[..., 1], lefts.expand(4, 3), atol=1e-4)
    assert torch.allclose(boxes[..., 0], torch.tensor(8.0), atol=1e-4)  # the middle of the height
    assert torch.allclose(boxes[..., 2:], torch.tensor(16.0), atol=1e-4)
    assert batch.view("audio").values.shape[0] == 12


def test_the_middle_one_is_what_evaluation_sees_alone() -> None:
    raw = raw_batch()
    alone = transform(1)(raw).view("video").values
    three = transform(3)(raw).view("video").values.unflatten(0, (4, 3))
    torch.testing.assert_close(three[:, 1], alone, atol=1e-5, rtol=0)
    assert not torch.allclose(three[:, 0], three[:, 2])


def test_the_first_and_last_are_those_of_the_same_pixels_elsewhere() -> None:
    """A picture shifted to the right by the room of a crop has its middle one at the end."""
    raw = raw_batch()
    assert raw.frames is not None
    size = raw.height * raw.width
    planes = np.split(raw.frames.numpy(), [size, size + size // 4], axis=-1)
    shapes = [(32, 48), (16, 24), (16, 24)]
    shifted = [
        np.roll(p.reshape(*p.shape[:2], *shape), shape[1] // 3, axis=-1).reshape(p.shape)
        for p, shape in zip(planes, shapes, strict=True)
    ]
    moved = replace(raw, frames=torch.from_numpy(np.concatenate(shifted, axis=-1)))
    # inside of the crop alone: its edge columns mix with what is beside it
    ours = transform(3)(moved).view("video").values.unflatten(0, (4, 3))[:, 2, ..., 1:-1]
    theirs = transform(3)(raw).view("video").values.unflatten(0, (4, 3))[:, 1, ..., 1:-1]
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_of_a_tall_frame_they_are_top_middle_and_bottom() -> None:
    raw = raw_batch()
    gray = replace(raw, frames=upright(upright(raw)).frames)
    wide = transform(3)(gray).view("video").values
    tall = transform(3)(upright(raw)).view("video").values
    torch.testing.assert_close(tall, wide.mT, atol=1e-4, rtol=0)


@pytest.mark.parametrize("crops", [2, 5])
def test_they_reach_from_end_to_end(crops: int) -> None:
    boxes = transform(crops)(raw_batch()).view("video").boxes
    assert boxes is not None
    lefts = boxes.unflatten(0, (4, crops))[0, :, 1] * 48
    assert torch.allclose(lefts, torch.linspace(0, 32, crops), atol=1e-4)
