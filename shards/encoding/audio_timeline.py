"""Place a source's audio on the video's clock: decoded frames in, one array of samples out.

Frames that follow each other are resampled as one run, and the run is laid by its frames' times
(audio_clock.py), so that what they deviate by does not add up; a jump of more than a few hundredths
of a second starts a new run, and what no run covers is silence. So late starts, holes and edit
lists come out where they are heard.

Channels are mixed as FFmpeg does it: stereo to mono is the mean, surround keeps its level. Mono is
repeated for stereo, so that the mean of the two, which is what a stream reads, is the source.
"""

from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from shards.encoding.audio import LAYOUTS
from shards.encoding.audio_clock import TOLERATED_SECONDS, Piece, laid, pieces

_BATCH_SAMPLES = 1 << 16
_JUMP_SECONDS = 0.05  # container clocks round to milliseconds, and AAC frames last 21
MAX_NOTES = 10
_BEFORE_SECONDS = 60  # what ends this long before the start is not resampled


class AudioTimeline:
    """Collect the audio of [start, start + num_samples / rate) seconds, in the source's clock.

    samples: [C, S]. After `finish`, `notes` says what was done to keep them in time.
    """

    def __init__(
        self,
        start_seconds: Fraction,
        num_samples: int,
        sample_rate_hz: int,
        num_channels: int = 1,
    ) -> None:
        self.samples: npt.NDArray[np.int16] = np.zeros((num_channels, num_samples), np.int16)
        self.notes: list[str] = []
        self._start = start_seconds
        self._rate = sample_rate_hz
        self._covered: list[tuple[int, int]] = []
        self._resampler: Any = None
        self._form: tuple[str, str, int] | None = None
        self._waiting: list[Any] = []  # frames of the run, resampled many at a time: that is faster
        self._num_waiting = 0  # samples in them
        self._expected = 0.0  # seconds at which the run's next input frame should start
        self._num_pushed = 0  # samples of the run so far
        self._tick = 0.0  # seconds that its times are counted in
        self._begins: list[float] = []  # of the run's frames: their first samples,
        self._places: list[float] = []  # and where those are heard, both at the output's rate
        self._run: list[npt.NDArray[np.int16]] = []  # what was resampled of it

    def push(self, frame: Any, time: Fraction) -> None:
        """Lay one decoded frame down at `time` seconds."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        seconds = float(time)
        length = frame.samples / frame.sample_rate
        if seconds + length < self._start - _BEFORE_SECONDS:
            return
        if form != self._form or abs(seconds - self._expected) > _JUMP_SECONDS:
            self.finish()
            layout = "mono" if frame.layout.nb_channels == 1 else LAYOUTS[len(self.samples)]
            self._resampler = av.AudioResampler(format="s16p", layout=layout, rate=self._rate)
            self._form = form
            self._tick = float(frame.time_base)
            self._num_pushed = 0
        self._begins.append(self._num_pushed * self._rate / frame.sample_rate)
        self._places.append(float((time - self._start) * self._rate))
        self._num_pushed += frame.samples
        self._expected = seconds + length
        frame.pts = None
        self._waiting.append(frame)
        self._num_waiting += frame.samples
        if self._num_waiting >= _BATCH_SAMPLES:
            self._resample()

    def finish(self) -> None:
        """End the current run: it is laid down."""
        if self._resampler is None:
            return
        self._resample()
        self._run += [frame.to_ndarray() for frame in self._resampler.resample(None)]
        run = np.concatenate(self._run, axis=1)
        begins, places = np.array(self._begins), np.array(self._places)
        for piece in pieces(begins, places, run.shape[1], self._rate, self._tick):
            self._write(*laid(run, piece, self.samples.shape[1]))
            if not piece.is_straight:
                self._note_clock(piece)
        self._resampler = self._form = None
        self._run, self._begins, self._places = [], [], []

    def coverage(self, first: int, stop: int) -> float:
        """The part of samples [first, stop) that the source really has audio for, 0 to 1."""
        held = sum(max(0, min(b, stop) - max(a, first)) for a, b in self._covered)
        return min(1.0, held / (stop - first))

    def _resample(self) -> None:
        for frame in self._waiting:
            self._run += [part.to_ndarray() for part in self._resampler.resample(frame)]
        self._waiting.clear()
        self._num_waiting = 0

    def _write(self, first: int, block: npt.NDArray[np.int16]) -> None:
        stop = first + block.shape[1]
        if stop == first:
            return
        self.samples[:, first:stop] = block
        if not self._covered:
            self._covered.append((first, stop))
            return
        before, end = self._covered[-1]
        if end == first:
            self._covered[-1] = (before, stop)
            return
        self._covered.append((first, stop))
        hole = (first - end) / self._rate
        if hole > TOLERATED_SECONDS:
            self._note(f"audio at {self._seconds(end):.3f} s: a hole of {1000 * hole:.0f} ms")

    def _note_clock(self, piece: Piece) -> None:
        rate = (piece.places[-1] - piece.places[0]) / (piece.anchors[-1] - piece.anchors[0])
        since = f"audio from {self._seconds(max(0.0, piece.places[0])):.3f} s"
        self._note(f"{since}: resampled to its clock ({100 * (rate - 1):+.2f} %)")

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)

    def _seconds(self, place: float) -> float:
        return float(self._start) + place / self._rate
