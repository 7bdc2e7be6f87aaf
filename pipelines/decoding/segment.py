"""Segments: one second of video and audio, cut from a clip by one clock.

Frame i of T is the frame on screen at the middle of its interval, start + (i + ½)·seconds / T, or
at a time of its own (`frame_times`), found by presentation time; sample j is the one at start + j /
rate. Both start at the same `start`, and the range is half-open. So variable frame rates, B-frames
and late audio need no special case. With `audio_seconds` the two last differently long around one
middle, and the segment is the longer.
Which packets hold a segment is said here; segment_reader.py decodes them.

A row of another playback speed (speed.py) covers a multiple of those seconds.

Legend: K segments, T frames, H W luma size, S audio samples.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.backends.av import PREROLL_SECONDS
from pipelines.decoding.backends.backend import MediaError
from pipelines.decoding.backends.packets import runs_of
from shards import Track

__all__ = ["Segment", "SegmentOptions", "byte_ranges", "frames_on_screen"]

_RESAMPLING_SECONDS = 0.02  # more than what a filter sees on either side of a stretch
_TICK_TOLERANCE = 1e-6  # a time this close below a frame's own counts as the frame's


@dataclass(frozen=True)
class SegmentOptions:
    """What a segment holds.

    Attributes:
        seconds: its length; of its video where `audio_seconds` is given.
        audio_seconds: length of its audio, around the same middle; `seconds` by default.
        num_frames: T.
        frame_times: when each of the T frames is on screen, in seconds from the segment's start,
            less than `seconds`: [0, 0.1, 1] for two near frames and a far one. By default the
            middles of T equal parts.
        sample_rate_hz: of its audio; clips of another rate are resampled.
        frame_size: (width, height) to scale frames to, both even; by default the data set's own,
            which must then be one size.
        captions: which of a clip's: "one", drawn anew each epoch, or "in_order": the first for the
            first draw of the plan's `augmentation`, the second for the second, and so on.
        decoder: name of the backend, or "auto".
        fallback: "count" decodes on the CPU what the decoder refuses, "refuse" fails.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    seconds: float = 1.0
    audio_seconds: float | None = None
    num_frames: int = 30
    frame_times: tuple[float, ...] = ()
    sample_rate_hz: int = 24_000
    frame_size: tuple[int, int] | None = None
    captions: str = "one"
    decoder: str = "auto"
    fallback: str = "count"

    def __post_init__(self) -> None:
        for key in ("seconds", "num_frames", "sample_rate_hz"):
            if not getattr(self, key) > 0:
                raise ValueError(f"SegmentOptions: {key} = {getattr(self, key)}, must be positive")
        times = self.frame_times
        if times and len(times) != self.num_frames:
            raise ValueError(
                f"SegmentOptions: frame_times are {len(times)}, and num_frames = "
                f"{self.num_frames}: there must be a time for each frame"
            )
        if times and not (min(times) >= 0 and max(times) < self.seconds):
            raise ValueError(
                f"SegmentOptions: frame_times = {list(times)}, must be at least 0 and less than "
                f"seconds = {self.seconds:g}, which a clip must have"
            )
        if self.audio_seconds is not None and not 0 < self.audio_seconds < math.inf:
            raise ValueError(
                f"SegmentOptions: audio_seconds = {self.audio_seconds}, must be positive; leave it "
                "out for audio as long as the video"
            )
        if self.captions not in ("one", "in_order"):
            raise ValueError(
                f"SegmentOptions: captions = {self.captions!r}, must be one of one, in_order"
            )
        if self.frame_size is not None and any(x < 2 or x % 2 for x in self.frame_size):
            raise ValueError(
                f"SegmentOptions: frame_size = {list(self.frame_size)}, must be an even width and "
                "height (chroma has half of each)"
            )

    @property
    def num_samples(self) -> int:
        """S."""
        return round(self.seconds_of("audio") * self.sample_rate_hz)

    @property
    def window_seconds(self) -> float:
        """What a segment covers of its clip: the longer of its video and its audio."""
        return max(self.seconds, self.seconds_of("audio"))

    def seconds_of(self, kind: str) -> float:
        """The length of a segment's "video" or "audio"."""
        return self.audio_seconds or self.seconds if kind == "audio" else self.seconds

    def lead_seconds(self, kind: str) -> float:
        """From the segment's start to that of its "video" or "audio": 0 for the longer one."""
        return (self.window_seconds - self.seconds_of(kind)) / 2


