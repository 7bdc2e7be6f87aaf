"""What is propagated in a clip, and how its prediction is scored: objects, body parts, or joints.

clip ─ first_labels ─► [L, h, w] ─ propagate ─► soft labels of each frame ─ read ─► prediction
predictions of all clips ─ add ─► scores
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import Score
from tools.propagation.clips import LabelledClip
from tools.propagation.joint_measures import ALPHAS, joint_labels, joint_places, pck, pck_counts
from tools.propagation.mask_measures import (
    Statistics,
    contour,
    histogram,
    mean_iou,
    region,
    statistics,
)
from tools.propagation.propagate import as_masks, shrunk
from tools.propagation.recipe import Recipe

_VIP_CLASSES: Final = 20

Prediction = npt.NDArray[Any]


class Scorer(Protocol):
    """One encoder's predictions of the clips of a data set."""

    def first_labels(self, clip: LabelledClip, size: tuple[int, int], recipe: Recipe) -> Tensor:
        """Return the labels of a clip's first frame, [L, h, w]."""

    def read(
        self, labels: Tensor, scaled: tuple[int, int], size: tuple[int, int], recipe: Recipe
    ) -> Prediction:
        """Return what soft labels say of a frame: a mask [H, W], or joints [J, 2] in pixels.

        Args:
            labels: [L, h, w].
            scaled: height and width that the encoder saw.
            size: H and W of the frame.
            recipe: of the propagation.
        """

    def given(self, clip: LabelledClip) -> Prediction:
        """Return what is known of the first frame."""

    def add(self, clip: LabelledClip, predictions: Sequence[Prediction]) -> None:
        """Take a clip's predictions, one a frame."""

    def scores(self, encoder: str) -> list[Score]:
        """Return the scores of all clips; none where no clip has labels to score by."""


class ObjectScores:
    """J and F of every object, as DAVIS-2017 has them: first and last frame are left out."""

    def __init__(self) -> None:
        self.regions: list[Statistics] = []
        self.contours: list[Statistics] = []

    def first_labels(self, clip: LabelledClip, size: tuple[int, int], recipe: Recipe) -> Tensor:
        """See `Scorer`."""
        mask = torch.from_numpy(self.given(clip)).long()
        return shrunk(mask, int(mask.max()) + 1, size, recipe)

    def read(
        self, labels: Tensor, scaled: tuple[int, int], size: tuple[int, int], recipe: Recipe
    ) -> Prediction:
        """See `Scorer`."""
        return _mask(labels, scaled, size, recipe)

    def given(self, clip: LabelledClip) -> Prediction:
        """See `Scorer`."""
        return clip.mask(0)

    def add(self, clip: LabelledClip, predictions: Sequence[Prediction]) -> None:
        """See `Scorer`."""
        if not clip.is_whole:
            return
        inner = range(1, len(clip.frames) - 1)
        truths = [clip.mask(number) for number in inner]
        for label in range(1, int(self.given(clip).max()) + 1):
            pairs = [
                (truth == label, predictions[number] == label)
                for number, truth in zip(inner, truths, strict=True)
            ]
            self.regions.append(statistics(np.array([region(*pair) for pair in pairs])))
            self.contours.append(statistics(np.array([contour(*pair) for pair in pairs])))

    def scores(self, encoder: str) -> list[Score]:
        """See `Scorer`."""
        if not self.regions:
            return []
        pairs = zip(self.regions, self.contours, strict=True)
        both = np.array([(j.mean + f.mean) / 2 for j, f in pairs])
        found = [Score("objects", encoder, "J&F", float(both.mean()), *bootstrap(both))]
        for letter, values in (("J", self.regions), ("F", self.contours)):
            for key in ("mean", "recall", "decay"):
                value = float(np.mean([getattr(one, key) for one in values]))
                found.append(Score("objects", encoder, f"{letter} {key}", value))
        return found


class PartScores:
    """The mean IoU of VIP's classes, counted over all frames of all clips."""

    def __init__(self) -> None:
        self.counts = np.zeros((_VIP_CLASSES, _VIP_CLASSES))

    def first_labels(self, clip: LabelledClip, size: tuple[int, int], recipe: Recipe) -> Tensor:
        """See `Scorer`."""
        return shrunk(torch.from_numpy(self.given(clip)).long(), _VIP_CLASSES, size, recipe)

    def read(
        self, labels: Tensor, scaled: tuple[int, int], size: tuple[int, int], recipe: Recipe
    ) -> Prediction:
        """See `Scorer`."""
        return _mask(labels, scaled, size, recipe)

    def given(self, clip: LabelledClip) -> Prediction:
        """See `Scorer`."""
        mask = clip.mask(0)
        if mask.max() >= _VIP_CLASSES:
            raise EvaluationError(
                f"{clip.masks[0]} has class {mask.max()}, and VIP has the background and "
                f"{_VIP_CLASSES - 1} classes; numbered objects are for --layout davis"
            )
        return mask

    def add(self, clip: LabelledClip, predictions: Sequence[Prediction]) -> None:
        """See `Scorer`."""
        for number in clip.masks if clip.is_whole else ():
            self.counts += histogram(clip.mask(number), predictions[number], _VIP_CLASSES)

    def scores(self, encoder: str) -> list[Score]:
        """See `Scorer`."""
        if not self.counts.any():
            return []
        return [Score("body parts", encoder, "mean IoU", mean_iou(self.counts))]


class JointScores:
    """PCK of JHMDB: the share of a joint's frames in which it is found, mean over joints."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.float64] | None = None

    def first_labels(self, clip: LabelledClip, size: tuple[int, int], recipe: Recipe) -> Tensor:
        """See `Scorer`."""
        height, width = clip.frame(0).shape[:2]
        places = self.given(clip) * [size[1] / width, size[0] / height]
        return joint_labels(np.where(self.given(clip) > 0, places, -1), *size)

    def read(
        self, labels: Tensor, scaled: tuple[int, int], size: tuple[int, int], recipe: Recipe
    ) -> Prediction:
        """See `Scorer`."""
        places = joint_places(labels.cpu())
        cells = [size[1] / labels.shape[2], size[0] / labels.shape[1]]
        return np.asarray(np.where(places < 0, places, places * cells))

    def given(self, clip: LabelledClip) -> Prediction:
        """See `Scorer`."""
        assert clip.joints is not None
        first: Prediction = clip.joints[0]
        return first

    def add(self, clip: LabelledClip, predictions: Sequence[Prediction]) -> None:
        """See `Scorer`."""
        assert clip.joints is not None
        counts = pck_counts(clip.joints, np.stack(predictions))
        self.counts = counts if self.counts is None else self.counts + counts

    def scores(self, encoder: str) -> list[Score]:
        """See `Scorer`."""
        if self.counts is None:
            return []
        means = pck(self.counts).mean(axis=0)
        return [
            Score("joints", encoder, f"PCK at {alpha:g}", float(mean))
            for alpha, mean in zip(ALPHAS, means, strict=True)
        ]


#: Layout of clips → how they are scored.
SCORERS: Final[dict[str, type[Scorer]]] = {
    "davis": ObjectScores,
    "vip": PartScores,
    "jhmdb": JointScores,
}


def _mask(
    labels: Tensor, scaled: tuple[int, int], size: tuple[int, int], recipe: Recipe
) -> npt.NDArray[np.uint8]:
    masks = as_masks(labels, scaled, recipe).to(torch.uint8)
    if scaled != size:
        masks = F.interpolate(masks[None, None], size=size, mode="nearest")[0, 0]
    return np.asarray(masks.cpu().numpy())
