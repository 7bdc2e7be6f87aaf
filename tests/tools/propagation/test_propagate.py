"""Propagation equals the authors' code of both recipes: matches, soft labels, masks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.evaluation.errors import EvaluationError
from tools.propagation.propagate import (
    as_masks,
    matches,
    propagated,
    shrunk,
    stretched,
    within,
)
from tools.propagation.recipe import RECIPES, Recipe, recipe_named

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_propagation.json").read_text())
WALK, DINO = GOLDEN["videowalk"], GOLDEN["dino"]


def tensor(numbers: Any) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def close(got: Tensor, expected: Any) -> None:
    torch.testing.assert_close(got.double(), tensor(expected), rtol=0, atol=1e-9)


def walk_recipe(case: dict[str, Any]) -> Recipe:
    keys = {"num_previous": case["n_context"], "top_k": case["topk"]}
    return RECIPES["videowalk"].changed(
        **keys, radius=case["radius"], temperature=case["temperature"]
    )


@pytest.mark.parametrize("case", WALK["cases"])
def test_soft_labels_equal_videowalks(case: dict[str, Any]) -> None:
    recipe = walk_recipe(case)
    first = tensor(WALK["first_label_h_w_L"]).permute(2, 0, 1)
    found = list(propagated(tensor(WALK["features_F_C_h_w"]), first, recipe))
    for labels, expected in zip(found, tensor(case["soft_labels"]), strict=True):
        if expected.shape == labels.shape:
            close(labels, expected.tolist())
        else:
            close(labels.permute(1, 2, 0), expected.tolist())
    masks = as_masks(found[-1], (12, 16), recipe)
    assert masks.tolist() == case["argmax_upsampled_12x16_last"]


@pytest.mark.parametrize("case", WALK["cases"])
def test_the_matches_of_the_last_frame_equal_videowalks(case: dict[str, Any]) -> None:
    recipe = walk_recipe(case)
    features = F.normalize(tensor(WALK["features_F_C_h_w"]), dim=1)
    context = case["context_frames_of_target"][-1]
    sources = torch.stack([features[number] for number in context]).flatten(2)
    scores = sources.transpose(1, 2) @ features[-1].flatten(1)  # M × N × N
    scores[1:].masked_fill_(~within(recipe, 3, 4), -torch.inf)
    weights, places = matches(scores.flatten(0, 1), recipe)
    close(weights, case["weights_last"])
    assert places is not None
    assert places.tolist() == case["indices_last"]


@pytest.mark.parametrize("case", DINO["cases"])
def test_soft_labels_equal_dinos(case: dict[str, Any]) -> None:
    recipe = RECIPES["dino"].changed(
        num_previous=case["n_last_frames"],
        top_k=case["topk"],
        radius=case["size_mask_neighborhood"],
    )
    classes = torch.tensor(DINO["first_label_index_h_w"])
    first = shrunk(classes, 3, (3, 4), recipe).double()
    found = list(propagated(tensor(DINO["features_F_C_h_w"]), first, recipe))
    close(torch.stack(found[1:]), case["soft_labels"])
    close(stretched(found[-1]), case["norm_mask_last"])
    if case is DINO["cases"][-1]:
        expected = DINO["final_argmax_patch4_of_last_case"]
        assert as_masks(found[-1], (12, 16), recipe).tolist() == expected


def test_blocks_of_cells_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    case = WALK["cases"][0]
    first = tensor(WALK["first_label_h_w_L"]).permute(2, 0, 1)
    arguments = tensor(WALK["features_F_C_h_w"]), first, walk_recipe(case)
    whole = list(propagated(*arguments))
    monkeypatch.setattr("tools.propagation.propagate._SCORES_AT_ONCE", 100)
    torch.testing.assert_close(list(propagated(*arguments)), whole)


@pytest.mark.parametrize("keep_ties", [False, True])
def test_what_does_not_move_stays_what_it_is(keep_ties: bool) -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 32, 5, 7).expand(6, -1, -1, -1)
    mask = torch.zeros(40, 56, dtype=torch.int64)
    mask[8:24, 16:40] = 1
    mask[32:, :16] = 2
    recipe = RECIPES["videowalk"].changed(top_k=1, num_previous=2, keep_ties=keep_ties)
    first = shrunk(mask, 3, (5, 7), recipe)
    for labels in propagated(features, first, recipe):
        torch.testing.assert_close(labels, first)


def test_a_shift_of_the_features_shifts_the_mask() -> None:
    torch.manual_seed(0)
    still = torch.randn(16, 6, 12)
    features = torch.stack([still.roll(frame, dims=2) for frame in range(4)])
    first = torch.zeros(2, 6, 12)
    first[1, 2:4, 1:4] = 1
    first[0] = 1 - first[1]
    for frame, labels in enumerate(propagated(features, first, RECIPES["dino"])):
        assert torch.equal(labels.argmax(0), first[1].roll(frame, dims=1).long())


def test_windows_are_disks_and_squares() -> None:
    disk = within(RECIPES["videowalk"].changed(radius=2), 5, 5)[12].view(5, 5)
    square = within(RECIPES["dino"].changed(radius=1), 5, 5)[12].view(5, 5)
    assert disk.sum() == square.sum() == 9  # 2 cells away is not less than 2
    assert within(RECIPES["videowalk"].changed(radius=2.1), 5, 5)[12].sum() == 13


def test_a_class_that_is_nowhere_is_not_stretched() -> None:
    labels = torch.stack([torch.zeros(2, 3), torch.arange(6.0).view(2, 3)])
    assert torch.equal(stretched(labels)[0], torch.zeros(2, 3))
    assert stretched(labels)[1].max() == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"top_k": 0}, "top_k = 0, must be at least 1"),
        ({"num_previous": -1}, "num_previous = -1, must be at least 0"),
        ({"temperature": 0.0}, "temperature = 0.0, must be more than 0"),
        ({"short_side": 32}, "short_side = 32, must be at least 64 pixels"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        RECIPES["dino"].changed(**keys)
    with pytest.raises(EvaluationError, match="no recipe 'walk'; there are videowalk, dino"):
        recipe_named("walk")
