"""Encode the video of clips: each output frame shows what is on screen in its middle.

Output frame n of a clip shows what is on screen at the middle of its interval, (n + ½) / fps after
the clip's start. So any source comes out at a constant rate, whatever times its frames have.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Any, NamedTuple

from shards.encoding.clip_filters import MotionMeter
from shards.encoding.video import VideoEncoder
from shards.media.color import coded_color
from shards.media.deinterlace import Deinterlacer, TimedFrame
from shards.media.frame_fitting import FrameFitter
from shards.media.hdr import is_hdr, needs_mapping
from shards.media.source_reader import SourceReader
from shards.options import BuildOptions


class Span(NamedTuple):
    """A clip's range in seconds of the source's clock, stop excluded: whole frames long."""

    start: Fraction
    stop: Fraction


class ClipVideo(NamedTuple):
    """The video of one clip, as an mp4.

    is_static: whether they hardly change; false where nobody asks. is_damaged: whether a decoder
    that is given nothing else meets an error. was_interlaced: whether the source has two fields for
    one of them; they are deinterlaced unless they were copied. was_mapped: whether colours of the
    source are HDR or wide, and were mapped to BT.709; is_hdr: whether they are HDR.
    """

    data: bytes
    num_frames: int
    is_static: bool
    is_damaged: bool = False
    was_interlaced: bool = False
    was_mapped: bool = False
    is_hdr: bool = False


class ClipEncoder:
    """Turn decoded frames into clips of a constant frame rate; `clips` are the finished ones.

    Args:
        spans: the clips' ranges, in order.
        options: their size, rate and codec.
        reader: where the frames come from; knows the shape of their pixels.
    """

    def __init__(self, spans: Sequence[Span], options: BuildOptions, reader: SourceReader) -> None:
        self.clips: list[ClipVideo] = []
        self._options, self._reader = options, reader
        self._rate = options.frame_rate
        self._spans = spans
        self._clip, self._frame = 0, 0  # the output frame that comes next
        self._fitter: FrameFitter | None = None
        self._aspect: Fraction | None = None  # of the pixels that it is for
        self._encoder: VideoEncoder | None = None
        self._motion: MotionMeter | None = None
        self._deinterlacer = Deinterlacer()
        self._shown: TimedFrame | None = None  # the last one, on screen until the next one's time
        self._fitted: Any = None  # the same at the coded size, once it was needed
        self._was_interlaced = self._was_mapped = self._is_hdr = False  # any of the clip so far

    def show(self, frame: Any, time: Fraction) -> None:
        """Take the frame that comes on screen at `time`; one from before the last is dropped."""
        for timed in self._deinterlacer.push(frame, time):
            self._show(timed)

    def finish(self) -> None:
        """Let the last frame stay for its own duration."""
        for timed in self._deinterlacer.finish():
            self._show(timed)
        if self._shown is not None:
            frame, time, _ = self._shown
            duration = (frame.duration or 0) * frame.time_base
            stop = time + (duration or self._reader.frame_seconds)
            self._encode_until(max(stop, self._reader.still_until or stop))

    def _show(self, timed: TimedFrame) -> None:
        if self._shown is not None:
            if timed.time <= self._shown.time:
                return
            self._encode_until(timed.time)
        self._shown, self._fitted = timed, None

    def _encode_until(self, time: Fraction) -> None:
        """Encode the frame on screen for every output frame whose middle comes before `time`."""
        while self._clip < len(self._spans):
            start, stop = self._spans[self._clip]
            due = ceil((time - start) * self._rate - Fraction(1, 2))
            if self._frame >= due:
                return
            num_frames = int((stop - start) * self._rate)
            while self._frame < min(due, num_frames):
                self._encode(num_frames)
            if self._frame < num_frames:
                return
            self._finish_clip()

    def _encode(self, num_frames: int) -> None:
        assert self._shown is not None
        if self._encoder is None:
            self._encoder = VideoEncoder(self._options)
            if "motion" in self._options.require:
                self._motion = MotionMeter(num_frames, self._rate)
        if self._fitted is None:
            self._fitted = self._fitter_at(self._shown.time).fit(self._shown.frame)
        self._was_interlaced |= self._shown.was_interlaced
        self._was_mapped |= needs_mapping(self._shown.frame)
        self._is_hdr |= is_hdr(self._shown.frame)
        self._encoder.push(self._fitted)
        if self._motion is not None:
            self._motion.see(self._fitted)
        self._frame += 1

    def _fitter_at(self, time: Fraction) -> FrameFitter:
        """The fitter for frames from `time` on: a new one where the shape of pixels changes."""
        aspect = self._reader.aspect_ratio(time)
        if self._fitter is None or aspect != self._aspect:
            self._fitter = FrameFitter(self._options, aspect, coded_color(self._options.codec))
            self._aspect = aspect
        return self._fitter

    def _finish_clip(self) -> None:
        assert self._encoder is not None
        static = self._motion is not None and self._motion.is_static
        video = self._encoder.finish()
        self.clips.append(
            ClipVideo(
                video,
                self._frame,
                static,
                was_interlaced=self._was_interlaced,
                was_mapped=self._was_mapped,
                is_hdr=self._is_hdr,
            )
        )
        self._encoder = None
        self._was_interlaced = self._was_mapped = self._is_hdr = False
        self._clip, self._frame = self._clip + 1, 0
