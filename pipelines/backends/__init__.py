"""Decoders behind one small protocol: packets of an indexed track in, planes and samples out.

A backend is asked for frames by packet number and for sound by sample number, both looked up on the
track's own clock by segment.py; so every backend answers the same question. One backend object is
shared by all threads.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shards import Track

__all__ = ["BACKENDS", "Backend", "MediaError", "Read", "make_backend"]

#: (offset, size) → bytes of the sample's shard.
Read = Callable[[int, int], bytes]


class MediaError(Exception):
    """The bytes of a track do not give what the index promises.

    Attributes:
        stage: "checksum", "decode", "cover" or "index".
        cause: what was wrong, with the numbers.
    """

    def __init__(self, stage: str, cause: str) -> None:
        super().__init__(f"{stage}: {cause}")
        self.stage, self.cause = stage, cause


class Backend(Protocol):
    """What a decoder can do. All methods may be called from several threads at once."""

    def frames(
        self,
        read: Read,
        track: Track,
        wanted: NDArray[np.int64],
        height: int,
        width: int,
        out: NDArray[np.uint8],
    ) -> None:
        """Decode the frames of `wanted` packets (file order numbers, any order, repeats allowed).

        Args:
            read: gives bytes of the shard.
            track: a video track.
            wanted: packet numbers [n].
            height: of the planes to write; the picture is rescaled where its own differs.
            width: likewise.
            out: uint8 [n, H·W·3/2], C-contiguous rows; receives I420 planes.

        Raises:
            MediaError: a checksum is wrong, or a frame does not come out.
        """

    def samples(self, read: Read, track: Track, first: int, out: NDArray[np.float32]) -> None:
        """Decode samples [first, first + len(out)) of the track's own clock, mixed to mono.

        Args:
            read: gives bytes of the shard.
            track: an audio track.
            first: counted from the track's first sample, at the track's own rate.
            out: float32 [n] in [-1, 1].

        Raises:
            MediaError: a checksum is wrong, or samples are missing.
        """


def _av() -> Backend:
    from pipelines.backends.av import PacketDecoder

    return PacketDecoder()


#: Name → constructor; each imports its library itself.
#: DALI decodes batches (dali_loader.py) and leaves sound to the default.
BACKENDS: Final[Mapping[str, Callable[[], Backend]]] = {"av": _av, "dali": _av}


def make_backend(name: str) -> Backend:
    """The backend called `name`.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in BACKENDS:
        raise ValueError(f"decoder = {name!r} is unknown, must be one of {', '.join(BACKENDS)}")
    return BACKENDS[name]()
