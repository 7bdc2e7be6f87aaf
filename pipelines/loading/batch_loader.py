"""The protocol of loaders: requests in, batches out in their order, put together in one place.

Loader (loader.py) decodes sample by sample, DaliLoader (dali_loader.py) whole batches; both put
their batches together here.

Legend: n samples of a batch, K starts in a sample, V speeds, R rows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.raw_batch import RawBatch
from pipelines.skips import SkipError

__all__ = ["BatchLoader", "Delivery", "Filled", "Outcome", "Request", "delivery_of"]


class Filled(NamedTuple):
    """What became of a sample whose rows were filled.

    Attributes:
        key: its own.
        starts: float64 [K·V], of its rows.
        captions: where text is wanted, see `SegmentReader.captions`.
    """

    key: str
    starts: NDArray[np.float64]
    captions: tuple[str, ...] | None = None


#: What became of a sample, or why it was skipped.
Outcome = Filled | SkipError


@dataclass(frozen=True, eq=False)
class Request:
    """One batch that is wanted.

    Attributes:
        epoch, step: where it stands in the run.
        samples: int64 [n], indices in the data set.
        places: float64 [n, K] in [0, 1]: where in what the clip allows each segment starts.
        captions: float64 [n] in [0, 1): which of a sample's captions; None for the first.
        data_epochs: int64 [n], see `Visits`; None where all are in the run's epoch.
    """

    epoch: int
    step: int
    samples: NDArray[np.int64]
    places: NDArray[np.float64]
    data_epochs: NDArray[np.int64] | None = None
    captions: NDArray[np.float64] | None = None

    def caption_place(self, i: int) -> float:
        """Which of its captions the i-th sample gets, see `SegmentReader.captions`."""
        return 0.0 if self.captions is None else float(self.captions[i])


@dataclass(frozen=True, eq=False)
class Delivery:
    """One batch as it came, and for each of its n samples None, or why it was skipped."""

    batch: RawBatch
    outcomes: tuple[SkipError | None, ...]


class BatchLoader(Protocol):
    """What a stream takes its batches from."""

    def deliveries(self, requests: Iterable[Request]) -> Iterator[Delivery]:
        """The batches of `requests`, in their order, decoded ahead."""

    def close(self) -> None:
        """Stop decoding."""


def delivery_of(
    reader: SegmentReader,
    request: Request,
    outcomes: Sequence[Outcome],
    frames: Tensor | None,
    audio: Tensor | None,
    pixels: str = "i420",
) -> Delivery:
    """The batch of a request, without the samples that were skipped.

    Args:
        reader: of the segments.
        request: of n samples, K starts each.
        outcomes: [n].
        frames: [R, …] of the samples that were not skipped, K·V rows each; None without
            video.
        audio: float32 [R, S], likewise; None without audio.
        pixels: what frames hold, see color.PIXELS.
    """
    num_starts, num_speeds = request.places.shape[1], len(reader.speeds)
    kept = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, SkipError)]
    delivered = [outcome for outcome in outcomes if not isinstance(outcome, SkipError)]
    starts = np.array([outcome.starts for outcome in delivered], np.float64)

    def rows_of(column: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(column[kept].repeat(num_starts * num_speeds))

    epochs = request.data_epochs
    captions = [outcome.captions for outcome in delivered if outcome.captions is not None]
    batch = RawBatch(
        frames=frames,
        audio=audio,
        sample=rows_of(request.samples),
        shift=torch.arange(num_starts).repeat_interleave(num_speeds).repeat(len(kept)),
        speed=torch.arange(num_speeds).repeat(num_starts * len(kept)),
        start_seconds=torch.from_numpy(starts.reshape(-1)),
        keys=tuple(outcome.key for outcome in delivered for _ in range(num_starts * num_speeds)),
        height=reader.height,
        width=reader.width,
        color_matrix=reader.color_matrix,
        color_range=reader.color_range,
        sample_rate_hz=reader.options.sample_rate_hz,
        epoch=request.epoch,
        step=request.step,
        data_epoch=None if epochs is None else rows_of(epochs),
        captions=tuple(texts for texts in captions for _ in range(num_starts * num_speeds))
        if reader.text
        else None,
        pixels=pixels,
    )
    skips = tuple(outcome if isinstance(outcome, SkipError) else None for outcome in outcomes)
    return Delivery(batch, skips)
