"""How well joints are found: their places out of soft labels, and PCK.

As in ajabri/videowalk's evaluation on JHMDB (Jhuang et al., ICCV 2013): a joint is found that lies
no further from the truth than α times 0.6 of the diagonal of the person's box.

Legend: T frames, J joints, h × w cells of a map.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Floats = npt.NDArray[np.float64]

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)
NOT_FOUND = -1.0
_SIGMA = 0.5  # of a joint's label, cells
_TOP_CELLS = 3
_SHARE_OF_DIAGONAL = 0.6


def joint_labels(places: Floats, height: int, width: int) -> Tensor:
    """Return labels of the background and of each joint, float32 [1 + J, h, w].

    A joint is a Gaussian around its cell; the background is what the nearest joint leaves.

    Args:
        places: x and y in cells, [J, 2]; a joint below 0 is not seen, and has no label.
        height: h.
        width: w.
    """
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    labels = np.zeros((1 + len(places), height, width), np.float32)
    for joint, (x, y) in enumerate(places, start=1):
        if min(x, y) >= 0:
            distance = (columns - x) ** 2 + (rows - y) ** 2
            labels[joint] = np.exp(-distance / (2 * _SIGMA**2))
    labels[0] = 1 - labels[1:].max(axis=0)
    return torch.from_numpy(labels)


def joint_places(labels: Tensor) -> Floats:
    """Return where each joint is, x and y in cells [J, 2]: the mean of its three strongest cells.

    Args:
        labels: [1 + J, h, w], the background first. A joint that is nowhere is at −1, −1.
    """
    joints = labels[1:].flatten(1).double()  # J × N
    strongest, cells = joints.topk(min(_TOP_CELLS, joints.shape[1]), dim=1)
    total = strongest.sum(1, keepdim=True)
    weights = strongest / total.clamp_min(1e-30)
    x, y = cells % labels.shape[2], cells // labels.shape[2]
    places = torch.stack([(weights * x).sum(1), (weights * y).sum(1)], dim=1)
    return np.asarray(torch.where(total > 0, places, NOT_FOUND).numpy())


def pck_counts(truth: Floats, predicted: Floats, alphas: Sequence[float] = ALPHAS) -> Floats:
    """Count the joints of a clip that are found, and those that are looked for.

    The first frame is given and not counted, nor are joints that are not seen (x or y not above 0)
    or that no prediction was made for.

    Args:
        truth: x and y in pixels, [T, J, 2].
        predicted: the same.
        alphas: see the module.

    Returns:
        [J, len(alphas) + 1]: found within each α, and looked for.
    """
    seen = np.asarray((truth > 0).all(axis=2))  # T × J
    counts = np.zeros((truth.shape[1], len(alphas) + 1))
    for frame in range(1, len(truth)):
        if not seen[frame].any():
            continue
        box = truth[frame][seen[frame]]
        scale = _SHARE_OF_DIAGONAL * float(np.hypot(*(box.max(axis=0) - box.min(axis=0))))
        wanted = seen[frame] & (predicted[frame, :, 0] >= 0)
        apart = np.hypot(*(predicted[frame] - truth[frame]).T)
        for column, alpha in enumerate(alphas):
            counts[:, column] += wanted & (apart <= alpha * scale)
        counts[:, -1] += wanted
    return counts


def pck(counts: Floats) -> Floats:
    """Return the share of each joint's frames in which it is found, by α: [J, alphas]."""
    return np.asarray(counts[:, :-1] / np.maximum(counts[:, -1:], 1))
