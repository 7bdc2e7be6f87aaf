"""DeepCluster: whitening equals FAISS's, the classifier begins anew, clusters count alike."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.methods.deepcluster import NOT_ASSIGNED, DeepClusterOptions, balancing_weights
from models.parts.kmeans import kmeans, split_clusters
from models.parts.whitening import whitened
from tests.models.conftest import ONE_VIEW, dataset_of, random_batch
from tests.models.golden_numbers import close, golden, tensor


def test_whitened_rows_equal_the_authors_but_for_signs() -> None:
    given, expected = golden("deepcluster", "pca_whitening_l2")
    rows = whitened(tensor(given["features"]), given["pca"])
    assert rows.shape == (12, 4)
    close(rows @ rows.T, expected["gram_of_output"])


def test_components_without_variance_stay_zero_and_too_many_are_refused() -> None:
    flat = torch.randn(20, 3) @ torch.randn(3, 5)  # three dimensions of five
    rows = whitened(flat, 5)
    assert torch.equal(rows[:, 3:], torch.zeros(20, 2))
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(20))
    with pytest.raises(ValueError, match=r"6 principal components of 5 features: lower method"):
        whitened(flat, 6)


def test_every_cluster_counts_as_the_authors_sampler_draws_it() -> None:
    given, expected = golden("deepcluster", "uniform_label_sampler")
    clusters = given["images_lists"]
    assignments = torch.zeros(given["N"], dtype=torch.int64)
    for number, members in enumerate(clusters):
        assignments[members] = number
    weights = balancing_weights(assignments)
    assert weights.mean() == pytest.approx(1)
    for members in filter(None, clusters):  # they draw as many of each, of which N are kept
        assert weights[members].sum() == pytest.approx(given["N"] / given["nonempty"])
    drawn = expected["size_per_pseudolabel"] * given["nonempty"]
    share = expected["size_per_pseudolabel"] / drawn
    assert weights[clusters[0]].sum() / given["N"] == pytest.approx(share)


def test_empty_clusters_take_half_of_another() -> None:
    torch.manual_seed(0)
    centroids = torch.tensor([[1.0, 2.0, 4.0], [9.0, 9.0, 9.0], [5.0, 5.0, 5.0]])
    found = split_clusters(centroids, torch.tensor([6, 0, 1]))  # the last has no row to give
    beside = torch.tensor([1.0, -1.0, 1.0]) / 1024
    torch.testing.assert_close(found[0], centroids[0] * (1 - beside))
    torch.testing.assert_close(found[1], centroids[0] * (1 + beside))
    assert torch.equal(found[2], centroids[2])
    same = split_clusters(centroids, torch.tensor([1, 0, 1]))
    assert torch.equal(same, centroids)  # nothing to split


def test_no_cluster_is_left_empty_where_there_are_rows() -> None:
    rows = torch.cat([torch.randn(40, 4) + 3, torch.randn(2, 4) - 3])
    first = torch.cat([rows[:1], rows[:1] + 90, rows[:1] + 99, rows[-1:]])  # two are far off
    plain = kmeans(rows, first, 20).assignments.bincount(minlength=4)
    assert (plain == 0).sum() == 2
    torch.manual_seed(0)
    split = kmeans(rows, first, 20, split_for_empty=True).assignments.bincount(minlength=4)
    assert (split > 0).all()


def test_an_epoch_begins_with_clusters_and_a_new_classifier(
    build_small: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    images = torch.randn(16, 3, 16, 16)
    method = build_small("deepcluster", ONE_VIEW, num_samples=16, num_clusters=4).eval()
    before = method.classifier.weight.clone()
    method.before_epoch(0, dataset_of(images, skipped=[5]))
    assert method.assignments[5] == NOT_ASSIGNED
    assert method.assignments.unique().tolist() == [NOT_ASSIGNED, 0, 1, 2, 3]
    assert not torch.equal(method.classifier.weight, before)
    assert method.classifier.weight.std() < 0.02
    assert not method.classifier.bias.any()
    batch = random_batch(ONE_VIEW, [0, 5, 7, 9])
    batch = type(batch)(
        (type(batch.views[0])("image", images[[0, 5, 7, 9]], batch.views[0].codes),), 0, 0
    )
    features = method.towers.projection("image", images[[0, 7, 9]])
    logits = method.classifier(F.relu(features))
    losses = F.cross_entropy(logits, method.assignments[[0, 7, 9]], reduction="none")
    expected = (losses * method.weights[[0, 7, 9]]).mean()
    torch.testing.assert_close(method(batch).total, expected)


def test_the_classifier_has_an_update_of_its_own(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small(
        "deepcluster", ONE_VIEW, num_samples=16, classifier_weight_decay=0.1
    ).eval()
    method.before_epoch(0, dataset_of(torch.randn(16, 3, 16, 16)))
    trained, own = method.parameter_groups()
    assert own.rate_scale == 0
    assert {id(p) for p in own.parameters} == {id(p) for p in method.classifier.parameters()}
    assert len(trained.parameters) + 2 == len(list(method.parameters()))
    method(random_batch(ONE_VIEW, [0, 1, 2])).total.backward()
    weight = method.classifier.weight
    assert weight.grad is not None
    expected = weight - 0.05 * (weight.grad + 0.1 * weight)
    method.after_step(0)
    torch.testing.assert_close(weight, expected)
    weight.grad[0, 0] = float("inf")  # as float16's scale finds its way
    method.after_step(1)
    torch.testing.assert_close(weight, expected)


def test_counts_that_do_not_fit_are_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"num_clusters = 1, must be a count, at least 2"):
        DeepClusterOptions(num_clusters=1)
    with pytest.raises(ValueError, match=r"method.num_clusters = 6 for 5 samples: lower it"):
        build_small("deepcluster", ONE_VIEW, num_samples=5)
    with pytest.raises(ValueError, match=r"method.pca_dim = 300 components of 256 features"):
        build_small("deepcluster", ONE_VIEW, hidden_dim=0, pca_dim=300)
