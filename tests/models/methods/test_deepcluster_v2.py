"""DeepCluster-v2 equals its authors' numbers: loss, gradients, what is kept; epochs cluster it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, Plan, named_plan
from models.methods.deepcluster_v2 import NOT_ASSIGNED, DeepClusterV2
from tests.models.conftest import dataset_of
from tests.models.golden_numbers import close, golden, tensor

TWO_VIEWS = named_plan("simclr")
THREE_VIEWS = Plan.from_tables(
    {"name": "simclr", "augmentation": {"relation": "invariant", "draws": 3}}
)


def step_of(method: DeepClusterV2, crops: Tensor, samples: list[int]) -> Tensor:
    """The loss of a step whose heads give these crops [V, B, D]."""
    num_views, num_rows = crops.shape[:2]
    codes = torch.zeros(num_views, num_rows, 3, dtype=torch.int64)
    codes[..., 0] = torch.tensor(samples)
    codes[..., 2] = torch.arange(num_views)[:, None]
    given = F.normalize(crops.flatten(0, 1), dim=1), codes.flatten(0, 1)
    method.towers.forward = lambda batch: given  # type: ignore[method-assign]
    loss: Tensor = method(Batch((), 0, 0)).total
    return loss


def test_losses_gradients_and_bank_equal_the_authors(build_small: Callable[..., Any]) -> None:
    given, expected = golden("deepcluster_v2", "loss_two_iterations")
    counts = [len(prototypes) for prototypes in given["prototypes"]]
    method = build_small(
        "deepcluster_v2",
        THREE_VIEWS,
        num_samples=len(given["memory_index0"]),
        embedding_dim=len(given["prototypes"][0][0]),
        num_prototypes=tuple(counts),
        temperature=given["temperature"],
    ).double()
    for prototypes, wanted in zip(method.prototypes, given["prototypes"], strict=True):
        prototypes.vectors.weight.copy_(tensor(wanted))
    method.assignments.copy_(torch.tensor(given["assignments"]))
    for number, batch in enumerate(given["batches"]):
        crops = tensor(batch["crops"]).requires_grad_()
        loss = step_of(method, crops, batch["index"])
        close(loss, expected["losses"][number])
        loss.backward()
        assert crops.grad is not None
        close(crops.grad, expected["grad_crops"][number])
    for view, embeddings in enumerate(expected["memory_embeddings_after_first_2B_rows"]):
        last = dict(zip(expected["memory_index_after"], embeddings, strict=False))  # one may recur
        close(method.bank[view][list(last)], list(last.values()))


def test_an_epoch_begins_with_clusters_of_what_the_last_one_gave(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    images = torch.randn(16, 3, 16, 16)
    method = build_small("deepcluster_v2", TWO_VIEWS, num_samples=16, num_prototypes=(4, 3))
    assert method(make_batch(TWO_VIEWS, [0, 1])).total == 0  # nothing is assigned yet
    method.bank.zero_()
    images[5] = 0
    method.before_epoch(0, dataset_of(images, skipped=[5]))
    assert (method.assignments[:, 5] == NOT_ASSIGNED).all()
    assert method.assignments.unique().tolist() == [NOT_ASSIGNED, 0, 1, 2, 3]
    first = method.bank.clone()
    loss = method(make_batch(TWO_VIEWS, [0, 1, 5])).total
    loss.backward()
    trained = method.towers.parameters()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    changed = (method.bank != first).any(dim=2)
    assert changed.nonzero()[:, 1].unique().tolist() == [0, 1, 5]
    method.before_epoch(1, dataset_of(images))  # of what was kept, not of a new pass
    assert torch.equal(method.bank[:, 2:5], first[:, 2:5])
    assert (method.assignments >= 0).all()


def test_more_assigned_views_than_there_are_is_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"assigned_views = 3, and the plan draws 2 views"):
        build_small("deepcluster_v2", TWO_VIEWS, assigned_views=3)