@dataclass(frozen=True, eq=False)
class Segment:
    """A run of video and audio with one start.

    Attributes:
        video: uint8 [T, H·W·3/2], I420; None where no video was asked for.
        audio: float32 [S] in [-1, 1], mono; None where no audio was asked for.
        start_seconds, stop_seconds: on the clip's clock, stop excluded.
        height, width: H and W.
        color_matrix, color_range: what turns `video` into RGB, see color.py.
        sample_rate_hz: of `audio`.
    """

    video: NDArray[np.uint8] | None
    audio: NDArray[np.float32] | None
    start_seconds: float
    stop_seconds: float
    height: int
    width: int
    color_matrix: str
    color_range: str
    sample_rate_hz: int

    def __repr__(self) -> str:
        video = "none" if self.video is None else f"{list(self.video.shape)}"
        audio = "none" if self.audio is None else f"{list(self.audio.shape)}"
        return (
            f"Segment([{self.start_seconds:.3f}, {self.stop_seconds:.3f}) s, video {video} of "
            f"{self.width}×{self.height}, audio {audio})"
        )


def frames_on_screen(
    track: Track,
    starts: NDArray[np.float64],
    options: SegmentOptions,
    speeds: NDArray[np.float64] | None = None,
) -> NDArray[np.int64]:
    """Which packets hold the frames of the segments at `starts` [K]: packet numbers [K, T].

    A frame is on screen from its presentation time until the next frame's. `speeds` [K] are 1 by
    default.

    Raises:
        MediaError: the track has no frame that is shown.
    """
    pts, discard = track.packets.pts, track.packets.discard
    shown = None  # presentation order → file order, where the two differ
    if discard.any() or (pts[1:] < pts[:-1]).any():
        shown = np.argsort(pts, kind="stable")
        shown = shown[~discard[shown]]
        pts = pts[shown]
    if not len(pts):
        raise MediaError("index", f"none of its {len(track.packets)} frames is to be shown")
    shares = (np.arange(options.num_frames) + 0.5) / options.num_frames
    if options.frame_times:
        shares = np.array(options.frame_times) / options.seconds
    begin, seconds = _span_of("video", starts, options, speeds)
    ticks = (begin[:, None] + shares * seconds[:, None]) / float(track.time_base)
    place = np.searchsorted(pts, np.floor(ticks + _TICK_TOLERANCE), side="right") - 1
    place = np.maximum(place, 0)
    return np.asarray(place if shown is None else shown[place])


def byte_ranges(
    track: Track,
    starts: NDArray[np.float64],
    options: SegmentOptions,
    speeds: NDArray[np.float64] | None = None,
) -> list[tuple[int, int]]:
    """What of a track's bytes the segments at `starts` [K] need: (offset, size) in the shard.

    `speeds` [K] are 1 by default.
    Nothing is known of packets in pieces; those are read when they are asked for.
    """
    if track.transport is not None:
        return []
    packets = track.packets
    if track.kind == "video":
        wanted = frames_on_screen(track, starts, options, speeds).ravel()
        spans = [(run.first, run.stop) for run in runs_of(packets, wanted)]
    else:
        around = 1 / track.sample_rate_hz  # to which times are rounded
        fastest = 1.0 if speeds is None else float(speeds.max())
        if track.sample_rate_hz != options.sample_rate_hz or speeds is not None:
            around = _RESAMPLING_SECONDS * max(1.0, fastest)
        ahead = PREROLL_SECONDS.get(track.codec, 0.0) + around
        heard, seconds = _span_of("audio", starts, options, speeds)
        ends = np.stack([heard - ahead, heard + seconds + around], axis=1)
        places = np.searchsorted(packets.pts, ends / float(track.time_base), "right")
        spans = [(max(0, a - 1), b) for a, b in places.tolist()]
    ranges = []
    for first, stop in spans:
        begin, last = int(packets.offset[first]), int(packets.offset[stop - 1])
        ranges.append((begin, last + int(packets.size[stop - 1]) - begin))
    return ranges


def _span_of(
    kind: str,
    starts: NDArray[np.float64],
    options: SegmentOptions,
    speeds: NDArray[np.float64] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the video or audio of each segment starts [K], and what it covers of its clip [K]."""
    faster = np.ones(len(starts)) if speeds is None else speeds
    return starts + options.lead_seconds(kind) * faster, options.seconds_of(kind) * faster
