"""MAST equals its authors' numbers: windows, what lies beyond the border, the loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gdt import Batch, View
from models.methods.mast import MAST, copied_values, in_window, value_errors, without_channel
from tests.models.conftest import CLIPS
from tests.models.golden_numbers import close, golden_file, tensor

GOLDEN: dict[str, Any] = golden_file("colorization")["mast"]


def test_copies_loss_and_gradients_equal_the_authors() -> None:
    target = tensor(GOLDEN["feature_target"])[None].requires_grad_()
    references = tensor(GOLDEN["feature_refs"])[None].requires_grad_()
    values = tensor(GOLDEN["colour_refs"])[None]
    copied = copied_values(target, references, values, GOLDEN["R"])
    close(copied[0], GOLDEN["predicted"])
    loss = value_errors(copied, tensor(GOLDEN["colour_target"])[None]).mean()
    close(loss, GOLDEN["loss"])
    loss.backward()
    assert target.grad is not None
    assert references.grad is not None
    close(target.grad[0], GOLDEN["grad_target"])
    close(references.grad[0, 0], GOLDEN["grad_ref_0"])


def test_windows_equal_unfolded_frames() -> None:
    """The authors' way: every cell's window cut out of padded frames."""
    torch.manual_seed(0)
    target, references = torch.randn(2, 5, 4, 6), torch.randn(2, 3, 5, 4, 6)
    values = torch.randn(2, 3, 1, 8, 12)
    size = 5
    windows = F.unfold(references.flatten(0, 1), size, padding=2).view(2, 3, 5, size**2, -1)
    scores = torch.einsum("bdn,brdkn->brkn", target.flatten(2), windows).flatten(1, 2)
    small = F.unfold(values[..., ::2, ::2].flatten(0, 1), size, padding=2).view(2, -1, 24)
    expected = (scores.softmax(1) * small).sum(1).view(2, 1, 4, 6)
    torch.testing.assert_close(copied_values(target, references, values, 2), expected)
    assert in_window(4, 6, 2)[0].sum() == 9


def test_a_channel_is_left_out_and_the_others_grow() -> None:
    clips = torch.randn(2, 3, 4, 8, 8)
    found = without_channel(clips, 2)
    assert (found[:, 2] == 0).all()
    torch.testing.assert_close(found[:, :2], 1.5 * clips[:, :2])


def test_a_step_trains_every_weight_and_the_target_is_not_seen(
    build_small: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    method: MAST = build_small("mast", CLIPS)
    clips = torch.randn(2, 3, 3, 32, 32)
    view = View("video", clips, CLIPS.codes(torch.arange(2)))
    method(Batch((view,), 0, 0)).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert {method.draw_channel() for _ in range(20)} == {1, 2}
    single = View("video", clips[:, :, :1], view.codes)
    with pytest.raises(ValueError, match=r"MAST copies .*: a clip must have 2 frames or more"):
        method(Batch((single,), 0, 0))
