"""Views of several recipes: sizes, boxes, solarizing, Lab; and what of them is refused."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as vision

from gdt import Plan
from pipelines.color import lab_from_rgb
from pipelines.device.options import ImageAugment, VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from tests.pipelines.device.test_transform import HEIGHT, WIDTH, raw_batch

PLAIN: dict[str, Any] = {
    "size": 16,
    "jitter_probability": 0.0,
    "gray_probability": 0.0,
    "blur_probability": 0.0,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}


def plan_of(draws: int, modality: str = "image") -> Plan:
    return Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": [modality]},
            "augmentation": {"relation": "invariant", "draws": draws},
        }
    )


def images(augment: ImageAugment, draws: int, *, training: bool = True) -> Any:
    raw = raw_batch(shifts=1)
    assert raw.frames is not None
    raw = raw_batch(shifts=1, frames=raw.frames[:, :1])
    transform = DeviceTransform(
        plan_of(draws), DeviceOptions(image_augment=augment), 3, training=training
    )
    return transform(raw)


def test_global_and_local_crops_are_two_views_of_their_own_sizes() -> None:
    views = ({"count": 2, "size": 32}, {"count": 3, "size": 16, "scales": [0.05, 0.1]})
    batch = images(ImageAugment(**PLAIN, views=views), 5)
    large, small = batch.of("image")
    assert large.values.shape == (4, 3, 32, 32)
    assert small.values.shape == (6, 3, 16, 16)
    column = plan_of(5).names.index("augmentation")
    assert large.codes[:, column].tolist() == [0, 1, 0, 1]
    assert small.codes[:, column].tolist() == [2, 3, 4, 2, 3, 4]
    area = (small.boxes[:, 2] * small.boxes[:, 3]).abs()
    assert ((area > 0.0499) & (area < 0.1001)).all()


def test_views_of_one_recipe_are_the_draws_as_they_are_without_views() -> None:
    whole = images(ImageAugment(**PLAIN), 3).view("image")
    named = images(ImageAugment(**PLAIN, views=({"count": 3},)), 3).view("image")
    assert torch.equal(whole.values, named.values)
    assert torch.equal(whole.boxes, named.boxes)


def test_a_box_says_what_a_crop_shows() -> None:
    """Cut by hand out of a frame whose brightness is the column: a flip reads it backwards."""
    ramp = np.tile(np.linspace(60, 180, WIDTH), (HEIGHT, 1)).astype(np.uint8)
    gray = np.concatenate([ramp.ravel(), np.full(HEIGHT * WIDTH // 2, 128, np.uint8)])
    frames = torch.from_numpy(gray).view(1, 1, -1).expand(2, 1, -1).contiguous()
    raw = raw_batch(shifts=1, frames=frames)
    options = DeviceOptions(image_augment=ImageAugment(**PLAIN))
    view = DeviceTransform(plan_of(4), options, 1)(raw).view("image")
    assert view.boxes is not None
    assert (view.boxes[:, 3] < 0).any()
    assert (view.boxes[:, 3] > 0).any()
    for values, (_, left, _, width) in zip(view.values, view.boxes, strict=True):
        columns = left + width * (torch.arange(16) + 0.5) / 16  # shares of the frame
        luma = 60 + 120 * ((columns * WIDTH - 0.5).clamp(0, WIDTH - 1)) / (WIDTH - 1)
        expected = (luma - 16) / 219
        torch.testing.assert_close(values[0, 8], expected, atol=0.01, rtol=0)


def test_solarizing_is_torchvisions() -> None:
    plain = images(ImageAugment(**PLAIN), 2).view("image").values
    both: tuple[dict[str, Any], ...] = (
        {},
        {"solarize_probability": 1.0, "solarize_threshold": 0.4},
    )
    got = images(ImageAugment(**PLAIN, views=both), 2).view("image").values
    torch.testing.assert_close(got[::2], plain[::2])
    torch.testing.assert_close(got[1::2], vision.solarize(plain[1::2], 0.4), atol=1e-5, rtol=0)
    normal = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    column = {key: torch.tensor(value).view(3, 1, 1) for key, value in normal.items()}
    normalised = images(ImageAugment(**PLAIN | normal, views=both), 2).view("image").values
    torch.testing.assert_close(normalised * column["std"] + column["mean"], got, atol=1e-5, rtol=0)


def test_lab_is_the_published_formula() -> None:
    """Corners of the sRGB cube as colour science has them (D65, 2°)."""
    known = {
        (0, 0, 0): (0, 0, 0),
        (1, 1, 1): (100, 0, 0),
        (1, 0, 0): (53.24, 80.09, 67.20),
        (0, 1, 0): (87.73, -86.18, 83.18),
        (0, 0, 1): (32.30, 79.19, -107.86),
        (0.02, 0.02, 0.02): (1.40, 0, 0),
    }
    rgb = torch.tensor(list(known), dtype=torch.float64)[:, :, None]
    expected = torch.tensor(list(known.values()), dtype=torch.float64)
    torch.testing.assert_close(lab_from_rgb(rgb)[:, :, 0], expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("training", [True, False])
def test_lab_views_are_the_lab_of_the_rgb_views(*, training: bool) -> None:
    rgb = images(ImageAugment(**PLAIN), 2, training=training).view("image").values
    scale = {"mean": (50.0, 6.0, -6.7), "std": (50.0, 92.2, 101.2)}
    lab = images(ImageAugment(**PLAIN | scale, channels="lab"), 2, training=training)
    column = {key: torch.tensor(value).view(3, 1, 1) for key, value in scale.items()}
    expected = (lab_from_rgb(rgb) - column["mean"]) / column["std"]
    torch.testing.assert_close(lab.view("image").values, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_views_of_two_channels_are_a_view_of_their_own(channels_last: bool) -> None:
    views = ({"channels": "sobel"}, {"size": 16})
    augment = ImageAugment(**PLAIN, views=views)
    raw = raw_batch(shifts=1)
    assert raw.frames is not None
    raw = raw_batch(shifts=1, frames=raw.frames[:, :1])
    options = DeviceOptions(image_augment=augment)
    transform = DeviceTransform(plan_of(2), options, 3, channels_last=channels_last)
    edges, colours = transform(raw).of("image")
    assert (edges.values.shape, colours.values.shape) == ((2, 2, 16, 16), (2, 3, 16, 16))
    gray = images(ImageAugment(**PLAIN), 2).view("image").values[::2].mean(1)
    three = gray[:, :-2] + 2 * gray[:, 1:-1] + gray[:, 2:]  # rows, weighted
    along_x = three[:, :, :-2] - three[:, :, 2:]
    torch.testing.assert_close(edges.values[:, 0, 1:-1, 1:-1], along_x, atol=1e-5, rtol=0)


def test_evaluation_takes_the_middle_by_the_common_recipe() -> None:
    views = ({"size": 32}, {"size": 24})
    view = images(ImageAugment(**PLAIN, views=views), 2, training=False).view("image")
    assert view.values.shape == (2, 3, 16, 16)
    side = 0.875 * min(HEIGHT, WIDTH)
    expected = torch.tensor([(1 - 0.875) / 2, (WIDTH - side) / 2 / WIDTH, 0.875, side / WIDTH])
    torch.testing.assert_close(view.boxes, expected.expand(2, 4))


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (({"sise": 3},), r"views\[0\]: unknown key 'sise'"),
        (({"size": "big"},), r"views\[0\]: size = 'big', must be like 112"),
        (({"scales": [0.1]},), r"views\[0\]: scales = \[0.1\], must be like \(0.2, 1.0\)"),
        (({}, {"count": 0}), r"views\[1\]: count = 0, must be a count"),
        (({"flip_probability": 2},), r"flip_probability = 2.0, must lie in \[0, 1\]"),
    ],
)
def test_what_a_view_may_not_say(views: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAugment(views=views)


def test_as_many_views_as_draws() -> None:
    options = DeviceOptions(video_augment=VideoAugment(views=({"count": 3},)))
    with pytest.raises(ValueError, match=r"views stand for 3 draws .*draws = 2: make both alike"):
        DeviceTransform(plan_of(2, "video"), options)


def test_every_draw_has_a_recipe() -> None:
    views = ({"count": 2, "size": 32}, {"size": 16})
    recipes = ImageAugment(**PLAIN, views=views).recipes(3)
    assert [recipe.size for recipe in recipes] == [32, 32, 16]
    assert all(a.scales == b.scales for a, b in itertools.pairwise(recipes))
