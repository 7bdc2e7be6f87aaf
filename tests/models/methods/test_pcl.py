"""PCL equals its authors' numbers: concentrations, both losses and the gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gdt import Batch, View, named_plan
from models.methods.pcl import NOT_ASSIGNED, concentrations
from models.parts.kmeans import Clusters, nearest
from tests.models.conftest import dataset_of
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")


def test_concentrations_equal_the_authors() -> None:
    given, expected = golden("pcl", "concentration")
    features = tensor(given["features"])
    for number, centroids in enumerate(given["kmeans_centroids_raw"]):
        clusters = nearest(features, tensor(centroids))
        assert clusters.assignments.tolist() == expected["assignments"][number]
        found = concentrations(clusters, given["temperature"], given["alpha"])
        close(found, expected["density_phi"][number])


def test_clusters_of_one_row_have_a_concentration() -> None:
    rows = torch.eye(3)
    clusters = Clusters(rows, torch.arange(3), torch.zeros(3))
    close(concentrations(clusters, 0.2), [0.2] * 3, 1e-6)


def test_losses_and_gradient_equal_the_authors(
    build_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    given, expected = golden("pcl", "loss")
    counts = tuple(len(centroids) for centroids in given["centroids"])
    method = build_small(
        "pcl",
        PLAN,
        num_samples=len(given["assignments"][0]),
        embedding_dim=len(given["im_q"][0]),
        queue_size=given["r"],
        temperature=given["T"],
        num_prototypes=counts,
        negative_prototypes=given["r"],
    ).double()
    monkeypatch.setattr(torch, "randperm", torch.arange)  # the first, as in the authors' case
    method.queue.rows.copy_(tensor(given["queue0_rows"]))
    for number, clustering in enumerate(method.clusterings):
        clustering.prototypes.copy_(tensor(given["centroids"][number]))
        clustering.concentrations.copy_(tensor(given["density"][number]))
        clustering.assignments.copy_(torch.tensor(given["assignments"][number]))
    queries = tensor(given["im_q"]).requires_grad_()
    embedded = iter([F.normalize(queries, dim=1), F.normalize(tensor(given["im_k"]), dim=1)])
    method._embed_groups = lambda towers, batch: (next(embedded), batch.views[0].codes)
    codes = torch.zeros(2 * given["B"], 3, dtype=torch.int64)
    codes[:, 0], codes[given["B"] :, 2] = torch.tensor(given["index"] * 2), 1
    losses = method(Batch((View("image", torch.zeros(len(codes), 3, 8, 8), codes),), 0, 0))
    close(losses.parts["instance"], expected["loss_instance"])
    close(losses.parts["prototype"], sum(expected["loss_proto_per_clustering"]) / len(counts))
    close(losses.total, expected["loss"])
    losses.total.backward()
    assert queries.grad is not None
    close(queries.grad, expected["grad_im_q"])


def test_clusters_join_with_their_epoch(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("pcl", PLAN, num_samples=16, num_prototypes=(4, 3), from_epoch=1)
    images = torch.randn(16, 3, 16, 16)
    method.before_epoch(0, dataset_of(images))
    assert set(method(make_batch(PLAN, [0, 1])).parts) == {"instance"}
    method.before_epoch(1, dataset_of(images, skipped=[3]))
    assert [int(c.assignments.max()) for c in method.clusterings] == [3, 2]
    assert all(c.assignments[3] == NOT_ASSIGNED for c in method.clusterings)
    losses = method(make_batch(PLAN, [0, 3]))
    assert losses.parts["prototype"] > 0
    assert losses.total.isfinite()
