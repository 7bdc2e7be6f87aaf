"""The protocol of all decoders: frames by packet number, audio by sample number.

Both are looked up on the track's own clock by segment.py, so every backend answers the same
question. One backend object is shared by all threads.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shards import Track

__all__ = ["AudioRequest", "Backend", "FrameRequest", "MediaError", "PartialBackend", "Read"]

#: (offset, size) → bytes of the sample's shard.
Read = Callable[[int, int], bytes]


class MediaError(Exception):
    """The bytes of a track do not give what the index promises.

    Attributes:
        stage: "open", "checksum", "decode", "cover" or "index".
        cause: what was wrong, with the numbers.
    """

    def __init__(self, stage: str, cause: str) -> None:
        super().__init__(f"{stage}: {cause}")
        self.stage, self.cause = stage, cause


@dataclass(frozen=True, eq=False)
class FrameRequest:
    """Frames of one video track, by packet number, at one size.

    Attributes:
        read: gives bytes of the shard.
        track: a video track.
        wanted: int64 [n], packet numbers in file order; any order, repeats allowed.
        height, width: of the planes to write; frames of another size are rescaled.
    """

    read: Read
    track: Track
    wanted: NDArray[np.int64]
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class AudioRequest:
    """Audio of one track from a sample on, at the track's own rate.

    Attributes:
        read: gives bytes of the shard.
        track: an audio track.
        first: number of the first sample, counted from the track's first.
    """

    read: Read
    track: Track
    first: int


class Backend(Protocol):
    """What a decoder can do. All methods may be called from several threads at once.

    Attributes:
        device: where frames come out, "cpu" or a GPU by its number, "cuda:0".
        fallbacks: how many samples another backend decoded in its place, by cause.
    """

    device: str
    fallbacks: Counter[str]

    def frames(self, request: FrameRequest, out: Any) -> None:
        """Decode the wanted frames.

        Args:
            request: of n frames.
            out: uint8 [n, H·W·3/2], C-contiguous rows; receives I420 planes. An array, or a tensor
                where `device` is not the CPU.

        Raises:
            MediaError: a checksum is wrong, or a frame does not come out.
        """

    def samples(self, request: AudioRequest, out: NDArray[np.float32]) -> None:
        """Decode samples [first, first + len(out)), mixed to mono.

        Args:
            request: says of which track, and from where.
            out: float32 [n] in [-1, 1].

        Raises:
            MediaError: a checksum is wrong, or samples are missing.
        """


@runtime_checkable
class PartialBackend(Protocol):
    """A backend that does not decode everything itself."""

    def refusal(self, request: FrameRequest) -> str | None:
        """Why another one would decode this track in its place; None where it would not.

        Raises:
            MediaError: the wanted frames cannot be had.
        """
