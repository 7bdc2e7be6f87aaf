"""SeLa equals its authors' numbers: labels, shares, times; epochs label the data set evenly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch
from models.methods.sela import sinkhorn_knopp
from models.parts.even_labels import labelling_times
from tests.models.conftest import ONE_VIEW, dataset_of
from tests.models.golden_numbers import close, golden, tensor


@pytest.mark.parametrize("case", ["sinkhorn_knopp_lambda25_N12", "sinkhorn_knopp_lambda10_N20"])
def test_labels_and_shares_equal_the_authors(case: str) -> None:
    given, expected = golden("sela", case)
    shares = sinkhorn_knopp(tensor(given["logits"]), given["lambda"], given["tolerance"])
    close(shares.T, expected["Q_KxN"])
    assert shares.argmax(dim=1).tolist() == expected["labels"]


def test_times_equal_the_authors() -> None:
    given, expected = golden("sela", "optimisation_times")
    times = [given["N"] * time for time in labelling_times(given["epochs"], given["nopts"])]
    assert times[::-1] == pytest.approx(expected["times_in_images_descending"][1:], rel=1e-12)


def test_predictions_that_vanish_are_refused() -> None:
    with pytest.raises(ValueError, match=r"predictions to such a power: lower method.sharpness"):
        sinkhorn_knopp(torch.tensor([[0.0, 1e4], [0.0, 1e4]]), 25, 0.1)


def test_an_epoch_labels_what_can_be_embedded_and_the_loss_is_of_its_labels(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("sela", ONE_VIEW, num_samples=16, num_clusters=4)
    assert all(row.bincount().tolist() == [4] * 4 for row in method.labels)
    before = method.labels.clone()
    method.times = [1.0]
    images = torch.randn(16, 3, 16, 16)
    method.before_epoch(0, dataset_of(images))  # not yet
    assert torch.equal(method.labels, before)
    method.eval().before_epoch(1, dataset_of(images, skipped=[2]))
    assert torch.equal(method.labels[:, 2], before[:, 2])
    assert not torch.equal(method.labels, before)
    kept = [row for row in range(16) if row != 2]
    features = method.features("image", images)[kept]
    shares = sinkhorn_knopp(method.heads[1](features), 25, 0.1)
    assert torch.equal(method.labels[1, kept], shares.argmax(dim=1))
    batch = make_batch(ONE_VIEW, [4, 9])
    features = method.features("image", batch.view("image").values)
    expected = sum(
        -head(features).log_softmax(1)[torch.arange(2), row[[4, 9]]].mean()
        for head, row in zip(method.heads, method.labels, strict=True)
    ) / len(method.heads)
    torch.testing.assert_close(method(batch).total, expected)


def test_more_clusters_than_samples_are_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"num_clusters = 6 for 5 samples"):
        build_small("sela", ONE_VIEW, num_samples=5)
