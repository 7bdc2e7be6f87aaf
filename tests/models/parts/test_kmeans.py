"""k-means equals the authors' spherical one, and scikit-learn's from the same start."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans

from models.parts.kmeans import first_rows, kmeans, nearest
from tests.models.golden_numbers import close, golden, tensor


def test_spherical_clusters_equal_the_authors_of_deepcluster_v2() -> None:
    given, expected = golden("deepcluster_v2", "spherical_kmeans")
    for head, initial in enumerate(given["initial_rows_per_head"]):
        rows = tensor(given["memory_embeddings"][head % 2])
        found = kmeans(rows, rows[initial], given["iterations"], spherical=True)
        close(found.centroids, expected["centroids"][head])
        wanted = torch.tensor(expected["assignments"][head])[given["memory_index"]]
        assert torch.equal(found.assignments, wanted)


def test_plain_clusters_equal_scikit_learns() -> None:
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = KMeans(4, init=rows[:4].numpy(), n_init=1, max_iter=100, tol=0).fit(rows.numpy())
    found = kmeans(rows, rows[:4], 100)
    close(found.centroids, theirs.cluster_centers_.tolist())
    assert found.assignments.tolist() == theirs.labels_.tolist()
    assert found.squared_distances.sum().item() == pytest.approx(theirs.inertia_)


def test_a_cluster_of_none_stays_where_it_is() -> None:
    rows = F.normalize(torch.tensor([[1.0, 0.1], [1.0, -0.1]]), dim=1)
    found = kmeans(rows, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 3, spherical=True)
    assert torch.equal(found.centroids[1], torch.tensor([-1.0, 0.0]))
    assert nearest(rows, found.centroids).assignments.tolist() == [0, 0]


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 clusters of 3 embedded samples: lower"):
        first_rows(torch.zeros(3, 2), 5)
