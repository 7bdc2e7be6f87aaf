"""Tracked patches: the authors' loss, their pools of negatives, and a tracker that tracks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, View
from models.methods.tracked_patches import (
    TrackedPatches,
    TrackedPatchesOptions,
    cut_out,
    draw_negatives,
    moving_places,
    track,
    triplet_errors,
)
from tests.models.conftest import CLIPS
from tests.models.golden_numbers import close, golden_file, tensor

CASES: list[dict[str, Any]] = golden_file("tracked_patches")["cases"]


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_of_given_negatives_equal_the_authors(case: dict[str, Any]) -> None:
    rows = tensor(case["features"]).requires_grad_()
    chosen = torch.zeros(case["num_pairs"], len(rows), dtype=torch.bool)
    for pair, negatives in case["negatives_of_pair"].items():
        chosen[int(pair), negatives] = True
    errors = triplet_errors(rows, rows, chosen, case["margin"])
    loss = (errors / (2 * case["neg_num"])).mean()
    close(loss, case["loss"])
    loss.backward()
    assert rows.grad is not None
    close(rows.grad, case["grad_features"])


@pytest.mark.parametrize("case", CASES)
def test_the_authors_negatives_and_ours_are_of_the_same_pools(
    case: dict[str, Any], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    rows, labels = tensor(case["features"]), torch.tensor(case["labels"])
    count, hard = case["neg_num"], case["hard_ratio"]
    keys = {"margin": case["margin"], "num_negatives": count, "hard_share": hard}
    method: TrackedPatches = build_small("tracked_patches", CLIPS, **keys)
    drawn = [method.choose(rows, labels, rows, labels, hard) for _ in range(40)]
    for pair, negatives in case["negatives_of_pair"].items():
        anchor, positive = rows[2 * int(pair)], rows[2 * int(pair) + 1]
        near = [
            number
            for number in range(len(rows))
            if labels[number] != labels[2 * int(pair)]
            and anchor @ rows[number] - anchor @ positive + case["margin"] > 0
        ]
        nearest = sorted(near, key=lambda number: -float(anchor @ rows[number]))[:count]
        ours = [of[int(pair)].nonzero()[:, 0].tolist() for of in drawn]
        for chosen in [negatives, *ours]:
            assert set(chosen) <= set(near)
            assert len(chosen) == min(count, len(near))
            assert len(set(chosen) & set(nearest)) >= min(round(count * hard), len(near))
        if len(near) > count and hard < 1:
            assert len({tuple(of) for of in ours}) > 1
        if hard == 1:
            assert ours[0] == sorted(negatives)


def test_without_hard_ones_all_are_drawn_alike() -> None:
    torch.manual_seed(0)
    within = torch.ones(2000, 6, dtype=torch.bool)
    within[:, 0] = False
    chosen = draw_negatives(torch.randn(2000, 6), within, 2, 0.0)
    assert (chosen.sum(1) == 2).all()
    shares = chosen.float().mean(0)
    assert shares[0] == 0
    assert (shares[1:] - 0.4).abs().max() < 0.05


def moving_square(num_frames: int, step: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Frames [1, 3, 64, 64]: a textured square on a plain ground, from (12, 20), step by step."""
    torch.manual_seed(1)
    texture = torch.rand(3, 16, 16)
    frames = []
    for number in range(num_frames):
        frame = torch.full((1, 3, 64, 64), 0.5)
        top, left = 20 + number * step[1], 12 + number * step[0]
        frame[0, :, top : top + 16, left : left + 16] = texture
        frames.append(frame)
    return tuple(frames)


def test_patches_begin_where_most_moves_and_are_followed() -> None:
    frames = moving_square(6, (3, 2))
    start = moving_places(frames[0], frames[1], 0.35)
    true_start, true_stop = torch.tensor([[20.0, 28.0]]) / 64, torch.tensor([[35.0, 38.0]]) / 64
    assert (start - true_start).abs().max() < 0.1
    stop = track(frames, true_start, 0.35)
    assert (stop - true_stop).abs().max() < 0.04
    still = track(frames[:1] * 4, true_start, 0.35)
    torch.testing.assert_close(still, true_start)


def test_a_patch_is_its_square() -> None:
    frame = torch.arange(64.0).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    found = cut_out(frame, torch.tensor([[0.375, 0.625]]), 0.25, 2)
    torch.testing.assert_close(found[0, 0], frame[0, 0, 4:6, 2:4])


def test_a_step_trains_every_weight(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("tracked_patches", CLIPS)
    clips = torch.randn(4, 3, 3, 32, 32)
    losses = method(Batch((View("video", clips, CLIPS.codes(torch.arange(4))),), 2, 0))
    losses.total.backward()
    assert all(p.grad is not None for p in method.parameters())
    assert "moved" in losses.parts
    single = View("video", clips[:, :, :1], CLIPS.codes(torch.arange(4)))
    with pytest.raises(ValueError, match=r"two frames: a clip must have 2 frames or more, got 1"):
        method(Batch((single,), 0, 0))
    with pytest.raises(ValueError, match=r"method.patch_share = 1.5, must be more than 0, less"):
        TrackedPatchesOptions(patch_share=1.5)
