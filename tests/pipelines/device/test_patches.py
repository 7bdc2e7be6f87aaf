"""Patches of a grid: where they lie, what they show, and which draws they have for themselves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from gdt import Batch, Plan, View
from pipelines.device.crop import patch_boxes
from pipelines.device.options import ImageAugment, VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from tests.pipelines.device.test_transform import raw_batch
from tests.pipelines.device.test_views import PLAIN, plan_of

SIDE = 96  # of a frame: cells of 32 pixels in a grid of 3
JIGSAW = PLAIN | {"scales": (1.0, 1.0), "aspects": (1.0, 1.0), "flip_probability": 0.0, "grid": 3}
WALK: dict[str, Any] = {"grid": 7, "window": 0.25, "patch_scales": (0.7, 0.9)}
WALK |= {"patch_aspects": (0.7, 1.3)}


def smooth(num_frames: int = 1) -> RawBatch:
    """Two rows of packed RGB that varies slowly, and with the frame."""
    y, x = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    waves = [
        [
            np.sin((x + 9 * frame) / 13 + row + channel) * np.cos(y / (15 + channel))
            for channel in range(3)
        ]
        for row in range(2)
        for frame in range(num_frames)
    ]
    frames = torch.tensor(np.array(waves)).mul(100).add(128).to(torch.uint8)
    frames = frames.movedim(1, -1).unflatten(0, (2, num_frames)).contiguous()
    known = {"pixels": "rgb_bt601", "color_matrix": "bt601"}
    return replace(raw_batch(shifts=1), frames=frames, height=SIDE, width=SIDE, **known)  # type: ignore[arg-type]


def rgb_of(raw: RawBatch) -> Tensor:
    """R, G and B of all frames: [R, 3, T, H, W]."""
    assert raw.frames is not None
    return raw.frames.movedim(-1, 1) / 255


def made(raw: RawBatch, draws: int = 1, modality: str = "image", **augment: Any) -> Batch:
    if modality == "image":
        options = DeviceOptions(image_augment=ImageAugment(**augment))
    else:
        options = DeviceOptions(video_augment=VideoAugment(**augment))
    return DeviceTransform(plan_of(draws, modality), options, 3)(raw)


def sampled(picture: Tensor, box: Tensor, size: int) -> Tensor:
    """A box of a picture [3, H, W], bilinear at the centres of size × size cells."""
    top, left, height, width = box.double()
    centers = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    y, x = torch.meshgrid(top + height * centers, left + width * centers, indexing="ij")
    places = torch.stack([x, y], dim=-1)[None] * 2 - 1
    return F.grid_sample(
        picture[None].double(), places, padding_mode="border", align_corners=False
    )[0].float()


def boxes_of(view: View) -> Tensor:
    assert view.boxes is not None
    return view.boxes


def test_cells_of_a_grid_are_torchvisions_crops_row_by_row() -> None:
    raw = smooth()
    view = made(raw, **JIGSAW).view("image")
    assert view.values.shape == (2, 9, 3, 16, 16)
    for row, picture in enumerate(rgb_of(raw)[:, :, 0]):
        for patch in range(9):
            place = (patch // 3 * 32, patch % 3 * 32, 32, 32)
            expected = vision.resized_crop(picture, *place, [16, 16], antialias=False)
            torch.testing.assert_close(view.values[row, patch], expected, atol=1e-4, rtol=0)
            shares = torch.tensor(place) / SIDE
            torch.testing.assert_close(boxes_of(view)[row, patch], shares.float())


def test_jittered_pieces_are_what_their_boxes_show() -> None:
    """PIRL: 64 of 85 pixels, each piece somewhere in its cell of a crop that may be mirrored."""
    raw = smooth()
    side = 64 / 85
    augment = JIGSAW | {"scales": (0.6, 1.0), "flip_probability": 0.5}
    augment |= {"patch_scales": (side**2, side**2)}
    view = made(raw, draws=4, **augment).view("image")
    boxes = boxes_of(view)
    assert (boxes[..., 3] < 0).any()
    assert (boxes[..., 3] > 0).any()
    whole = made(raw, draws=4, **augment | {"grid": 1}).view("image")  # the crop they are cut from
    pictures = rgb_of(raw)[:, :, 0].repeat_interleave(4, dim=0)
    for values, of_patches, crop, picture in zip(
        view.values, boxes, boxes_of(whole), pictures, strict=True
    ):
        cells = crop[2:] / 3
        corners = (of_patches[:, :2] - crop[:2]) / cells  # cells from the crop's corner
        first = torch.tensor([divmod(patch, 3) for patch in range(9)])
        assert ((corners >= first - 1e-4) & (corners <= first + 1 - side + 1e-4)).all()
        assert len((corners - first).unique()) == 18  # a place of its own for each
        torch.testing.assert_close(of_patches[:, 2:], (cells * side).expand(9, 2))
        for value, box in zip(values, of_patches, strict=True):
            torch.testing.assert_close(value, sampled(picture, box, 16), atol=1e-4, rtol=0)


def test_windows_of_a_walk_overlap_at_their_stride() -> None:
    """CRW: 7 × 7 windows of 64 pixels at stride 32 of 256, a RandomResizedCrop out of each."""

    def no_jitter(name: str, count: int = 0) -> np.ndarray:
        return np.full((1, count) if count else 1, 0.5)

    whole = np.array([[0.0, 0.0, 256.0, 256.0]])
    walk = (7, 0.25, no_jitter, (1.0, 1.0), (1.0, 1.0))
    windows = [patch_boxes(whole, patch, *walk)[0].tolist() for patch in range(49)]
    assert windows == [[32.0 * (k // 7), 32.0 * (k % 7), 64.0, 64.0] for k in range(49)]
    raw = smooth()
    view = made(raw, **JIGSAW | WALK).view("image")
    assert view.values.shape == (2, 49, 3, 16, 16)
    sizes = boxes_of(view)[..., 2:] * 4  # in windows
    areas, aspects = sizes.prod(-1), sizes[..., 1] / sizes[..., 0]
    assert ((areas > 0.699) & (areas < 0.901)).all()
    assert ((aspects > 0.7) & (aspects < 1.3)).all()
    assert areas.std() > 0.03
    for patch in (0, 17, 48):
        expected = sampled(rgb_of(raw)[1, :, 0], boxes_of(view)[1, patch], 16)
        torch.testing.assert_close(view.values[1, patch], expected, atol=1e-4, rtol=0)


def test_patches_share_the_crops_colours_or_draw_their_own() -> None:
    frames = torch.full((2, 1, SIDE * SIDE * 3 // 2), 128, dtype=torch.uint8)
    raw = raw_batch(shifts=1, frames=frames, height=SIDE, width=SIDE)
    bright = JIGSAW | {"jitter_probability": 1.0, "contrast": 0.0}

    def luma(**changes: Any) -> Tensor:
        return made(raw, **bright | changes).view("image").values.mean(dim=(2, 3, 4))

    shared = luma()
    torch.testing.assert_close(shared, shared[:, :1].expand(2, 9))
    assert shared[0, 0] != shared[1, 0]
    own = luma(patch_colors=True)
    assert len(own.flatten().unique()) == 18


def test_clips_are_cut_alike_in_every_frame_or_anew_in_each() -> None:
    raw = smooth(num_frames=3)
    augment = JIGSAW | {"grid": 2, "patch_scales": (0.5, 0.8)}
    tube = made(raw, modality="video", **augment).view("video")
    assert tube.values.shape == (2, 4, 3, 3, 16, 16)
    assert boxes_of(tube).shape == (2, 4, 4)
    moved = made(raw, modality="video", **augment, patch_frames=True).view("video")
    assert moved.values.shape == (2, 4, 3, 3, 16, 16)
    assert boxes_of(moved).shape == (2, 4, 3, 4)
    assert len(boxes_of(moved)[0, 0, :, 0].unique()) == 3
    for row, patch, frame in ((0, 0, 0), (0, 1, 2), (1, 3, 1)):
        picture = rgb_of(raw)[row, :, frame]
        for view, box in (
            (tube, boxes_of(tube)[row, patch]),
            (moved, boxes_of(moved)[row, patch, frame]),
        ):
            got = view.values[row, patch, :, frame]
            torch.testing.assert_close(got, sampled(picture, box, 16), atol=1e-4, rtol=0)


@pytest.mark.parametrize("grid", [1, 2])
def test_each_frame_may_have_its_own_crop_of_which_patches_keep_their_place(grid: int) -> None:
    raw = smooth(num_frames=3)
    scales = {"scales": (0.4, 0.9), "flip_probability": 0.5, "grid": grid}
    view = made(raw, modality="video", **JIGSAW | scales, frame_crops=True).view("video")
    boxes = boxes_of(view).reshape(2, -1, 3, 4)
    values = view.values.reshape(2, -1, 3, 3, 16, 16)
    assert len(boxes[0, 0, :, 0].unique()) == 3
    assert len(boxes[0, 0, :, 3].sign().unique()) == 1  # mirrored in all frames or in none
    for row, frame in ((0, 0), (1, 2)):
        expected = sampled(rgb_of(raw)[row, :, frame], boxes[row, -1, frame], 16)
        torch.testing.assert_close(values[row, -1, :, frame], expected, atol=1e-4, rtol=0)
    if grid == 2:  # the second patch begins where the first one ends, in every frame
        torch.testing.assert_close(boxes[:, 1, :, 1], boxes[:, 0, :, 1] + boxes[:, 0, :, 3])


def test_colours_of_a_clip_stay_the_same_where_its_crops_move() -> None:
    frames = torch.full((2, 3, SIDE * SIDE * 3 // 2), 128, dtype=torch.uint8)
    raw = raw_batch(shifts=1, frames=frames, height=SIDE, width=SIDE)
    bright = JIGSAW | {"grid": 1, "jitter_probability": 1.0, "scales": (0.4, 0.9)}
    luma = made(raw, modality="video", **bright, frame_crops=True).view("video").values
    means = luma.mean(dim=(1, 3, 4))
    torch.testing.assert_close(means, means[:, :1].expand(2, 3))
    assert means[0, 0] != means[1, 0]


def test_reversed_clips_are_cut_out_of_their_last_frame_first() -> None:
    raw, tables = smooth(num_frames=3), {"sample": {"relation": "distinctive"}}
    two: dict[str, Any] = {"relation": "invariant", "draws": 2}
    video: dict[str, Any] = {"relation": "invariant", "values": ["video"]}
    plan = Plan.from_tables(tables | {"modality": video, "time_reversal": two})
    augment = VideoAugment(**JIGSAW | {"grid": 2, "patch_scales": (0.5, 0.8)}, patch_frames=True)
    view = DeviceTransform(plan, DeviceOptions(video_augment=augment), 3)(raw).view("video")
    for frame in range(3):
        picture, box = rgb_of(raw)[0, :, 2 - frame], boxes_of(view)[1, 3, frame]
        expected = sampled(picture, box, 16)
        torch.testing.assert_close(view.values[1, 3, :, frame], expected, atol=1e-4, rtol=0)


def test_a_grid_is_a_view_of_its_own_shape_and_evaluation_has_none() -> None:
    """PIRL: one picture, and its pieces; a common recipe without a grid says what is evaluated."""
    plain = {key: value for key, value in JIGSAW.items() if key != "grid"}
    views: Any = ({}, {"grid": 3, "scales": [0.6, 1.0]})
    image, pieces = made(smooth(), draws=2, **plain, views=views).of("image")
    assert image.values.shape == (2, 3, 16, 16)
    assert pieces.values.shape == (2, 9, 3, 16, 16)
    assert image.codes[:, -1].tolist() == [0, 0]
    assert pieces.codes[:, -1].tolist() == [1, 1]
    options = DeviceOptions(image_augment=ImageAugment(**JIGSAW))
    middle = DeviceTransform(plan_of(1), options, training=False)(smooth()).view("image")
    assert middle.values.shape == (2, 3, 16, 16)
    assert boxes_of(middle).shape == (2, 4)


def test_patches_do_not_depend_on_the_rows_beside_them() -> None:
    raw = smooth()
    assert raw.frames is not None
    augment = JIGSAW | {"jitter_probability": 1.0, "patch_colors": True, "patch_scales": (0.3, 0.9)}
    both = made(raw, **augment).view("image")
    rows: dict[str, Any] = {"frames": raw.frames[1:], "audio": None, "keys": raw.keys[1:]}
    for name in ("sample", "shift", "start_seconds"):
        rows[name] = getattr(raw, name)[1:]
    alone = made(replace(raw, **rows), **augment).view("image")
    assert torch.equal(alone.values[0], both.values[1])
    assert torch.equal(boxes_of(alone)[0], boxes_of(both)[1])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"grid": 0}, r"grid = 0, must lie in \[1, 64\]"),
        ({"window": 1.5}, r"window = 1.5, must lie in \[0, 1\]"),
        ({"patch_scales": (0.9, 0.5)}, r"patch_scales = \[0.9, 0.5\], must be least and greatest"),
        ({"frame_crops": True}, "frame_crops is for clips, and an image has one frame"),
        ({"patch_frames": True}, "patch_frames is for clips, and an image has one frame"),
    ],
)
def test_what_a_grid_may_not_be(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAugment(**keys)
