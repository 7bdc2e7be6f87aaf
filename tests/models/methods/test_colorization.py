"""Colorization equals its formula's numbers; it sees lightness alone, and clusters colours once."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, View
from models.methods.colorization import (
    Colorization,
    colors_copied,
    copied_likelihoods,
    first_colors,
    gray,
)
from models.parts.kmeans import nearest
from tests.models.conftest import CLIPS, dataset_of
from tests.models.golden_numbers import close, golden_file, tensor

GOLDEN = golden_file("colorization")
POINTER: dict[str, Any] = GOLDEN["pointer"]


def scores_of(features: Tensor, temperature: float) -> Tensor:
    """Scores [B, N, M] of features [B, F, h, w, C], the last frame the target."""
    cells = features.flatten(2, 3)
    return cells[:, -1] @ cells[:, :-1].flatten(1, 2).transpose(1, 2) / temperature


@pytest.mark.parametrize("case", POINTER["cases"][:2], ids=["temperature 1", "temperature .5"])
def test_pointers_loss_and_gradient_equal_the_papers_formula(case: dict[str, Any]) -> None:
    features = tensor(POINTER["features_B_F_h_w_C"]).requires_grad_()
    labels = torch.tensor(POINTER["labels_B_F_h_w"]).flatten(2)
    wanted, there = labels[:, -1], labels[:, :-1].flatten(1)
    scores = scores_of(features, case["temperature"])
    close(scores.softmax(2), case["pointer"])
    copied = colors_copied(scores, there, POINTER["num_labels"])
    close(copied.unflatten(1, (2, 3)), case["predicted"])
    likelihoods, known = copied_likelihoods(scores, wanted, there)
    assert int(known.sum()) == case["num_pixels_used"]
    loss = -likelihoods[known].mean()
    close(loss, case["loss_paper_mean_over_pixels_with_colour_in_reference"])
    loss.backward()
    assert features.grad is not None
    close(features.grad, case["grad_paper"])


def test_colours_that_no_reference_has_leave_finite_gradients() -> None:
    scores = torch.randn(1, 2, 3, requires_grad=True)
    likelihoods, known = copied_likelihoods(
        scores, torch.tensor([[0, 7]]), torch.tensor([[0, 0, 1]])
    )
    assert known.tolist() == [[True, False]]
    likelihoods[known].sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert (scores.grad[0, 1] == 0).all()


def test_the_nearest_of_the_published_clusters_is_the_golden_one() -> None:
    lab = GOLDEN["lab"]
    colors = tensor(lab["lab_float_cv2"])[:, 1:]
    found = nearest(colors, tensor(lab["centroids_ab_16_kinetics"])).assignments
    assert found.tolist() == lab["cluster_index"]


@pytest.fixture
def method(build_small: Callable[..., Any]) -> Colorization:
    torch.manual_seed(0)
    found: Colorization = build_small("colorization", CLIPS)
    return found


def two_colored(num_clips: int) -> Tensor:
    """Lab clips [N, 3, 3, 32, 32], one half of each frame of one colour, one of another."""
    clips = torch.randn(num_clips, 3, 3, 32, 32) / 100
    clips[:, 1, :, :, :16] += 1
    clips[:, 1, :, :, 16:] -= 1
    return clips


def test_colours_are_clustered_once_and_skipped_clips_are_left_out(method: Colorization) -> None:
    clips = two_colored(6)
    method.before_epoch(0, dataset_of(clips, skipped=[2]))
    nearest_one = method.centroids[:, 0].abs().sub(1).abs()
    assert nearest_one.max() < 0.1  # none at the zeros of a skipped clip
    before = method.centroids.clone()
    method.before_epoch(1, dataset_of(clips * 3))
    assert torch.equal(method.centroids, before)
    labels = method.color_labels(clips, (8, 8)).view(6, 3, 8, 8)
    left = {int(label) for label in labels[..., :4].unique()}
    assert left.isdisjoint({int(label) for label in labels[..., 4:].unique()})


def test_the_encoder_sees_lightness_alone(method: Colorization) -> None:
    method.eval()
    clips = two_colored(2)
    other = clips.clone()
    other[:, 1:] = torch.randn_like(other[:, 1:])
    for encode in (method.features, method.maps, method.embed):
        torch.testing.assert_close(encode("video", clips), encode("video", other))
    assert torch.equal(gray(clips)[:, 2], clips[:, 0])
    assert first_colors("video", clips).shape == (2, 2 * 16 * 16)


def test_a_step_trains_every_weight_and_says_how_many_are_right(method: Colorization) -> None:
    clips = two_colored(4)
    method.before_epoch(0, dataset_of(clips))
    view = View("video", clips, CLIPS.codes(torch.arange(4)))
    losses = method(Batch((view,), 0, 0))
    losses.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert 0 < float(losses.parts["known"]) <= 1
    assert 0 <= float(losses.parts["right"]) <= 1


def test_clips_of_one_frame_are_refused(method: Colorization) -> None:
    view = View("video", torch.zeros(1, 3, 1, 32, 32), CLIPS.codes(torch.arange(1)))
    with pytest.raises(ValueError, match=r"the colours of frames: a clip must have 2 frames"):
        method(Batch((view,), 0, 0))
