"""Test videos that show and sound their own time, in every shape that moves clocks apart.

`make_corpus(folder)` writes them, the same bytes on every machine with the same libraries. What a
video shows is the author's time; what its container says may begin elsewhere. `Variant.offset` is
the difference, known by construction: author's time = container's time + offset.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.clock.readable_clock import HEIGHT, WIDTH, picture, sound

SECONDS = 4


@dataclass(frozen=True)
class Variant:
    """One test video. Times are in seconds of the author's clock."""

    name: str
    why: str
    container: str = "mp4"
    fps: Fraction | None = Fraction(30)  # None: a rate that varies
    b_frames: int = 0
    video_codec: str = "libx264"
    audio_codec: str = "aac"
    sample_rate_hz: int = 44_100
    video_start: float = 0.0
    audio_start: float = 0.0
    container_start: float = 0.0  # what the container calls the author's zero
    cut_seconds: float = 0.0  # an edit list hides what comes before
    options: dict[str, str] = field(default_factory=dict)

    @property
    def offset(self) -> float:
        """Author's time = container's time + offset."""
        return self.cut_seconds - self.container_start

    @property
    def file_name(self) -> str:
        """Name and ending."""
        return f"{self.name}.{self.container}"

    def frame_times(self) -> list[Fraction]:
        """When each frame is shown."""
        if self.fps is not None:
            count = int((SECONDS - Fraction(self.video_start)) * self.fps)
            return [Fraction(self.video_start) + n / self.fps for n in range(count)]
        # 17 to 150 ms a frame, and one that stands for 400 ms
        steps = np.random.default_rng(3).integers(17, 151, 80).tolist()
        steps[11] = 400
        times = np.cumsum([0, *steps])
        return [Fraction(int(t), 1000) for t in times if t < 1000 * SECONDS - 100]


CORPUS: Sequence[Variant] = (
    Variant("constant_30", "mp4 as cameras write it; AAC begins before zero"),
    Variant("b_frames", "decode order is not presentation order", b_frames=3),
    Variant(
        "ntsc_29.97", "30000/1001", fps=Fraction(30000, 1001), b_frames=2, sample_rate_hz=48_000
    ),
    Variant("slow_12", "fewer frames than a segment wants", fps=Fraction(12)),
    Variant("fast_59.94", "more frames than a segment wants", fps=Fraction(60000, 1001)),
    Variant("variable_mp4", "frames of 17 to 400 ms", fps=None, b_frames=2),
    Variant("variable_mkv", "the same on a millisecond clock", container="mkv", fps=None),
    Variant("edit_list", "what comes before 0.83 s is cut away", b_frames=2, cut_seconds=0.83),
    Variant(
        "late_sound",
        "sound begins 0.7 s after the picture",
        audio_start=0.7,
        options={"movie_timescale": "90000"},  # in which the muxer writes the delay
    ),
    Variant("late_picture", "the picture begins 0.6 s after the sound", video_start=0.6),
    Variant("start_5_s", "the container's clock begins at 5 s", container="mkv", container_start=5),
    Variant("matroska_aac", "millisecond clock, codec delay", container="mkv", b_frames=2),
    Variant("matroska_mp3", "millisecond clock", container="mkv", audio_codec="libmp3lame"),
    Variant("matroska_flac", "millisecond clock, lossless", container="mkv", audio_codec="flac"),
    Variant(
        "webm_vp9_opus",
        "hidden frames; 312 samples of priming",
        container="webm",
        video_codec="libvpx-vp9",
        audio_codec="libopus",
        sample_rate_hz=48_000,
    ),
    Variant(
        "fragmented_mp4",
        "times in every fragment",
        options={"movflags": "+frag_keyframe+delay_moov+default_base_moof"},
        b_frames=2,
    ),
    Variant(
        "mpeg_ts",
        "packets in pieces of 184 bytes; the clock begins at 5 s",
        container="ts",
        b_frames=2,
        container_start=5,
        options={"mpegts_copyts": "1"},
    ),
)

_VIDEO_OPTIONS = {
    "libx264": {"preset": "veryfast", "g": "20", "sc_threshold": "0", "threads": "1"},
    "libvpx-vp9": {
        "deadline": "realtime",
        "cpu-used": "8",
        "g": "20",
        "auto-alt-ref": "1",
        "lag-in-frames": "12",
        "threads": "1",
    },
}
_FORMATS = {"mkv": "matroska", "ts": "mpegts"}


def make_corpus(folder: Path, variants: Sequence[Variant] = CORPUS) -> dict[str, Path]:
    """Write the videos; name → path."""
    folder.mkdir(parents=True, exist_ok=True)
    return {variant.name: _make(folder / variant.file_name, variant) for variant in variants}


def _make(path: Path, variant: Variant) -> Path:
    options = {"fflags": "+bitexact"} | variant.options
    container: Any = av.open(
        str(path), "w", format=_FORMATS.get(variant.container, variant.container), options=options
    )
    with container:
        video: Any = container.add_stream(
            variant.video_codec,
            rate=variant.fps or 30,
            options=_VIDEO_OPTIONS[variant.video_codec]
            | ({"bf": str(variant.b_frames)} if variant.video_codec == "libx264" else {}),
        )
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.time_base = 1 / variant.fps if variant.fps else Fraction(1, 90_000)
        audio: Any = container.add_stream(
            variant.audio_codec, rate=variant.sample_rate_hz, layout="mono"
        )
        audio.codec_context.bit_rate = 128_000
        _write_video(container, video, variant)
        _write_audio(container, audio, variant)
    if variant.cut_seconds:
        path.write_bytes(cut_beginning(path.read_bytes(), variant.cut_seconds))
    return path


def _write_video(container: Any, video: Any, variant: Variant) -> None:
    time_base = video.codec_context.time_base
    for time in variant.frame_times():
        frame = av.VideoFrame.from_ndarray(picture(float(time)), "yuv420p")
        frame.time_base = time_base
        frame.pts = round((time + Fraction(variant.container_start)) / time_base)
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def _write_audio(container: Any, audio: Any, variant: Variant) -> None:
    rate = variant.sample_rate_hz
    first = round(variant.audio_start * rate)
    wave = sound(rate)[first : SECONDS * rate]
    resampler = av.AudioResampler(format=audio.codec_context.format.name, layout="mono", rate=rate)
    block = audio.codec_context.frame_size or 4096
    for start in range(0, len(wave), block):
        frame: Any = av.AudioFrame.from_ndarray(wave[None, start : start + block], "flt", "mono")
        frame.sample_rate = rate
        (frame,) = resampler.resample(frame)
        frame.time_base = Fraction(1, rate)
        frame.pts = first + start + round(variant.container_start * rate)
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def cut_beginning(data: bytes, seconds: float) -> bytes:
    """An mp4 whose edit lists hide its first seconds; not a byte of its tracks is changed.

    ISO/IEC 14496-12 §8.6.6: an entry is (duration in movie ticks, media time in media ticks, rate).
    """
    out = bytearray(data)
    (movie_ticks,) = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)
    place = -1
    while (place := data.find(b"elst", place + 1)) >= 0:
        version, entries = struct.unpack_from(">B3xI", data, place + 4)
        assert (version, entries) == (0, 1), "the muxer writes one plain entry"
        duration, media_time = struct.unpack_from(">Ii", data, place + 12)
        (media_ticks,) = struct.unpack_from(">I", data, data.index(b"mdhd", place) + 16)
        struct.pack_into(
            ">Ii",
            out,
            place + 12,
            duration - round(seconds * movie_ticks),
            media_time + round(seconds * media_ticks),
        )
    return bytes(out)
