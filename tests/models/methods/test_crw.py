"""CRW equals its authors' numbers; walks over one step teach nothing; nodes: patches or cells."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gdt import Batch, View, named_plan
from models import EncoderOptions, RunFacts, Setting, build_method
from models.methods.crw import CRW, CRWOptions, palindromes, return_losses, returned, transitions
from tests.models.conftest import CLIPS
from tests.models.golden_numbers import close, golden_file, tensor

CASES: list[dict[str, Any]] = golden_file("crw")["cases"]
PLAIN, _, SHORT, DROPPED, PATCHES, CELLS = CASES


def loss_of(nodes: Tensor, temperature: float, left_out: Any = None) -> Tensor:
    walks = palindromes(*transitions(nodes, temperature, left_out))
    return torch.stack([return_losses(walk).mean() for walk in walks]).mean()


def nodes_of(z: Any) -> tuple[Tensor, Tensor]:
    """Golden z [B, C, T, N] as a leaf, and as nodes [B, T, N, C]."""
    leaf = tensor(z).requires_grad_()
    return leaf, nn.functional.normalize(leaf, dim=1).permute(0, 2, 3, 1)


@pytest.mark.parametrize("case", [PLAIN, SHORT], ids=["four frames", "three frames"])
def test_losses_and_gradients_equal_the_authors(case: dict[str, Any]) -> None:
    leaf, nodes = nodes_of(case["z"])
    loss = loss_of(nodes, case["temp"])
    close(loss, case["loss"])
    loss.backward()
    assert leaf.grad is not None
    close(leaf.grad, case["grad_z"])


def test_steps_and_the_figures_of_each_walk_equal_the_authors() -> None:
    _, nodes = nodes_of(PLAIN["z"])
    there, back = transitions(nodes, PLAIN["temp"])
    close(there[0], PLAIN["A12"])
    close(back[0], PLAIN["A21"])
    for number, walk in enumerate(palindromes(there, back), start=1):
        close(return_losses(walk).mean(), PLAIN["diags"][f"xent cyc r{number}"])
        close(returned(walk).mean(), PLAIN["diags"][f"acc cyc r{number}"], 1e-7)  # float32 there


def test_what_is_left_out_there_is_left_out_back_too() -> None:
    leaf, nodes = nodes_of(DROPPED["z"])
    drawn = tensor(DROPPED["u"])[:, 0] < DROPPED["rate"]
    left_out = drawn[None, :2], drawn[None, 2:]
    there, back = transitions(nodes, DROPPED["temp"], left_out)
    close(there[0], DROPPED["A12"])
    close(back[0], DROPPED["A21"])
    loss = loss_of(nodes, DROPPED["temp"], left_out)
    close(loss, DROPPED["loss"])
    loss.backward()
    assert leaf.grad is not None
    close(leaf.grad, DROPPED["grad_z"])


class _Identity(nn.Module):
    """An encoder whose map is the picture."""

    def forward(self, values: Tensor) -> Tensor:
        return values


@pytest.mark.parametrize("case", [PATCHES, CELLS], ids=["patches", "cells"])
def test_nodes_of_patches_and_of_cells_equal_the_authors(
    case: dict[str, Any], build_small: Callable[..., Any]
) -> None:
    method = build_small("crw", CLIPS, temperature=case["temp"], edge_dropout=0.0).double()
    method.towers.encoder("video").trunk.trunk = _Identity()
    method.towers.heads["video"] = nn.Identity()
    x = tensor(case["x"]).requires_grad_()  # B × T × 3·N × h × w
    num_patches = x.shape[2] // 3
    if num_patches > 1:
        values = x.unflatten(2, (num_patches, 3)).permute(0, 2, 3, 1, 4, 5)
    else:
        values = x.transpose(1, 2)
    codes = CLIPS.codes(torch.arange(len(x)))
    view = View("video", values, codes)
    close(method.nodes(view).permute(0, 3, 1, 2), case["q"])
    loss = method(Batch((view,), 0, 0)).total
    close(loss, case["loss"])
    loss.backward()
    assert x.grad is not None
    close(x.grad, case["grad_x"])


def test_a_walk_over_one_step_is_left_out_and_its_clips_are_refused(
    build_small: Callable[..., Any],
) -> None:
    _, nodes = nodes_of(CASES[1]["z"])
    assert palindromes(*transitions(nodes, CASES[1]["temp"])) == []
    method = build_small("crw", CLIPS)
    view = View("video", torch.zeros(1, 3, 2, 32, 32), CLIPS.codes(torch.arange(1)))
    with pytest.raises(ValueError, match=r"3 frames or more, got 2: set segment.num_frames"):
        method(Batch((view,), 0, 0))


def test_a_step_trains_every_weight_and_reports_each_length(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("crw", CLIPS)
    losses = method(make_batch(CLIPS, [0, 1]))
    assert set(losses.parts) == {
        "loss_2_steps",
        "loss_3_steps",
        "returned_2_steps",
        "returned_3_steps",
    }
    losses.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    embeddings = method.embed("video", torch.randn(2, 3, 4, 32, 32))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_nodes_that_are_all_alike_walk_anywhere() -> None:
    nodes = nn.functional.normalize(torch.ones(2, 4, 9, 5), dim=3)
    for walk in palindromes(*transitions(nodes, 0.05)):
        assert return_losses(walk).mean().item() == pytest.approx(math.log(9), abs=1e-5)


@pytest.mark.parametrize(
    ("plan", "video", "message"),
    [
        (named_plan("simclr"), "resnet_small", r"draws = 1; got 2 draws"),
        (named_plan("cross_modal_baseline"), "resnet_small", r'must be \["video"\], got \['),
        (CLIPS, "r2plus1d_small", r'encoders.video = "r2plus1d_small" mixes them: name an image'),
    ],
)
def test_what_does_not_fit_is_refused(plan: Any, video: str, message: str) -> None:
    setting = Setting(plan, EncoderOptions(video=video), RunFacts(8, 4, 2, 4))
    with pytest.raises(ValueError, match=message):
        build_method(CRWOptions(), setting)
    assert CRW.options_type is CRWOptions
