"""A source's sound on the picture's clock: decoded frames in, one run of samples out.

Every decoded frame is laid down at its presentation time. Frames that follow each other are
resampled as one run; a jump of more than a few hundredths of a second starts a new run, and what no
run covers is silence. So late starts, holes and edit lists come out where they are heard.

Channels are mixed as FFmpeg does it: stereo to mono is the mean, surround keeps its level. Mono is
repeated for stereo, so that the mean of the two, which is what a stream reads, is the source.
"""

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from shards.encoding.audio import LAYOUTS

_BATCH_SAMPLES = 1 << 16
_JUMP_SECONDS = 0.05  # container clocks round to milliseconds, and AAC frames last 21


class AudioTimeline:
    """Collects the sound of [start, start + num_samples / rate) seconds, in the source's clock.

    samples: [C, S].
    """

    def __init__(
        self,
        start_seconds: Fraction,
        num_samples: int,
        sample_rate_hz: int,
        num_channels: int = 1,
    ) -> None:
        self.samples: npt.NDArray[np.int16] = np.zeros((num_channels, num_samples), np.int16)
        self._start = start_seconds
        self._rate = sample_rate_hz
        self._covered: list[tuple[int, int]] = []
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None
        self._waiting: list[Any] = []  # frames of the run, resampled many at a time: that is faster
        self._num_waiting = 0  # samples in them
        self._expected = 0.0  # seconds at which the run's next input frame should start
        self._cursor = 0  # output sample at which the run's next output goes

    def push(self, frame: Any, time: Fraction) -> None:
        """Lay one decoded frame down at `time` seconds."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        seconds = float(time)
        if form != self._form or abs(seconds - self._expected) > _JUMP_SECONDS:
            self.finish()
            layout = "mono" if frame.layout.nb_channels == 1 else LAYOUTS[len(self.samples)]
            self._resampler = av.AudioResampler(format="s16p", layout=layout, rate=self._rate)
            self._form = form
            self._expected = seconds
            self._cursor = round((time - self._start) * self._rate)
        self._expected += frame.samples / frame.sample_rate
        frame.pts = None
        self._waiting.append(frame)
        self._num_waiting += frame.samples
        if self._num_waiting >= _BATCH_SAMPLES:
            self._resample()

    def finish(self) -> None:
        """End the current run: what the resampler still holds is laid down."""
        if self._resampler is not None:
            self._resample()
            self._write(self._resampler.resample(None))
            self._resampler = None
            self._form = None

    def coverage(self, first: int, stop: int) -> float:
        """The part of samples [first, stop) that the source really has sound for, 0 to 1."""
        held = sum(max(0, min(b, stop) - max(a, first)) for a, b in self._covered)
        return min(1.0, held / (stop - first))

    def _resample(self) -> None:
        for frame in self._waiting:
            self._write(self._resampler.resample(frame))
        self._waiting.clear()
        self._num_waiting = 0

    def _write(self, frames: list[Any]) -> None:
        for frame in frames:
            block = frame.to_ndarray()
            a = max(0, self._cursor)
            b = min(self.samples.shape[1], self._cursor + block.shape[1])
            if a < b:
                self.samples[:, a:b] = block[:, a - self._cursor : b - self._cursor]
                if self._covered and self._covered[-1][1] == a:
                    self._covered[-1] = (self._covered[-1][0], b)
                else:
                    self._covered.append((a, b))
            self._cursor += block.shape[1]
