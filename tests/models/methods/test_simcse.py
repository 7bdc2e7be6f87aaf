"""SimCSE equals its authors' numbers, with and without hard negatives; dropout makes its views."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gdt import Batch, Plan
from models.methods.simcse import SimCSE, SimCSEOptions, mean_of_tokens, text_losses
from tests.models.conftest import PAIRS, TEXTS, texts
from tests.models.golden_numbers import close, golden, tensor

TRIPLES = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["text"]},
        "augmentation": {"relation": "invariant", "draws": 3},
    }
)


@pytest.mark.parametrize("case", ["unsupervised", "supervised", "weighted"])
def test_losses_and_gradients_equal_the_authors(case: str) -> None:
    given, expected = golden("simcse", case)
    z = tensor(given["z"]).requires_grad_()
    weight = given.get("hard_negative_weight", 0)
    loss = text_losses(list(z.unbind(1)), given["temp"], weight).mean()
    close(loss, expected["loss"])
    loss.backward()
    assert z.grad is not None
    close(z.grad, expected["grad_z"])


def test_the_layer_over_the_first_token_equals_the_authors(build_small: Callable[..., Any]) -> None:
    given, expected = golden("simcse", "cls")
    layer = build_small("simcse", TEXTS).double().towers.heads["text"]
    layer[0] = nn.Linear(4, 4).double()
    layer[0].load_state_dict({"weight": tensor(given["W"]), "bias": tensor(given["b"])})
    h = tensor(given["h"]).requires_grad_()
    views = layer(h[:, :, 0])
    loss = text_losses(list(views.unbind(1)), given["temp"]).mean()
    close(loss, expected["loss"])
    loss.backward()
    assert h.grad is not None
    close(h.grad, expected["grad_h"])
    close(layer[0].weight.grad, expected["grad_W"])


def test_the_mean_of_tokens_equals_the_authors() -> None:
    given, expected = golden("simcse", "avg")
    h, mask = tensor(given["h"]).requires_grad_(), tensor(given["mask"]) == 1
    views = [mean_of_tokens(h[:, k], mask[:, k]) for k in range(2)]
    loss = text_losses(views, given["temp"]).mean()
    close(loss, expected["loss"])
    loss.backward()
    assert h.grad is not None
    close(h.grad, expected["grad_h"])


@pytest.mark.parametrize("pooler", ["cls", "avg"])
def test_texts_that_train_come_apart(
    pooler: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """Dropout alone makes the views; a text is then further from the others than from itself."""
    torch.manual_seed(0)
    method = build_small("simcse", TEXTS, pooler=pooler)
    rows = texts(6)
    batch = make_batch(TEXTS, range(6))
    (view,) = batch.views
    batch = Batch((type(view)("text", rows.repeat_interleave(2, 0), view.codes),), 0, 0)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        loss = method(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[:5])
    expected = SimCSE.loss_of_equal_embeddings(TEXTS, 6)
    assert expected is not None
    assert losses[-1] < expected
    assert all(p.grad is not None for p in method.parameters())


def test_the_layer_is_left_out_for_others_unless_it_is_wanted(
    build_small: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    rows = texts(3)
    bare = build_small("simcse", TEXTS).eval()
    with_layer = build_small("simcse", TEXTS, layer_in_training_only=False).eval()
    with_layer.load_state_dict(bare.state_dict())
    features = bare.features("text", rows)
    torch.testing.assert_close(bare.embed("text", rows), nn.functional.normalize(features))
    layered = with_layer.towers.heads["text"](features)
    torch.testing.assert_close(with_layer.embed("text", rows), nn.functional.normalize(layered))


def test_a_hard_negative_is_one_of_twice_as_many(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("simcse", TRIPLES).eval()
    batch = make_batch(TRIPLES, range(4))
    heavier = build_small("simcse", TRIPLES, hard_negative_weight=5.0).eval()
    heavier.load_state_dict(method.state_dict())
    assert heavier(batch).total > method(batch).total
    assert SimCSE.loss_of_equal_embeddings(TRIPLES, 4) == pytest.approx(2.0794415)


def test_refusals(make_batch: Callable[..., Batch], build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"SimCSE compares two views .* draws = 2 to 3; got 1"):
        build_small("simcse", PAIRS)
    with pytest.raises(ValueError, match=r'must be \["text"\].* got image and 2 rows a sample'):
        build_small("simcse", Plan.from_tables({"name": "simclr"}))
    with pytest.raises(ValueError, match=r"hard_negative_weight = inf, must be a number"):
        SimCSEOptions(hard_negative_weight=float("inf"))
    method = build_small("simcse", TEXTS)
    method.has_dropout = False
    method(make_batch(TEXTS, range(2)))  # two texts each
    (view,) = make_batch(TEXTS, range(2)).views
    same = type(view)("text", view.values[[0, 0, 2, 2]], view.codes)
    with pytest.raises(ValueError, match=r"one text in two equal passes: set encoders.dropout"):
        method(Batch((same,), 0, 0))
