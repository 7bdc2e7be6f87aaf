"""When each audio packet begins, to the sample, where the container's clock is too coarse.

Matroska and FLV count milliseconds, so a packet's time is off by up to half of one. What it holds
is a whole number of samples; so the audio is decoded once and counted out, and each unbroken run of
it is laid in the middle of what its packets' times say (rounding errs evenly to both sides).
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags2

from shards.media.padded_packet import padded_packet

_UNBROKEN_TICKS = 1.5  # rounding alone spreads a run's times over one tick


def is_coarse(time_base: Fraction, sample_rate_hz: int) -> bool:
    """Whether a clock cannot tell one sample from the next."""
    return time_base * sample_rate_hz > 1


def samples_of(
    codec: str, extradata: bytes, sample_rate_hz: int, num_channels: int, packets: Sequence[bytes]
) -> npt.NDArray[np.int64] | None:
    """How many samples come out for each packet [P]; None if the decoder cannot say."""
    counts = np.zeros(len(packets), np.int64)
    try:
        decoder: Any = av.CodecContext.create(codec, "r")
        if extradata:
            decoder.extradata = extradata
        decoder.sample_rate = sample_rate_hz
        decoder.layout = f"{num_channels}c"
        decoder.flags2 |= Flags2.skip_manual  # a codec's priming counts too
        for number, data in enumerate(packets):
            packet = padded_packet(data)
            packet.pts = number
            for frame in decoder.decode(packet):
                counts[number if frame.pts is None else frame.pts] += frame.samples
        for frame in decoder.decode(None):
            counts[-1 if frame.pts is None else frame.pts] += frame.samples
    except (av.FFmpegError, ValueError):
        return None
    return counts if counts.any() else None


def counted_out(
    pts: npt.NDArray[np.int64],
    time_base: Fraction,
    counts: npt.NDArray[np.int64],
    sample_rate_hz: int,
) -> npt.NDArray[np.int64]:
    """At which sample each packet begins [P], counted from time zero.

    Args:
        pts: presentation times [P], in ticks.
        time_base: seconds a tick.
        counts: samples a packet [P].
        sample_rate_hz: of the audio.
    """
    per_tick = float(time_base * sample_rate_hz)
    plural = np.cumsum(counts) - counts
    ahead = pts * per_tick - plural
    begins = np.empty(len(pts), np.int64)
    first, low, high = 0, ahead[0], ahead[0]
    for number in range(1, len(pts) + 1):
        value = ahead[number] if number < len(pts) else np.inf
        if max(high, value) - min(low, value) <= _UNBROKEN_TICKS * per_tick:
            low, high = min(low, value), max(high, value)
            continue
        run = slice(first, number)
        begins[run] = plural[run] + round(float(low + high) / 2)
        first, low, high = number, value, value
    return begins
