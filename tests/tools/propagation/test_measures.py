"""J, F, their statistics, mean IoU and PCK equal the official code's numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.tools.propagation.test_propagate import GOLDEN
from tools.propagation.joint_measures import (
    ALPHAS,
    joint_labels,
    joint_places,
    pck,
    pck_counts,
)
from tools.propagation.mask_measures import (
    boundary,
    contour,
    histogram,
    mean_iou,
    region,
    statistics,
)

DAVIS = GOLDEN["davis_metrics"]


def exactly(expected: Any) -> Any:
    """Golden numbers, which have 12 significant digits."""
    return pytest.approx(expected, abs=1e-9, rel=0)


def mask(rows: list[str]) -> Any:
    return np.array([[pixel == "1" for pixel in row] for row in rows])


TRUTH, PREDICTED = [mask(rows) for rows in DAVIS["gt"]], [mask(rows) for rows in DAVIS["pred"]]


def test_regions_and_boundaries_equal_daviss() -> None:
    pairs = list(zip(TRUTH, PREDICTED, strict=True))
    assert [region(*pair) for pair in pairs] == exactly(DAVIS["J"])
    assert [contour(*pair) for pair in pairs] == exactly(DAVIS["F"])
    for tolerance, key in ((2, "F_bound_th_2px"), (0.1, "F_bound_th_0p1")):
        found = [contour(*pair, tolerance) for pair in pairs]
        assert found == exactly(DAVIS[key])
    assert np.array_equal(boundary(TRUTH[0]), mask(DAVIS["boundary_map_gt0"]))


@pytest.mark.parametrize("name", DAVIS["edge_cases"])
def test_empty_masks_and_borders_equal_daviss(name: str) -> None:
    case = DAVIS["edge_cases"][name]
    truth, predicted = mask(case["gt"]), mask(case["pred"])
    assert region(truth, predicted) == exactly(case["J"])
    assert contour(truth, predicted) == exactly(case["F"])
    assert np.array_equal(boundary(truth), mask(case["gt_boundary"]))


def test_statistics_equal_daviss() -> None:
    for values, expected in (
        (DAVIS["J"], DAVIS["J_stats_mean_recall_decay"]),
        (DAVIS["F"], DAVIS["F_stats_mean_recall_decay"]),
        (DAVIS["decay_example"]["values"], DAVIS["decay_example"]["stats"]),
    ):
        found = statistics(np.array(values))
        assert [found.mean, found.recall, found.decay] == exactly(expected)
    long = statistics(np.linspace(1, 0, 1000))  # more frames than the official edges can name
    assert long.decay == pytest.approx(0.75, abs=2e-3)


def test_joints_equal_videowalks() -> None:
    case = GOLDEN["jhmdb"]["process_pose"]
    labels = torch.tensor(case["pred_h_w_L"], dtype=torch.float64).permute(2, 0, 1)
    expected = np.array(case["coords_xy_by_keypoint"]).T
    np.testing.assert_allclose(joint_places(labels), expected, atol=1e-9)


def test_pck_equals_videowalks() -> None:
    case = GOLDEN["jhmdb"]["pck"]
    truth = np.array(case["gt_2_15_T"]).transpose(2, 1, 0)
    cells = np.array(case["pred_map_2_15_T"]).transpose(2, 1, 0)
    predicted = cells * [case["width"], case["height"]] / case["feat_res"]
    found = pck(pck_counts(truth, predicted))
    for column, alpha in enumerate(ALPHAS):
        expected = case["per_joint_and_mean_at"][str(alpha)]
        both = [*found[:, column].tolist(), found[:, column].mean()]
        assert [100 * share for share in both] == exactly(expected)


def test_joints_come_back_from_their_labels_and_unseen_ones_do_not() -> None:
    labels = joint_labels(np.array([[3.0, 2.0], [-1.0, 4.0], [5.5, 1.0]]), 6, 8)
    assert labels.shape == (4, 6, 8)
    assert labels[0].min() == pytest.approx(0.0)
    places = joint_places(labels)
    np.testing.assert_allclose(places[::2], np.array([[3, 2], [5.5, 1]]), atol=0.6)
    assert places[1].tolist() == [-1, -1]


def test_unseen_joints_are_not_counted() -> None:
    truth = np.full((3, 2, 2), 10.0)
    truth[:, 1] = 40.0
    truth[2, 1] = 0.0
    counts = pck_counts(truth, truth + 1)
    assert counts[:, -1].tolist() == [2, 1]
    assert counts[:, 0].tolist() == [1, 1]  # a box around one joint has no size


def test_mean_iou_equals_vips() -> None:
    case = GOLDEN["vip"]
    counts = histogram(np.array(case["gt"]), np.array(case["pred"]), case["num_classes"])
    assert mean_iou(counts) == exactly(case["mean_iu"])
    accuracy = counts.diagonal().sum() / counts.sum()
    assert accuracy == exactly(case["pixel_accuracy"])
