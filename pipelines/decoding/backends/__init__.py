"""Decoders behind one small protocol: packets of an indexed track in, planes and samples out.

A backend is asked for frames by packet number and for sound by sample number, both looked up on the
track's own clock by segment.py; so every backend answers the same question. One backend object is
shared by all threads.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from shards import Track

__all__ = [
    "AUTO",
    "BACKENDS",
    "FALLBACKS",
    "Backend",
    "MediaError",
    "PartialBackend",
    "Read",
    "choose_decoder",
    "make_backend",
]

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
    """What a decoder can do. All methods may be called from several threads at once.

    Attributes:
        device: where frames come out, "cpu" or a GPU by its number, "cuda:0".
        fallbacks: how many samples another backend decoded in its place, by cause.
    """

    device: str
    fallbacks: Counter[str]

    def frames(
        self,
        read: Read,
        track: Track,
        wanted: NDArray[np.int64],
        height: int,
        width: int,
        out: Any,
    ) -> None:
        """Decode the frames of `wanted` packets (file order numbers, any order, repeats allowed).

        Args:
            read: gives bytes of the shard.
            track: a video track.
            wanted: packet numbers [n].
            height: of the planes to write; the picture is rescaled where its own differs.
            width: likewise.
            out: uint8 [n, H·W·3/2], C-contiguous rows; receives I420 planes. An array, or a tensor
                where `device` is not the CPU.

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


@runtime_checkable
class PartialBackend(Protocol):
    """A backend that does not decode everything itself."""

    def refusal(self, read: Read, track: Track, height: int, width: int) -> str | None:
        """Why another one would decode this track in its place; None where it would not.

        Raises:
            MediaError: the track's first pictures cannot be had.
        """


def _av(fallback: str) -> Backend:
    from pipelines.decoding.backends.av import PacketDecoder

    return PacketDecoder()


def _torchcodec(fallback: str) -> Backend:
    from pipelines.decoding.backends.torchcodec import TorchcodecDecoder

    return TorchcodecDecoder("cpu", fallback)


def _decord(fallback: str) -> Backend:
    from pipelines.decoding.backends.decord import DecordDecoder

    return DecordDecoder(fallback)


def _nvdec(fallback: str) -> Backend:
    from pipelines.decoding.backends.torchcodec import TorchcodecDecoder

    return TorchcodecDecoder("cuda", fallback)


def _hybrid(fallback: str) -> Backend:
    from pipelines.decoding.backends.hybrid import HybridDecoder

    return HybridDecoder(_nvdec(fallback), _av(fallback), _NVDEC_PLACES)


_NVDEC_PLACES: Final = 8  # an H100 or H200 has seven NVDECs; more threads than this use the CPU

#: What to do with streams that a decoder does not take: decode them with the default one and count
#: them, or fail.
FALLBACKS: Final = ("count", "refuse")

#: Name → constructor; each imports its library itself. DALI decodes the pictures of a whole batch
#: (dali_loader.py) and leaves sound to the default.
BACKENDS: Final[Mapping[str, Callable[[str], Backend]]] = {
    "av": _av,
    "torchcodec": _torchcodec,
    "decord": _decord,
    "nvdec": _nvdec,
    "hybrid": _hybrid,
    "dali": _av,
}
AUTO: Final = "auto"


def choose_decoder(name: str = AUTO) -> tuple[str, str]:
    """The name of a backend for `name`, which may be "auto", and why it is that one.

    Raises:
        ValueError: there is none of that name.
    """
    if name in BACKENDS:
        return name, "as configured"
    if name != AUTO:
        raise ValueError(
            f"decoder = {name!r} is unknown, must be {AUTO} or one of {', '.join(BACKENDS)}"
        )
    if not torch.cuda.is_available():
        return "av", "there is no NVIDIA GPU"
    try:
        _nvdec("count")
    except ImportError as error:
        return "av", f"there is a GPU, but {error}"
    return "nvdec", "there is a GPU, and its decoder leaves the planes on it"


def make_backend(
    name: str, fallback: str = "count", colors: tuple[str, str] | None = None
) -> Backend:
    """The backend called `name`.

    Args:
        name: of `BACKENDS`.
        fallback: of `FALLBACKS`.
        colors: matrix and range of all frames, to which "av" brings those of others.

    Raises:
        ImportError: its library is missing; says what to install.
        ValueError: there is none of that name.
    """
    if name not in BACKENDS:
        raise ValueError(f"decoder = {name!r} is unknown, must be one of {', '.join(BACKENDS)}")
    if fallback not in FALLBACKS:
        raise ValueError(f"fallback = {fallback!r}, must be one of {', '.join(FALLBACKS)}")
    if name == "av" and colors is not None:
        from pipelines.decoding.backends.av import PacketDecoder

        return PacketDecoder(colors)
    return BACKENDS[name](fallback)
