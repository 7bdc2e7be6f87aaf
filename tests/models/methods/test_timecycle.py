"""TimeCycle equals its authors' numbers: affinities, places, crops, cycles of every length."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, View
from models import EncoderOptions, RunFacts, Setting
from models.methods.timecycle import (
    TimeCycle,
    TimeCycleOptions,
    apart,
    cropped,
    cut_out,
    moving,
    similarity_along,
    theta_of,
)
from tests.models.conftest import CLIPS, FRAMES
from tests.models.golden_numbers import close, golden_file, tensor

GOLDEN: dict[str, Any] = golden_file("timecycle")


def method_of(**keys: Any) -> TimeCycle:
    options = TimeCycleOptions(**{"kernels": (2, 1), "hidden_dims": (3, 3), **keys})
    return TimeCycle(options, Setting(CLIPS, EncoderOptions(**FRAMES), RunFacts(8, 4, 2, 4)))


def test_cycles_losses_and_gradients_equal_the_authors() -> None:
    case = GOLDEN["cycle"]
    method = method_of(embedding_dim=3, map_cells=6, temperature=case["temperature"]).double()
    names = {
        "convolutions.0.weight": "afterconv3_trans.weight",
        "convolutions.2.weight": "afterconv4_trans.weight",
        "affine.weight": "linear2.weight",
        "affine.bias": "linear2.bias",
    }
    weights = {ours: tensor(case["weights"][theirs]) for ours, theirs in names.items()}
    method.localiser.load_state_dict(weights)
    leaves = [
        tensor(case[f"features_{name}"]).requires_grad_()
        for name in ("frames_B_C_T_h_w", "patch_B_C_s_s", "target_B_C_h_w")
    ]
    past, patch, target = leaves
    truth = tensor(case["theta_gt"])
    found = method.cycles(past.transpose(1, 2), patch, target)
    close(found.skips.flatten(0, 1), case["skip_theta_patch_to_frames"])
    close(found.skip_returns.flatten(0, 1), case["skip_theta_back"])
    cycle = torch.stack([apart(theta, truth).mean() for theta in found.returns])
    close(cycle, case["loss_cycle_per_length"])
    skip = apart(found.skip_returns, truth[:, None]).mean()
    close(skip, case["loss_skip"])
    similarity = -found.similarities.mean()
    close(similarity, case["loss_similarity"])
    total = 0.02 * cycle.mean() + similarity + 0.1 * skip
    close(total, case["total_lambda_0p1"])
    total.backward()
    for leaf, name in zip(leaves, ("grad_frames", "grad_patch", "grad_target"), strict=True):
        assert leaf.grad is not None
        close(leaf.grad, case[name])


def test_affinities_equal_the_authors() -> None:
    case = GOLDEN["affinity"]
    method = method_of(embedding_dim=2, map_cells=6, temperature=case["temperature"])
    patch, frames = tensor(case["patch"]), tensor(case["frames"]).unbind(2)
    both = torch.cat([method.affinity(patch, frame) for frame in frames], dim=1)
    close(both, case["patch_to_frames"])
    crops, target = tensor(case["crops_B_C_T"]), tensor(case["target"])
    for number, expected in enumerate(case["target_from_crops"]):
        close(
            method.affinity(crops[:, :, number] if crops.ndim == 5 else crops, target)[0], expected
        )


def test_places_crops_distances_and_similarities_equal_the_authors() -> None:
    case = GOLDEN["theta_from_output"]
    close(theta_of(tensor(case["output_tx_ty_angle"])), case["theta"])
    case = GOLDEN["crop"]
    close(cropped(tensor(case["image"]), tensor(case["theta"]), 3), case["crop_align_corners_true"])
    case = GOLDEN["theta_loss"]
    theta = tensor(case["theta"]).requires_grad_()
    loss = apart(theta, tensor(case["theta_gt"])).mean()
    close(loss, case["loss"])
    loss.backward()
    assert theta.grad is not None
    close(theta.grad, case["grad_theta"])
    case = GOLDEN["similarity"]
    close(similarity_along(tensor(case["matches"]), tensor(case["theta"])), case["score"])


def test_patches_are_a_third_of_the_frame_where_most_changes() -> None:
    torch.manual_seed(0)
    method = method_of(embedding_dim=3, map_cells=6)
    target = torch.zeros(3, 3, 42, 42)
    later = target.clone()
    later[0, :, 36:, :24] = 1  # four places at the lower left
    motion = moving(target, later)
    assert motion.shape == (3, 7, 7)
    assert (motion[0] > 0).nonzero().tolist() == [[6, 0], [6, 1], [6, 2], [6, 3]]
    theta = method.draw_patches(motion)
    linear = theta[:, :, :2] @ theta[:, :, :2].transpose(1, 2)
    torch.testing.assert_close(linear, torch.eye(2).expand(3, 2, 2) / 9)
    assert theta[:, :, 2].abs().max() <= 2 / 3
    moved = [method.draw_patches(motion)[0, :, 2] for _ in range(60)]
    low = sum(float(y) > 0.4 for _, y in moved)
    assert low > 15  # of 49 places ten are drawn from, and the four that change are among them


def test_a_patch_is_what_theta_says() -> None:
    frame = torch.arange(36.0).view(1, 1, 6, 6).expand(1, 3, 6, 6)
    theta = theta_of(torch.tensor([[1 / 3, -2 / 3, 0.0]]))  # columns 3 and 4, rows 0 and 1
    expected = torch.tensor([[3.0, 4.0], [9.0, 10.0]])
    torch.testing.assert_close(cut_out(frame, theta, 2)[0, 0], expected)
    turned = theta_of(torch.tensor([[1 / 3, -2 / 3, torch.pi / 2]]))
    torch.testing.assert_close(cut_out(frame, turned, 2)[0, 0], expected.rot90())


def clips(frames: int, size: int = 36) -> View:
    return View("video", torch.randn(2, 3, frames, size, size), CLIPS.codes(torch.arange(2)))


def test_a_step_trains_every_weight(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("timecycle", CLIPS)
    losses = method(Batch((clips(5),), 0, 0))
    assert set(losses.parts) == {"cycle", "skip", "similarity"}
    losses.total.backward()
    assert all(p.grad is not None for p in method.parameters())
    assert method.localiser.convolutions[0].weight.grad.abs().sum() > 0


def test_short_clips_and_other_sizes_are_refused(build_small: Callable[..., Any]) -> None:
    method = build_small("timecycle", CLIPS)
    with pytest.raises(ValueError, match=r"a clip must have 5 frames or more, got 4"):
        method(Batch((clips(4),), 0, 0))
    with pytest.raises(ValueError, match=r"map_cells = 9, and frames have maps of 12×12"):
        method(Batch((clips(5, 48),), 0, 0))
    with pytest.raises(ValueError, match=r"method.map_cells = 10, must be a multiple of 3"):
        TimeCycleOptions(map_cells=10)
    with pytest.raises(ValueError, match=r"kernels = \(4, 4\), must be smaller: two convolutions"):
        TimeCycleOptions(map_cells=18)
