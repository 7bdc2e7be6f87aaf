"""Choose a decoder: by its name, or the best one that this machine has."""

from collections.abc import Callable, Mapping
from typing import Final

import torch

from pipelines.decoding.backends.backend import Backend

__all__ = ["AUTO", "BACKENDS", "FALLBACKS", "choose_decoder", "make_backend"]


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

#: Name → constructor; each imports its library itself. DALI decodes the video of a whole batch
#: (dali_loader.py) and leaves audio to the default.
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
