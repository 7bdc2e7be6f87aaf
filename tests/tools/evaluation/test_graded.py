"""nDCG and average precision against scikit-learn and torchmetrics, on many items."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, ndcg_score
from torchmetrics.functional.retrieval import retrieval_average_precision

from tools.evaluation.graded import graded_values


@pytest.mark.parametrize("levels", [5, 100_000])  # with many ties, and with hardly any
def test_equals_scikit_learn_and_torchmetrics(levels: int) -> None:
    rng = np.random.default_rng(levels)
    scores = rng.integers(0, levels, (20, 300)) / levels
    is_right = rng.random((20, 300)) < 0.1
    metrics = ["mAP", "nDCG@10", "nDCG@1000"]
    found = graded_values(scores, is_right, metrics, tolerance=1e-9, ties="expected")
    for k in (10, 1000):
        expected = [ndcg_score([r], [s], k=k) for r, s in zip(is_right, scores, strict=True)]
        np.testing.assert_allclose(found[f"nDCG@{k}"], expected, rtol=1e-9)
    if levels > 1000:
        for precision, s, r in zip(found["mAP"], scores, is_right, strict=True):
            assert precision == pytest.approx(average_precision_score(r, s), rel=0.02)
            peer = retrieval_average_precision(torch.from_numpy(s), torch.from_numpy(r))
            assert precision == pytest.approx(float(peer), rel=0.02)
    best, worst = (
        graded_values(scores, is_right, ["mAP"], tolerance=1e-9, ties=ties)["mAP"]
        for ties in ("optimistic", "pessimistic")
    )
    assert (worst <= found["mAP"] + 1e-12).all()
    assert (found["mAP"] <= best + 1e-12).all()
    assert levels > 1000 or (best > worst + 0.01).all()
