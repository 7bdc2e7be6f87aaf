"""PixPro equals its authors' numbers: pairs of places, propagation, losses and gradients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gdt import Batch, View, named_plan
from models.methods.pixpro import consistency_loss, propagated, same_places
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")
CASES = ["pixpro_gamma2.0_layer1", "pixpro_gamma1.0_layer0_last_image_without_overlap"]


def boxes_of(corners: Any) -> Tensor:
    """Top, left, height, width of the authors' left, top, right, bottom."""
    left, top, right, bottom = tensor(corners).unbind(1)
    return torch.stack([top, left, bottom - top, right - left], dim=1)


def rows(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_equal_the_authors(case: str) -> None:
    given, expected = golden("pixpro", case)
    maps = [tensor(given[f"proj_{view}"]).requires_grad_() for view in (1, 2)]
    keys = [tensor(given[f"key_proj_{view}"]) for view in (1, 2)]
    boxes = [boxes_of(given[f"coord_{view}"]) for view in (1, 2)]
    value: nn.Module = nn.Identity()
    if given["value_layers"]:
        value = nn.Linear(4, 4, dtype=torch.float64)
        value.weight.data.copy_(tensor(given["value_weight"]))
        value.bias.data.copy_(tensor(given["value_bias"]))
    grid, terms = (maps[0].shape[2], maps[0].shape[3]), []
    for ours, theirs in ((0, 1), (1, 0)):
        flat = rows(maps[ours])
        predicted = propagated(flat, value(flat), given["gamma"])
        same = same_places(boxes[ours], boxes[theirs], grid, given["pos_ratio"])
        terms.append(consistency_loss(predicted, rows(keys[theirs]), same).mean())
        if ours == 0:
            assert same.nonzero().tolist() == expected["positive_pairs_1_to_2_(sample,i,j)"]
            propagated_maps = predicted.transpose(1, 2).unflatten(2, grid)
            close(propagated_maps, expected["propagated_1_unnormalised"])
    close(terms[0], expected["term_1_to_2"])
    close(terms[1], expected["term_2_to_1"])
    sum(terms).backward()  # type: ignore[union-attr]
    assert maps[0].grad is not None
    close(maps[0].grad, expected["grad_proj_1"])
    if given["value_layers"]:
        close(value.weight.grad, expected["grad_value_weight"])  # type: ignore[arg-type]


def test_the_method_is_its_loss_over_both_views(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("pixpro", PLAN).eval()
    batch = make_batch(PLAN, [0, 1, 2])
    view = batch.view("image")
    halves = [view[view.codes[:, PLAN.names.index("augmentation")] == draw] for draw in (0, 1)]
    expected = torch.tensor(0.0)
    for ours, theirs in (halves, halves[::-1]):
        maps = method.towers.heads["image"](method.towers.maps("image", ours.values))
        keys = method.towers.heads["image"](method.towers.maps("image", theirs.values))
        assert ours.boxes is not None
        assert theirs.boxes is not None
        same = same_places(ours.boxes, theirs.boxes, (maps.shape[2], maps.shape[3]), 0.7)
        predicted = propagated(rows(maps), method.values["image"](rows(maps)), 2.0)
        expected = expected + consistency_loss(predicted, rows(keys), same).mean()
    torch.testing.assert_close(method(batch).total, expected)


def test_a_step_trains_everything_but_the_copy(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("pixpro", PLAN)
    losses = method(make_batch(PLAN, [0, 1, 2, 3]))
    losses.total.backward()
    trained = [*method.towers.parameters(), *method.values.parameters()]
    assert all(p.grad is not None for p in trained)
    assert all(p.grad is None for p in method.momentum.network.parameters())
    embeddings = method.embed("image", torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_a_mirrored_crop_meets_itself_from_the_other_side() -> None:
    box = torch.tensor([[0.2, 0.1, 0.4, 0.6]])
    mirrored = torch.tensor([[0.2, 0.7, 0.4, -0.6]])
    same = same_places(box, mirrored, (2, 3), 0.1)[0]
    pairs = [(0, 2), (1, 1), (2, 0), (3, 5), (4, 4), (5, 3)]
    assert [tuple(pair) for pair in same.nonzero().tolist()] == pairs


def test_rows_without_boxes_are_refused(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    view: View = make_batch(PLAN, [0, 1]).view("image")
    with pytest.raises(ValueError, match=r"rows of 'image' have no boxes: set crop = "):
        build_small("pixpro", PLAN)(Batch((replace(view, boxes=None),), 0, 0))
