"""SimSiam equals its authors' numbers, and lightly's: loss, gradients, the whole network."""

from collections.abc import Callable
from typing import Any

import torch
from lightly.loss import NegativeCosineSimilarity

from gdt import Batch, named_plan
from models.methods.simsiam import negative_cosine
from models.parts.heads import norm_mlp, simsiam_predictor
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")


def loss_of(p1: torch.Tensor, z1: torch.Tensor, p2: torch.Tensor, z2: torch.Tensor) -> torch.Tensor:
    return (negative_cosine(p1, z2) + negative_cosine(p2, z1)).mean() / 2


def test_loss_and_gradients_equal_the_authors() -> None:
    given, expected = golden("simsiam", "loss")
    p1, z1, p2, z2 = (tensor(given[name]).requires_grad_() for name in ("p1", "z1", "p2", "z2"))
    loss = loss_of(p1, z1, p2, z2)
    close(loss, expected["loss"])
    loss.backward()
    assert p1.grad is not None
    assert p2.grad is not None
    close(p1.grad, expected["grad_p1"])
    close(p2.grad, expected["grad_p2"])
    assert z1.grad is None
    assert z2.grad is None
    cosine = NegativeCosineSimilarity()
    close((cosine(p1, z2) + cosine(p2, z1)) / 2, expected["loss"])


def test_the_whole_network_equals_the_authors() -> None:
    given, expected = golden("simsiam", "full_model")
    dim, weights = given["dim"], given["state_dict"]
    projector = norm_mlp(dim, dim, dim, dim, last_norm=True).double()
    predictor = simsiam_predictor(dim, given["pred_dim"]).double()
    of_projector = [name for name in weights if name.startswith("encoder.fc.")]
    of_projector.remove("encoder.fc.6.bias")  # frozen, and cancelled by the norm after it
    for network, names in (
        (projector, of_projector),
        (predictor, [name for name in weights if name.startswith("predictor.")]),
    ):
        for parameter, name in zip(network.parameters(), names, strict=True):
            parameter.data.copy_(tensor(weights[name]))
    x1, x2 = (tensor(given[name]).requires_grad_() for name in ("x1", "x2"))
    z1, z2 = projector(x1), projector(x2)
    p1, p2 = predictor(z1), predictor(z2)
    close(z1, expected["z1"])
    close(p1, expected["p1"])
    loss = loss_of(p1, z1, p2, z2)
    close(loss, expected["loss"])
    loss.backward()
    assert x1.grad is not None
    assert x2.grad is not None
    close(x1.grad, expected["grad_x1"])
    close(x2.grad, expected["grad_x2"])
    close(predictor[-1].weight.grad, expected["grad_predictor_last_weight"])  # type: ignore[index]


def test_the_method_is_its_loss_over_both_views(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("simsiam", PLAN).eval()
    batch = make_batch(PLAN, [0, 1, 2])
    view = batch.view("image")
    draw = view.codes[:, PLAN.names.index("augmentation")]
    z = [method.towers.projection("image", view.values[draw == number]) for number in (0, 1)]
    p = [method.predictors["image"](projected) for projected in z]
    losses = method(batch)
    torch.testing.assert_close(losses.total, loss_of(p[0], z[0], p[1], z[1]))
    method.train()
    losses = method(batch)
    losses.total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert 0 < losses.parts["spread"] <= 1


def test_the_predictors_learning_rate_is_constant(build_small: Callable[..., Any]) -> None:
    for constant in (True, False):
        method = build_small("simsiam", PLAN, constant_predictor_rate=constant)
        towers, predictors = method.parameter_groups()
        assert (towers.constant_rate, predictors.constant_rate) == (False, constant)
        assert len(towers.parameters) + len(predictors.parameters) == len(list(method.parameters()))
