"""Read a stretch of a track's audio at the wanted rate, as if the whole track were resampled.

Output sample j of a track lies j / rate seconds after its first sample. For another rate only the
input around the stretch is decoded, cut so that the grid of output samples stays where it is. By
torchaudio, or for rates whose ratio is of large numbers, by the same filter in bounded memory.
"""

import math
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import AudioRequest, Backend, MediaError, Read
from shards import Track

__all__ = ["read_audio"]

_LOWPASS_ZEROS = 6  # torchaudio's default kernel: this many zero crossings to each side
_ROLLOFF = 0.99
_MOST_FILTER_TAPS = 1 << 21  # of torchaudio's filter: 16 MB; 44,100 to 24,000 Hz takes 13,000
_ROWS_AT_A_TIME = 8192


def read_audio(
    backend: Backend,
    read: Read,
    track: Track,
    start_seconds: float,
    sample_rate_hz: int | Fraction,
    out: NDArray[np.float32],
) -> None:
    """Fill `out` [S] with the track's audio from `start_seconds`, to the nearest sample.

    Args:
        backend: decodes at the track's own rate.
        read: gives bytes of the shard.
        track: an audio track.
        start_seconds: on the clip's clock.
        sample_rate_hz: samples of `out` for a second of the clip; another playback speed makes a
            fraction of it.
        out: float32 [S].

    Raises:
        MediaError: as the backend does; or a sample is no number.
    """
    _read(backend, read, track, start_seconds, sample_rate_hz, out)
    if not np.isfinite(out).all():  # floats may be anything, and one would spread to all weights
        raise MediaError("decode", "its sound has samples that are no numbers: NaN or infinite")


def _read(
    backend: Backend,
    read: Read,
    track: Track,
    start_seconds: float,
    sample_rate_hz: int | Fraction,
    out: NDArray[np.float32],
) -> None:
    seconds = track.stop_seconds - track.start_seconds
    last = round(seconds * sample_rate_hz) - len(out)  # where a segment at the very end starts
    first = min(round((start_seconds - track.start_seconds) * sample_rate_hz), max(0, last))
    if track.sample_rate_hz == sample_rate_hz:
        backend.samples(AudioRequest(read, track, first), out)
        return
    from torchaudio.functional import resample

    old, new = (track.sample_rate_hz / Fraction(sample_rate_hz)).as_integer_ratio()
    num_input = round(seconds * track.sample_rate_hz)
    width = math.ceil(_LOWPASS_ZEROS * old / (min(old, new) * _ROLLOFF))  # input samples to a side
    if new * (old + 2 * width) > _MOST_FILTER_TAPS:
        begin = max(0, first * old // new - width)
        stop = min(num_input, (first + len(out)) * old // new + width + 1)
        stretch = np.empty(stop - begin, np.float32)
        backend.samples(AudioRequest(read, track, begin), stretch)
        resample_by_sample(stretch, begin, first, old, new, out)
        return

    # One block of `old` input samples is one of `new` output samples; blocks keep the grid.
    margin = math.ceil(_LOWPASS_ZEROS * old / (min(old, new) * _ROLLOFF) / old) + 1
    first_block = max(0, first // new - margin)
    stop_block = -(-(first + len(out)) // new) + margin
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


def resample_by_sample(
    stretch: NDArray[np.float32],
    begin: int,
    first: int,
    old: int,
    new: int,
    out: NDArray[np.float32],
) -> None:
    """Resample with torchaudio's filter, a sinc under a Hann window, one output sample at a time.

    torchaudio keeps a filter of `old` taps for each of `new` phases: 1.2 GB from 23,998 to 24,000
    Hz. Only the taps around an output sample differ from 0, and only those are computed here.

    Args:
        stretch: float32, input samples from number `begin` on; there is silence around them.
        begin: see above.
        first: number of the first output sample.
        old: input samples, of which each `new` output samples replace that many.
        new: see above; the two have no divisor in common.
        out: float32 [S].
    """
    cutoff = min(old, new) * _ROLLOFF / old  # of the input's rate; half of it is the filter's edge
    width = math.ceil(_LOWPASS_ZEROS / cutoff)
    around = np.arange(-width, width + 2)  # K
    for row in range(0, len(out), _ROWS_AT_A_TIME):
        number = np.arange(first + row, first + min(row + _ROWS_AT_A_TIME, len(out)))
        before, phase = np.divmod(number * old, new)
        places = before[:, None] + around - begin  # rows x K
        heard = (places >= 0) & (places < len(stretch))
        t = (around - (phase / new)[:, None]) * cutoff  # rows x K
        t = t.clip(-_LOWPASS_ZEROS, _LOWPASS_ZEROS)
        taps = np.sinc(t) * np.cos(t * (np.pi / _LOWPASS_ZEROS / 2)) ** 2 * cutoff
        values = stretch[places.clip(0, len(stretch) - 1)]
        out[row : row + len(number)] = (taps * values * heard).sum(1)
