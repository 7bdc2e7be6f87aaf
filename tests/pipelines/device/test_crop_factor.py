"""The factor crop: its codes, and which draws it has for itself."""

from typing import Any

import pytest
import torch

from gdt.plan import Plan
from pipelines.device.crop import random_boxes
from pipelines.device.options import ImageAugment, VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from pipelines.sampling.draws import uniform

HEIGHT, WIDTH = 32, 48
INVARIANT: dict[str, Any] = {"relation": "invariant", "draws": 2}
SMALL = DeviceOptions(video_augment=VideoAugment(size=16))


def plan_of(*modalities: str, **factors: Any) -> Plan:
    tables: dict[str, Any] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": list(modalities)},
    }
    return Plan.from_tables(tables | factors)


def raw_batch(speed: list[int] | None = None, num_frames: int = 2) -> RawBatch:
    rows = 4
    generator = torch.Generator().manual_seed(0)
    shape = (rows, num_frames, HEIGHT * WIDTH * 3 // 2)
    return RawBatch(
        frames=torch.randint(60, 180, shape, dtype=torch.uint8, generator=generator),
        audio=torch.randn(rows, 4800, generator=generator) * 0.1,
        sample=torch.tensor([7, 7, 3, 3]),
        shift=torch.tensor([0, 1, 0, 1]),
        start_seconds=torch.zeros(rows, dtype=torch.float64),
        keys=tuple("aabb"),
        height=HEIGHT,
        width=WIDTH,
        color_matrix="bt709",
        color_range="limited",
        sample_rate_hz=24_000,
        epoch=1,
        step=0,
        speed=None if speed is None else torch.tensor(speed),
    )


CROPS = plan_of(
    "video",
    "audio",
    time_shift={"relation": "invariant", "draws": 2},
    crop=INVARIANT,
    augmentation=INVARIANT,
)


def test_codes_are_the_plans_full_grid() -> None:
    batch = DeviceTransform(CROPS, SMALL)(raw_batch())
    full = CROPS.codes(torch.tensor([7, 3]))
    for number, name in enumerate(("video", "audio")):
        codes = full[full[:, CROPS.names.index("modality")] == number]
        assert torch.equal(batch.view(name).codes, codes)


def test_the_box_is_the_crops_and_all_else_the_augmentations() -> None:
    # Frames of one colour: what a row looks like tells its colours, and its box is told apart.
    raw = raw_batch()
    assert raw.frames is not None
    raw.frames[:] = 120
    view = DeviceTransform(CROPS, SMALL)(raw).view("video")
    assert view.boxes is not None
    boxes = view.boxes.view(4, 2, 2, 4)  # raw rows x crops x augmentations
    sizes = torch.stack([boxes[..., 0], boxes[..., 2], boxes[..., 3].abs()], -1)
    assert torch.equal(sizes[:, :, 0], sizes[:, :, 1])
    assert not torch.isclose(sizes[:, 0], sizes[:, 1]).all(-1).any()
    means = view.values.view(4, 2, 2, -1).mean(-1)
    torch.testing.assert_close(means[:, 0], means[:, 1])
    assert ((means[:, :, 0] - means[:, :, 1]).abs() > 1e-3).all()


def test_boxes_are_hashed_from_the_code() -> None:
    view = DeviceTransform(CROPS, SMALL, seed=5)(raw_batch()).view("video")
    assert view.boxes is not None
    boxes = view.boxes.view(2, 2, 2, 2, 4)  # samples x shifts x crops x augmentations
    for shift in range(2):
        for crop in range(2):

            def draw(name: str, shift: int = shift, crop: int = crop) -> Any:
                return uniform(5, 1, 7, f"video.{name}", shift, 0, crop, 0).reshape(1)

            (top, _, height, _) = random_boxes(draw, HEIGHT, WIDTH, (0.7, 0.875), (1.0, 1.0))[0]
            found = boxes[0, shift, crop, 0]
            assert float(found[0]) == pytest.approx(top / HEIGHT, abs=1e-6)
            assert float(found[2]) == pytest.approx(height / HEIGHT, abs=1e-6)


def test_the_box_is_the_augmentations_where_crop_is_no_factor() -> None:
    plan = plan_of("video", augmentation=INVARIANT)
    view = DeviceTransform(plan, SMALL)(raw_batch()).view("video")
    assert view.boxes is not None
    boxes = view.boxes.view(4, 2, 4)
    assert not torch.isclose(boxes[:, 0], boxes[:, 1]).all(-1).any()


def test_rows_of_another_speed_have_draws_of_their_own() -> None:
    speed = {"relation": "invariant", "values": [1.0, 2.0]}
    plan = plan_of("video", time_shift={"relation": "invariant", "draws": 2}, speed=speed)
    plain = plan_of("video", time_shift={"relation": "invariant", "draws": 2})
    normal = DeviceTransform(plain, SMALL)(raw_batch()).view("video")
    mixed = DeviceTransform(plan, SMALL)(raw_batch([0, 1, 0, 1])).view("video")
    assert mixed.codes[:, plan.names.index("speed")].tolist() == [0, 1, 0, 1]
    assert torch.equal(mixed.values[::2], normal.values[::2])
    assert (mixed.values[1::2] != normal.values[1::2]).flatten(1).any(1).all()


def test_evaluation_has_one_crop_in_the_middle() -> None:
    plan = plan_of("image", crop=INVARIANT)
    options = DeviceOptions(image_augment=ImageAugment(size=16, center_scale=0.5))
    view = DeviceTransform(plan, options, training=False)(raw_batch(num_frames=1)).view("image")
    assert len(view) == 4
    assert not view.codes[:, plan.names.index("crop")].any()
    assert view.boxes is not None
    assert view.boxes.tolist() == [pytest.approx([0.25, 1 / 3, 0.5, 1 / 3])] * 4
