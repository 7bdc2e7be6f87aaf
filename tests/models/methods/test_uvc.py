"""UVC equals its authors' numbers: both stages, the threshold, windows, crops; what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, View
from models.methods.uvc import (
    UVC,
    UVCOptions,
    cell_grid,
    color_errors,
    cropped,
    not_back,
    paint,
    scattered,
)
from tests.models.conftest import CLIPS
from tests.models.golden_numbers import close, golden_file, tensor

GOLDEN: dict[str, Any] = golden_file("uvc")


@pytest.fixture
def method(build_small: Callable[..., Any]) -> UVC:
    torch.manual_seed(0)
    found: UVC = build_small("uvc", CLIPS, threshold=1e6, concentration_weight=1.0)
    return found


def leaves_of(case: dict[str, Any], *names: str) -> list[Tensor]:
    return [tensor(case[name]).requires_grad_() for name in names]


def colors_off(case: dict[str, Any], painted: tuple[Tensor, Tensor]) -> Tensor:
    """The golden loss: what it paints is compared with pictures of their own."""
    second = color_errors(tensor(case["colour_target_2"]), painted[0])
    return (second + 0.1 * color_errors(tensor(case["colour_target_1"]), painted[1])).mean()


def test_the_warm_up_equals_the_authors(method: UVC) -> None:
    case = GOLDEN["warm_up"]
    leaves = leaves_of(case, "gray_features_1", "gray_features_2")
    colors = leaves_of(case, "colour_features_1", "colour_features_2")
    affinity = method.affinity(*leaves)
    close(affinity, case["affinity_raw"])
    painted = paint(affinity, *colors)
    close(painted[0], case["estimate_2"])
    close(painted[1], case["estimate_1"])
    loss = colors_off(case, painted)
    close(loss, case["loss_colour_weights_10_10"])
    apart = scattered(affinity, 3, 3).mean()
    close(apart, case["concentration_win3_stride3"])
    total = loss + apart
    close(total, case["loss"])
    total.backward()
    names = ("grad_gray_1", "grad_gray_2", "grad_colour_1", "grad_colour_2")
    for leaf, name in zip([*leaves, *colors], names, strict=True):
        assert leaf.grad is not None
        close(leaf.grad, case[name])


def test_localisation_equals_the_authors(method: UVC) -> None:
    case = GOLDEN["localise"]
    patch, target = leaves_of(case, "gray_features_patch", "gray_features_target")
    colors, target_colors = leaves_of(case, "colour_features_patch", "colour_features_target")
    box = method.box_of(patch, target)
    close(8 * box[:, [0, 2, 1, 3]], case["box_left_right_top_bottom_pixels_x8"])
    affinity = method.affinity(patch, cropped(target, box, 2))
    close(affinity, case["affinity_patch_to_crop"])
    painted = paint(affinity, colors, cropped(target_colors, box, 2))
    close(painted[0], case["estimate_2"])
    close(painted[1], case["estimate_1"])
    loss, apart, cycle = (
        colors_off(case, painted),
        scattered(affinity, 2, 2).mean(),
        not_back(affinity, 2).mean(),
    )
    close(loss, case["loss_colour"])
    close(apart, case["concentration_win2"])
    close(cycle, case["coordinate_cycle_L1"])
    total = loss + apart + 0.1 * cycle
    close(total, case["loss"])
    total.backward()
    names = ("grad_patch", "grad_target", "grad_colour_patch", "grad_colour_target")
    for leaf, name in zip([patch, target, colors, target_colors], names, strict=True):
        assert leaf.grad is not None
        close(leaf.grad, case[name])


def test_windows_and_crops_equal_the_authors() -> None:
    case = GOLDEN["concentration"]
    affinity = tensor(case["affinity_raw"]).requires_grad_()
    loss = scattered(affinity, 4, case["win_len"]).mean()
    close(loss, case["loss"])
    loss.backward()
    assert affinity.grad is not None
    close(affinity.grad, case["grad"])
    case = GOLDEN["diff_crop"]
    box = tensor(case["x1_y1_x2_y2"])[None]
    close(cropped(tensor(case["features"]), box, 3), case["crop_align_corners_true"])


def test_pairs_beyond_the_threshold_count_as_nothing(
    build_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = GOLDEN["colour_loss_threshold"]
    names = ("frame_1", "frame_2", "pred_2", "pred_1")
    ours, theirs, second, first = (tensor(case[name]) for name in names)
    monkeypatch.setattr("models.methods.uvc.paint", lambda *of: (second, first))
    keys = {"threshold": case["thr"], "concentration_weight": 0.0, "warm_up_epochs": 4}
    method = build_small("uvc", CLIPS, **keys | {"cycle_weight": 0.0})
    affinity = torch.zeros(3, 4, 4, dtype=torch.float64)
    for epoch, key in ((0, "loss_without_thr"), (1, "loss"), (4, "loss_without_thr"), (6, "loss")):
        close(method.losses(affinity, ours, theirs, epoch).total, case[key])


def test_each_stage_has_its_parts_and_trains_every_weight(method: UVC) -> None:
    view = View("video", torch.randn(3, 3, 3, 40, 40), CLIPS.codes(torch.arange(3)))
    expected = [{"color"}, {"color", "concentration", "cycle"}]
    for epoch, parts in enumerate(expected):
        method.zero_grad()
        losses = method(Batch((view,), epoch, 0))
        assert set(losses.parts) == parts
        losses.total.backward()
        assert all(p.grad is not None for p in method.parameters())


def test_patches_and_pairs_are_cut_out_of_their_frames(method: UVC) -> None:
    frames = torch.arange(100.0).view(1, 1, 10, 10).expand(40, 3, 10, 10)
    patches = method.draw_patch(frames)
    assert patches.shape == (40, 3, 4, 4)
    assert {int(of) for of in (patches - patches[:, :, :1, :1])[:, 0].flatten(1)[:, 5]} == {11}
    corners = {int(of) for of in patches[:, 0, 0, 0]}
    assert len(corners) > 15
    assert max(corner % 10 for corner in corners) <= 6
    clips = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(30, 3, 4, 2, 2)
    first, second = method.draw_pairs(clips)
    assert (first < second).all()
    assert len((10 * first + second)[:, 0, 0, 0].unique()) > 3


def test_the_encoder_sees_lightness_alone(method: UVC) -> None:
    clips = torch.randn(1, 3, 1, 32, 32)
    other = torch.cat([clips[:, :1], torch.randn_like(clips[:, 1:])], dim=1)
    for encode in (method.eval().features, method.maps, method.embed):
        torch.testing.assert_close(encode("video", clips), encode("video", other))


def test_windows_larger_than_patches_are_refused(method: UVC) -> None:
    assert cell_grid(2, 3).tolist() == [[0, 1.5, 3] * 2, [0] * 3 + [2] * 3]
    with pytest.raises(ValueError, match=r"method.window = 5, and patches have 4 cells a side"):
        scattered(torch.zeros(1, 16, 16), 4, 5)
    with pytest.raises(ValueError, match=r"method.patch_share = 0, must be more than 0"):
        UVCOptions(patch_share=0)
