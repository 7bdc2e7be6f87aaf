"""The actions of a data set's clips, where a method learns what they do."""

import numpy as np
import numpy.typing as npt

from shards import Samples
from shards.reading.actions import actions_of
from tools.evaluation.errors import EvaluationError


def actions_if_any(dataset: Samples, seconds: float) -> npt.NDArray[np.int64] | None:
    """The actions of all samples, int64 [N, A]; None where no sample has any.

    Args:
        dataset: of clips that are each one episode.
        seconds: that a segment covers: all of a clip, since the actions are of the whole clip.

    Raises:
        EvaluationError: some have none, or another number of them, or what are none; or clips
            longer or shorter than a segment.
    """
    found: list[tuple[int, ...]] = []
    for number in range(len(dataset)):
        metadata = dataset.metadata(number)
        try:
            actions = actions_of(metadata)
        except ValueError as error:
            raise EvaluationError(f"{_named(dataset, number)}: {error}") from error
        if found and len(actions) != len(found[0]):
            raise EvaluationError(
                f"{_named(dataset, number)} has {len(actions)} actions, and those before it have "
                f"{len(found[0])}: clips must be episodes of one length"
            )
        duration = metadata.get("duration_seconds")
        between = seconds / (len(actions) + 1)  # from frame to frame
        if actions and isinstance(duration, float) and abs(duration - seconds) > between / 2:
            raise EvaluationError(
                f"{_named(dataset, number)} lasts {duration:g} s, and a segment {seconds:g} s: "
                f"its {len(actions)} actions are of the whole clip; set segment.seconds = "
                f"{duration:g} and segment.num_frames = {len(actions) + 1}"
            )
        found.append(actions)
    return np.array(found, np.int64) if found and found[0] else None


def _named(dataset: Samples, number: int) -> str:
    return f"sample {dataset.sample(number).key!r} of {dataset.path}"
