"""UDT equals the authors' port (with its shift in two dimensions) and the paper's code."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, View
from models.methods.udt import UDT, at_peak, gaussian, response
from tests.models.conftest import CLIPS
from tests.models.golden_numbers import close, golden_file, tensor

GOLDEN: dict[str, Any] = golden_file("udt")
PORT, PAPER = GOLDEN["pytorch"], GOLDEN["matlab_port"]


def method_of(build_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, **keys: Any) -> UDT:
    """A method whose wished-for response is the golden one."""
    label = tensor((PORT if keys["form"] == "port" else PAPER)["gaussian_label"])
    monkeypatch.setattr("models.methods.udt.gaussian", lambda height, width, sigma: label)
    found: UDT = build_small("udt", CLIPS, **keys)
    return found


def frames_of(case: dict[str, Any]) -> list[Tensor]:
    names = ("features_template", "features_search1", "features_search2")
    return [tensor(case[name]).requires_grad_() for name in names]


@pytest.mark.parametrize("form", ["paper", "port"])
def test_tracks_losses_and_gradients_equal_the_authors(
    form: str, build_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = PAPER if form == "paper" else PORT
    expected = PAPER if form == "paper" else PORT["corrected_2d_roll"]
    kept = 0.8 if form == "paper" else 0.9
    method = method_of(
        build_small, monkeypatch, form=form, kept_share=kept, regularization=given["lambda0"]
    )
    template, first, second = frames_of(given)
    errors, motion = method.tracked(template, first, second)
    loss = method.robust_mean(errors, motion)
    close(loss, expected["loss_3frame" if form == "paper" else "loss"])
    loss.backward()
    for frame, name in ((template, "grad_template"), (second, "grad_search2")):
        assert frame.grad is not None
        close(frame.grad, expected[name])
    assert first.grad is None
    if form == "port":
        close(errors, expected["per_sample_error"])


def test_responses_and_pseudo_labels_equal_the_authors() -> None:
    template, first, second = frames_of(PORT)
    wished = tensor(PORT["gaussian_label"])
    expected = PORT["corrected_2d_roll"]
    there = response(template, wished, first, PORT["lambda0"], mean=False)
    further = response(first, at_peak(wished, there), second, PORT["lambda0"], mean=False)
    pseudo = at_peak(wished, further)
    back = response(second, pseudo, template, PORT["lambda0"], mean=False)
    for got, name in ((there, "response_1"), (further, "response_2"), (pseudo, "pseudo_label_2")):
        close(got[:2], tensor(expected[name])[:, 0].tolist())
    close(back[:3], tensor(expected["response_back"])[:, 0].tolist())


def test_the_wished_for_response_equals_the_authors() -> None:
    case = GOLDEN["gaussian"]
    close(
        gaussian(case["size"][0], case["size"][1], case["sigma"]), case["label"], 1e-7
    )  # float32 there


def test_a_shifted_frame_is_tracked_to_its_shift() -> None:
    torch.manual_seed(0)
    frame = torch.randn(1, 8, 9, 11, dtype=torch.float64)
    label = gaussian(9, 11, 1.0)
    moved = frame.roll((2, -3), dims=(2, 3))
    found = response(frame, label, moved, 1e-6, mean=False)
    torch.testing.assert_close(found[0], label.roll((2, -3), dims=(0, 1)), atol=1e-4, rtol=0)
    torch.testing.assert_close(at_peak(label, found)[0], label.roll((2, -3), dims=(0, 1)))


def test_a_step_trains_every_weight_and_frames_are_in_order(
    build_small: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    method: UDT = build_small("udt", CLIPS)
    drawn = method.draw_frames(50, 5)
    assert (drawn[0] == 0).all()
    assert (drawn[1] < drawn[2]).all()
    assert drawn.max() == 4
    view = View("video", torch.randn(4, 3, 4, 32, 32), CLIPS.codes(torch.arange(4)))
    method(Batch((view,), 0, 0)).total.backward()
    assert all(p.grad is not None for p in method.parameters())
    assert sum(float(p.grad.abs().sum()) for p in method.parameters() if p.grad is not None) > 0
    short = View("video", view.values[:, :, :2], view.codes)
    with pytest.raises(ValueError, match=r"UDT .*: a clip must have 3 frames or more, got 2"):
        method(Batch((short,), 0, 0))
