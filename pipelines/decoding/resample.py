"""Read a stretch of a track's audio at the wanted rate, as if the whole track were resampled.

Output sample j of a track lies j / rate seconds after its first sample. For another rate only the
input around the stretch is decoded, cut so that the grid of output samples stays where it is.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import AudioRequest, Backend, Read
from shards import Track

__all__ = ["read_audio"]

_LOWPASS_ZEROS = 6  # torchaudio's default kernel: this many zero crossings to each side
_ROLLOFF = 0.99


def read_audio(
    backend: Backend,
    read: Read,
    track: Track,
    start_seconds: float,
    sample_rate_hz: int,
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [S] with the track's audio from `start_seconds`, to the nearest sample.

    Args:
        backend: decodes at the track's own rate.
        read: gives bytes of the shard.
        track: an audio track.
        start_seconds: on the clip's clock.
        sample_rate_hz: of `out`.
        out: float32 [S].

    Raises:
        MediaError: as the backend does.
    """
    seconds = track.stop_seconds - track.start_seconds
    last = round(seconds * sample_rate_hz) - len(out)  # where a segment at the very end starts
    first = min(round((start_seconds - track.start_seconds) * sample_rate_hz), max(0, last))
    if track.sample_rate_hz == sample_rate_hz:
        backend.samples(AudioRequest(read, track, first), out)
        return
    from torchaudio.functional import resample

    divisor = math.gcd(track.sample_rate_hz, sample_rate_hz)
    old, new = track.sample_rate_hz // divisor, sample_rate_hz // divisor
    # One block of `old` input samples is one of `new` output samples; blocks keep the grid.
    margin = math.ceil(_LOWPASS_ZEROS * old / (min(old, new) * _ROLLOFF) / old) + 1
    first_block = max(0, first // new - margin)
    stop_block = -(-(first + len(out)) // new) + margin
    num_input = round(seconds * track.sample_rate_hz)
    stretch = np.empty(min(num_input, stop_block * old) - first_block * old, np.float32)
    backend.samples(AudioRequest(read, track, first_block * old), stretch)
    resampled = resample(
        torch.from_numpy(stretch),
        old,
        new,
        lowpass_filter_width=_LOWPASS_ZEROS,
        rolloff=_ROLLOFF,
    ).numpy()
    skip = first - first_block * new
    out[:] = resampled[skip : skip + len(out)]
