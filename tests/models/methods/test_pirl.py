"""PIRL equals its authors' numbers over steps, and PyContrast's; pieces and turns are as drawn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, View, named_plan
from models.methods.pirl import PIRL, PIRLOptions, quarter_turned
from models.parts import Jigsaw
from models.parts import jigsaw as parts
from models.parts.jigsaw import draw_orders
from tests.models.conftest import random_batch
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")
VIEW = PLAN.names.index("augmentation")


def step_of(
    method: PIRL, image: Tensor, pieces: Tensor, samples: list[int], drawn: list[Any]
) -> Tensor:
    """The loss of a step with these embeddings, and draws first for the pieces."""
    codes = torch.zeros(2, len(samples), len(PLAN.names), dtype=torch.int64)
    codes[..., 0], codes[1, :, VIEW] = torch.tensor(samples), 1
    view = View("image", torch.zeros(2 * len(samples), 3, 8, 8), codes.flatten(0, 1))
    draws = iter(drawn)
    method.towers.forward = lambda batch: (F.normalize(image, dim=1), codes[0])  # type: ignore[method-assign]
    method.embed_transformed = lambda view: F.normalize(pieces, dim=1)  # type: ignore[method-assign]
    method.bank.draw = lambda num_rows, count: torch.tensor(next(draws))  # type: ignore[method-assign]
    loss: Tensor = method(Batch((view,), 0, 0)).total
    return loss


@pytest.mark.parametrize(
    ("case", "objective"), [("pirl_nce", "nce"), ("pirl_cross_entropy", "softmax")]
)
def test_losses_gradients_and_bank_over_steps_equal_the_authors(
    case: str, objective: str, build_small: Callable[..., Any]
) -> None:
    given, expected = golden("pirl", case)
    method = build_small(
        "pirl",
        PLAN,
        num_samples=given["n"],
        embedding_dim=len(given["memory0"][0]),
        num_negatives=given["K"],
        temperature=given["T"],
        bank_momentum=given["momentum"],
        transformed_share=given["weights_patch_image"][0],
        objective=objective,
    ).double()
    method.bank.rows.copy_(tensor(given["memory0"]))
    for step, wanted in zip(given["steps"], expected["steps"], strict=True):
        image = tensor(step["image_embedding"]).requires_grad_()
        pieces = tensor(step["patches_embedding"]).requires_grad_()
        entries = [torch.tensor(step[f"idx_for_{name}"]) for name in ("patches", "image")]
        assert all(of[:, 0].tolist() == step["y"] for of in entries)
        loss = step_of(method, image, pieces, step["y"], [of[:, 1:].tolist() for of in entries])
        close(loss, wanted["loss"])
        loss.backward()
        for rows, name in ((image, "image"), (pieces, "patches")):
            assert rows.grad is not None
            close(rows.grad, wanted[f"grad_{name}_embedding"])
        if objective == "nce":
            constant = float(method.contrast.mean_exp) * given["n"]
            assert constant == pytest.approx(wanted["Z"], rel=1e-11)
    close(method.bank.rows, expected["memory_final"])


def test_pycontrasts_form_is_one_draw_for_both(build_small: Callable[..., Any]) -> None:
    given, expected = golden("pirl", "pirl_pycontrast_softmax")
    method = build_small(
        "pirl",
        PLAN,
        num_samples=len(given["memory0"]),
        embedding_dim=len(given["memory0"][0]),
        num_negatives=given["K"],
        temperature=given["T"],
        transformed_share=given["beta"],
        objective="softmax",
    ).double()
    method.bank.rows.copy_(tensor(given["memory0"]))
    rows = [tensor(given[name]).requires_grad_() for name in ("x", "x_jig")]
    drawn = [row[1:] for row in given["idx_with_positive_first"]]
    loss = step_of(method, rows[0], rows[1], given["y"], [drawn, drawn])
    close(loss, expected["loss"])
    loss.backward()
    for row, name in zip(rows, ("x", "x_jig"), strict=True):
        assert row.grad is not None
        unit = F.normalize(
            row.detach(), dim=1
        )  # given rows have length 1: theirs is not normalised
        wanted = tensor(expected[f"grad_{name}"])
        close(row.grad, (wanted - (wanted * unit).sum(1, keepdim=True) * unit).tolist(), 1e-8)
    close(method.bank.rows, expected["memory_final"], 1e-8)


def test_a_jigsaw_is_its_pieces_in_the_drawn_order(
    build_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    method = build_small("pirl", PLAN).eval()
    (view,) = random_batch(PLAN, [3, 5], [0, 1]).views
    jigsaw = method.transformed
    assert isinstance(jigsaw, Jigsaw)
    orders = torch.tensor([[2, 0, 3, 1], [1, 3, 2, 0], [0, 1, 2, 3], [3, 2, 1, 0]])
    monkeypatch.setattr(parts, "draw_orders", lambda num_rows, num_pieces: orders)
    found = method.embed_transformed(view)
    for row, order, pieces in zip(found, orders, view.values, strict=True):
        told = [
            jigsaw.piece_head(method.towers.features("image", pieces[k : k + 1])) for k in order
        ]
        expected = F.normalize(jigsaw.together(torch.cat(told, dim=1)), dim=1)[0]
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-5)


def test_orders_are_permutations_of_each_row_and_follow_the_seed() -> None:
    torch.manual_seed(1)
    orders = draw_orders(50, 9)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(9).expand(50, 9))
    assert len(orders.unique(dim=0)) == 50
    torch.manual_seed(1)
    assert torch.equal(draw_orders(50, 9), orders)


def test_turned_pictures_are_the_other_pretext_task(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("pirl", PLAN, pretext="rotation").eval()
    values = torch.randn(4, 3, 32, 32)
    turns = torch.tensor([0, 3, 1, 2])
    turned = quarter_turned(values, turns)
    for row, picture, turn in zip(turned, values, turns.tolist(), strict=True):
        assert torch.equal(row, torch.rot90(picture, turn, (1, 2)))
    method.draw_turns = lambda num_rows: turns[:num_rows]
    view = View("image", values, torch.zeros(4, len(PLAN.names), dtype=torch.int64))
    expected = F.normalize(method.transformed(method.features("image", turned)), dim=1)
    torch.testing.assert_close(method.embed_transformed(view), expected)
    assert method(random_batch(PLAN, [1, 2])).total.isfinite()
    with pytest.raises(ValueError, match="quarter turns are for square pictures"):
        quarter_turned(values[..., :16], turns)


def test_evaluation_leaves_the_bank(build_small: Callable[..., Any]) -> None:
    method = build_small("pirl", PLAN).eval()
    before = method.bank.rows.clone()
    assert method(random_batch(PLAN, [0, 1], [1])).total.isfinite()
    assert torch.equal(method.bank.rows, before)


def test_what_cannot_be_meant_is_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"transformed_share = 1.0, must be at least 0 and less"):
        PIRLOptions(transformed_share=1.0)
    method = build_small("pirl", PLAN, num_pieces=9)
    message = r"method.num_pieces = 9 pieces of image, and the rows have {}: give that view `grid"
    with pytest.raises(ValueError, match=message.format(4)):
        method(random_batch(PLAN, [0, 1], [1]))
    with pytest.raises(ValueError, match=message.format(1)):
        method(random_batch(PLAN, [0, 1]))
    with pytest.raises(ValueError, match=r"draws = 2; got 3 draws"):
        build_small(
            "pirl",
            type(PLAN).from_tables(
                {"name": "simclr", "augmentation": {"relation": "invariant", "draws": 3}}
            ),
        )
