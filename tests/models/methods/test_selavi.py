"""SeLaVi's labels equal its authors', even and Gaussian; heads are put in one order and learn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch
from models.methods.selavi import matching, reorder, sizes_by_rank
from models.parts.even_labels import even_shares
from models.parts.heads import mlp_head
from tests.models.conftest import SEEN_AND_HEARD, dataset_of
from tests.models.golden_numbers import golden, tensor


@pytest.mark.parametrize("sizes", ["even", "gaussian"])
def test_labels_equal_the_authors(sizes: str) -> None:
    given, expected = golden("selavi", "sinkhorn")
    agreed = tensor(given["softmax_video"]).log() + tensor(given["softmax_audio"]).log()
    wanted, drawn = expected, None
    if sizes == "gaussian":
        wanted = expected["gauss"]
        drawn = sizes_by_rank(agreed, tensor(wanted["given_K_dist"]))
    shares = even_shares(agreed * (given["lamb"] / 2), 0.1, drawn)
    labels = shares.argmax(dim=1)
    assert labels.tolist() == wanted["labels"]
    cost = -agreed[torch.arange(len(labels)), labels].mean() / 2
    assert cost.item() == pytest.approx(wanted["cost"], abs=1e-9)


def test_clusters_have_their_sizes() -> None:
    torch.manual_seed(0)
    scores = torch.randn(600, 3, dtype=torch.float64).log_softmax(dim=1)
    sizes = torch.tensor([1.0, 2.0, 3.0])
    shares = even_shares(scores, 1e-6, sizes)
    torch.testing.assert_close(shares.sum(dim=0), sizes.double() / 6)
    torch.testing.assert_close(shares.sum(dim=1), torch.full((600,), 1 / 600).double())


def test_an_order_of_clusters_is_found_and_kept() -> None:
    torch.manual_seed(0)
    first = torch.randn(200, 7).mul(3).softmax(dim=1)
    order = torch.randperm(7)
    found = matching(first, first[:, order])
    assert torch.equal(order[found], torch.arange(7))
    head = mlp_head(5, 8, 7)
    rows = torch.randn(4, 5)
    before = head(rows)
    reorder(head, found)
    torch.testing.assert_close(head(rows), before[:, found])


def test_clips_are_labelled_by_both_and_learned_by_each(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("selavi", SEEN_AND_HEARD, num_samples=24, sizes="even")
    images, sounds = torch.randn(24, 3, 32, 32), torch.randn(24, 1, 40, 33)
    started = method.labels.clone()
    dataset = dataset_of(images, skipped=[5], sounds=sounds)
    method.eval()  # statistics of a batch would make other features below
    method.before_epoch(0, dataset)
    assert method.is_labelled
    assert method.labels[:, 5].tolist() == started[:, 5].tolist()
    kept = [n for n in range(24) if n != 5]
    for number, labels in enumerate(method.labels):
        one, other = method._heads(number)
        logits = one(method.features("image", images)), other(method.features("audio", sounds))
        expected = method.label(*(rows[kept] for rows in logits))
        assert labels[kept].tolist() == expected.tolist()
        assert torch.bincount(labels, minlength=6).max() <= 8  # 4 would be even
    optimizer = torch.optim.AdamW(method.train().parameters(), lr=1e-3)
    batch, losses = make_batch(SEEN_AND_HEARD, range(6)), []
    for _ in range(15):
        found = method(batch)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append(found.total.item())
    assert losses[-1] < 0.6 * losses[0]
    assert set(found.parts) == {"image", "audio"}
    method.before_epoch(0, dataset)  # of heads that have an order already
    assert all(p.grad is not None for p in method.parameters())


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"num_clusters = 30 for 24 samples: lower it"):
        build_small("selavi", SEEN_AND_HEARD, num_samples=24, num_clusters=30)
    with pytest.raises(ValueError, match=r"has no share left of predictions .* lower method.sharp"):
        even_shares(torch.tensor([[0.0, -1e4], [0.0, -1e4]]).double(), 0.1)
