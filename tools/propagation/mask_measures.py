"""How well masks are predicted: region J and boundary F of DAVIS, and the mean IoU of VIP.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR
2016, §5; statistics as in davisvideochallenge/davis2017-evaluation.

Legend: T frames, H W pixels, K classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

_BOUNDARY_TOLERANCE = 0.008  # of the diagonal
_GOOD = 0.5  # what a frame must exceed to be recalled


@dataclass(frozen=True)
class Statistics:
    """Mean over frames, share of frames above ½, and first quarter's mean less the last's."""

    mean: float
    recall: float
    decay: float


def region(truth: Bools, predicted: Bools) -> float:
    """Return J, intersection over union of two masks [H, W]; 1 where both are empty."""
    union = int((truth | predicted).sum())
    return float((truth & predicted).sum() / union) if union else 1.0


def contour(truth: Bools, predicted: Bools, tolerance: float = _BOUNDARY_TOLERANCE) -> float:
    """Return F of the boundaries of two masks [H, W], which may lie `tolerance` apart.

    Args:
        truth: the right mask.
        predicted: the other.
        tolerance: a share of the picture's diagonal, rounded up to pixels; from 1 on, pixels.
    """
    radius = tolerance
    if tolerance < 1:
        radius = math.ceil(tolerance * math.hypot(*truth.shape))
    ours, theirs = boundary(predicted), boundary(truth)
    if not ours.any() and not theirs.any():
        return 1.0
    if not ours.any() or not theirs.any():
        return 0.0
    disk = _disk(int(radius))
    precision = (ours & binary_dilation(theirs, disk)).sum() / ours.sum()
    recall = (theirs & binary_dilation(ours, disk)).sum() / theirs.sum()
    both = precision + recall
    return float(2 * precision * recall / both) if both else 0.0


def boundary(mask: Bools) -> Bools:
    """Return the pixels that differ from the one to the right, below, or below to the right."""
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] ^ mask[:, 1:]
    edge[:-1] |= mask[:-1] ^ mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] ^ mask[1:, 1:]
    return edge


def _disk(radius: int) -> Bools:
    places = np.arange(-radius, radius + 1)
    inside: Bools = places[:, None] ** 2 + places**2 <= radius**2
    return inside


def statistics(values: Floats) -> Statistics:
    """Sum up an object's values over frames [T].

    Quarters share the frames at their edges. (The official code keeps those in 8 bits: of clips of
    more than 256 frames its decay is another.)
    """
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    decay = float(first.mean() - last.mean())
    return Statistics(float(values.mean()), float((values > _GOOD).mean()), decay)


def histogram(
    truth: npt.NDArray[np.integer], predicted: npt.NDArray[np.integer], classes: int
) -> Floats:
    """Count pixels by what they are and what they are said to be: [K, K], rows the truth."""
    known = truth < classes
    pairs = classes * truth[known].astype(int) + predicted[known]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes).astype(float)


def mean_iou(counts: Floats) -> float:
    """Return the mean IoU over classes, of a histogram [K, K]; absent classes are left out."""
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float((counts.diagonal()[union > 0] / union[union > 0]).mean())
