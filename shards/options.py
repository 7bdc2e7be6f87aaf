"""The options of a build, in one frozen table that checks itself."""

import math
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from shards.errors import BuildError

SOURCE = "source"
COPY = "copy"
CUTS = ("fixed", "scenes", "ranges")
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
PROFILES = ("fast", "compact", COPY)
#: Audio format → the sample rates it can store.
AUDIO_RATES = {
    "flac": (16000, 24000, 48000),
    "pcm": (16000, 24000, 48000),
    "opus": (48000,),  # whatever went in, an Opus decoder gives 48 kHz
    "aac": (16000, 24000, 48000),
}
FITS = ("crop", "pad")
SPLITS = ("time", "source")
HDR_CHOICES = ("tonemap", "skip")
REQUIREMENTS = ("audio", "audible", "motion")
#: Choices that came later, and their defaults: what says nothing of them was made with these.
_LATER: dict[str, object] = {
    "hdr": "tonemap",
    "holdout_every": None,
    "holdout_clip_seconds": None,
    "video_track": None,
    "audio_track": None,
}
_NTSC = {23.976: Fraction(24000, 1001), 29.97: Fraction(30000, 1001), 59.94: Fraction(60000, 1001)}
_MPEG4_TICKS = 65_535  # a second, at most, in the times of MPEG-4


def _must(condition: bool, name: str, got: object, allowed: str) -> None:
    if not condition:
        raise BuildError(f"Build option {name} is {got!r}; allowed: {allowed}.")


@dataclass(frozen=True)
class TrackChoice:
    """Which video and audio track of a source to take: a number from 1, or a language ("deu").

    None: the one that the source marks as its default, and no commentary; of several, the video of
    the most pixels, the first audio.
    """

    video: str | None = None
    audio: str | None = None


@dataclass(frozen=True)
class BuildOptions:
    """How sources become clips; everything here changes the bytes that are made.

    clip_seconds is rounded to whole frames. `cut` is "fixed": clips of that length, one after the
    other; "ranges": each range of a list (or whole source) is a clip; or "scenes": each scene is.
    Of those, what is longer than clip_seconds becomes clips of that length and a rest; what is
    shorter is a clip if it lasts `min_clip_seconds` (by default 2, and at most clip_seconds; where
    video is copied, at most half of that).
    `fps` "source" keeps each source's own rate. `size` (width, height) overrides the size that
    `short_side` gives: short_side tall, 16:9 wide, both rounded to multiples of 16.
    `codec`: docs/encoding.md says what reads each. `crf` is on x264's scale, and means about the
    same PSNR for all codecs. `hdr`: clips of HDR video are tone-mapped to BT.709
    ("tonemap"), or left out ("skip"). `video_track`, `audio_track`: see TrackChoice.
    `require` drops clips without an audio track ("audio"), or with a silent one too ("audible"),
    and clips whose frames hardly change ("motion"): see clip_filters.py.
    `profile` is "fast" (to build and to decode), or "compact": fewer bytes, made and read slower.
    "copy" encodes no frame again: it takes sources that have the codec, size and rate asked for,
    in clips of whole GOPs that are at most clip_seconds long; see stream_copy.py. There, and only
    there, `size` may be "source": each has its own.
    `audio` is "flac" or "pcm", which lose nothing, "aac", or "opus", which is at 48 kHz only. The
    stream is mono: of two `channels` it reads the mean.
    `holdout` cuts a held-out part from every source's end (`split_by="time"`, with `gap_seconds`
    between the parts) or holds out whole sources (`split_by="source"`). With `holdout_every` it is
    in seconds, and each stretch of a source that is so long is cut into a training part, a gap,
    `holdout` seconds held out, and another gap. Held-out clips are `holdout_clip_seconds` long,
    where those to train on need another length: room for time shifts, say.
    """

    cut: str = "fixed"
    clip_seconds: float = 10.0
    min_clip_seconds: float | None = None
    short_side: int = 128
    size: tuple[int, int] | str | None = None
    fit: str = "crop"
    fps: float | Fraction | str = 30.0
    gop_seconds: float = 0.5
    codec: str = "h264"
    crf: int = 20
    hdr: str = "tonemap"
    video_track: str | None = None
    audio_track: str | None = None
    profile: str = "fast"
    audio: str = "flac"
    channels: int = 1
    sample_rate_hz: int = 24000
    require: tuple[str, ...] = ("audio",)
    holdout: float = 0.0
    holdout_every: float | None = None
    holdout_clip_seconds: float | None = None
    gap_seconds: float = 10.0
    split_by: str = "time"
    clips_per_shard: int = 256
    seconds_per_unit: float = 60.0

    def __post_init__(self) -> None:
        _must(self.cut in CUTS, "cut", self.cut, " or ".join(CUTS))
        longest = self.clip_seconds
        _must(0.5 <= longest <= 600, "clip_seconds", longest, "0.5–600")
        if self.min_clip_seconds is not None:
            shortest = self.min_clip_seconds
            _must(
                self.remainders,
                "min_clip_seconds",
                shortest,
                "none; cut is fixed",
            )
            _must(0 < shortest <= longest, "min_clip_seconds", shortest, "above 0, to clip_seconds")
        rate_ok = self.fps == SOURCE if isinstance(self.fps, str) else 1 <= self.fps <= 240
        _must(rate_ok, "fps", self.fps, "1–240 frames a second, or source")
        _must(0 < self.gop_seconds <= 10, "gop_seconds", self.gop_seconds, "above 0, at most 10")
        _must(16 <= self.short_side <= 2160, "short_side", self.short_side, "16–2160 pixels")
        if isinstance(self.size, str):
            ok = self.size == SOURCE and self.copies
            _must(ok, "size", self.size, "width and height; or source, with profile copy")
        elif self.copies and self.size is not None:
            ok = all(2 <= s <= 8192 and s % 2 == 0 for s in self.size)
            _must(ok, "size", self.size, "even width and height, 2–8192")
        elif self.size is not None:
            ok = all(16 <= s <= 4096 and s % 16 == 0 for s in self.size)
            _must(ok, "size", self.size, "width and height multiples of 16, 16–4096")
        _must(self.codec in CODECS, "codec", self.codec, " or ".join(CODECS))
        _must(self.profile in PROFILES, "profile", self.profile, " or ".join(PROFILES))
        _must(self.fit in FITS, "fit", self.fit, " or ".join(FITS))
        _must(self.split_by in SPLITS, "split_by", self.split_by, " or ".join(SPLITS))
        _must(0 <= self.crf <= 51, "crf", self.crf, "0–51 (lower is better and larger)")
        _must(self.audio in AUDIO_RATES, "audio", self.audio, " or ".join(AUDIO_RATES))
        _must(self.channels in (1, 2), "channels", self.channels, "1 (mono) or 2 (stereo)")
        rates = AUDIO_RATES[self.audio]
        allowed = f"{' or '.join(map(str, rates))} for {self.audio}"
        _must(self.sample_rate_hz in rates, "sample_rate_hz", self.sample_rate_hz, allowed)
        for name in ("video_track", "audio_track"):
            track = getattr(self, name)
            ok = track is None or bool(track and track.isalnum() and track != "0")
            _must(ok, name, track, "a number from 1, or a language such as eng")
        _must(self.hdr in HDR_CHOICES, "hdr", self.hdr, " or ".join(HDR_CHOICES))
        unknown = [r for r in self.require if r not in REQUIREMENTS]
        _must(not unknown, "require", self.require, "any of " + ", ".join(REQUIREMENTS))
        _must(self.gap_seconds >= 0, "gap_seconds", self.gap_seconds, "0 or more")
        if self.holdout_clip_seconds is not None:
            self._check_held_out(self.holdout_clip_seconds)
        if self.holdout_every is None:
            _must(
                0 <= self.holdout < 1, "holdout", self.holdout, "a fraction, 0 up to 1 (excluded)"
            )
        else:
            self._check_stretches(self.holdout_every)
        _must(self.clips_per_shard >= 1, "clips_per_shard", self.clips_per_shard, "1 or more")

    def _check_held_out(self, seconds: float) -> None:
        ok = 0.5 <= seconds <= 600 and seconds >= (self.min_clip_seconds or 0)
        name = "holdout_clip_seconds"
        _must(ok, name, seconds, "0.5–600, and no less than min_clip_seconds")
        _must(self.holdout > 0, name, seconds, "none; nothing is held out")
        _must(not self.copies, name, seconds, "none; video is copied, in clips of whole GOPs")

    def _check_stretches(self, every: float) -> None:
        _must(self.split_by == "time", "split_by", self.split_by, "time, with holdout_every")
        shortest = self.held_out._shortest_seconds
        allowed = f"seconds, with holdout_every: at least the {shortest:g} of a clip"
        _must(self.holdout >= shortest, "holdout", self.holdout, allowed)
        shortest = self._shortest_seconds
        _must(
            every < math.inf and every >= self.holdout + 2 * self.gap_seconds + shortest,
            "holdout_every",
            every,
            f"at least {self.holdout + 2 * self.gap_seconds + shortest:g} s: holdout "
            f"({self.holdout:g}), two gap_seconds ({self.gap_seconds:g}), and a clip to train on",
        )

    @property
    def held_out(self) -> "BuildOptions":
        """These choices for clips of what is held out."""
        if self.holdout_clip_seconds is None:
            return self
        seconds = self.holdout_clip_seconds
        alone: dict[str, Any] = {
            "holdout": 0.0,
            "holdout_every": None,
            "holdout_clip_seconds": None,
        }
        return replace(self, clip_seconds=seconds, **alone)

    @property
    def _shortest_seconds(self) -> float:
        if not self.remainders:
            return self.clip_seconds
        # whole GOPs that fill a clip as far as they can fill more than half of it
        usual = self.clip_seconds / 2 if self.copies else self.clip_seconds
        return self.min_clip_seconds or min(2.0, usual)

    @cached_property
    def width(self) -> int:
        """Coded width in pixels, the same for the whole data set unless `size` is "source"."""
        return self._exact_size[0] if self.size else _round16(self.height * 16 / 9)

    @cached_property
    def height(self) -> int:
        """Coded height in pixels."""
        return self._exact_size[1] if self.size else _round16(self.short_side)

    @property
    def _exact_size(self) -> tuple[int, int]:
        if self.size is None or isinstance(self.size, str):
            raise ValueError(f"size is {self.size!r}: ask for_source, each has its own")
        return self.size

    @property
    def requires_audio(self) -> bool:
        """Whether a clip must have audio."""
        return "audio" in self.require or "audible" in self.require

    @property
    def remainders(self) -> bool:
        """Whether clips may be shorter than clip_seconds."""
        return self.cut != "fixed" or self.copies

    @property
    def tracks(self) -> TrackChoice:
        """Which tracks of a source to take."""
        return TrackChoice(self.video_track, self.audio_track)

    @property
    def copies(self) -> bool:
        """Whether video is copied as it is coded."""
        return self.profile == COPY

    @property
    def keeps_rate(self) -> bool:
        """Whether each source keeps its own frame rate."""
        return self.fps == SOURCE or isinstance(self.fps, Fraction)

    def for_source(self, frame_rate: Fraction, size: tuple[int, int]) -> "BuildOptions":
        """These choices for a source of that rate and size, which stand where they say "source"."""
        if SOURCE not in (self.fps, self.size):
            return self
        return replace(
            self,
            fps=frame_rate if self.fps == SOURCE else self.fps,
            size=size if self.size == SOURCE else self.size,
        )

    @cached_property
    def frame_rate(self) -> Fraction:
        """Frames a second, exactly; 29.97 and its like mean the 1001 fractions.

        For MPEG-4, the nearest that its times can say.
        """
        if isinstance(self.fps, str):
            raise ValueError('fps is "source": ask for_source, each has its own rate')
        rate = self.fps if isinstance(self.fps, Fraction) else _exact_rate(self.fps)
        if self.codec == "mpeg4" and not self.copies:
            rate = 1 / (1 / rate).limit_denominator(_MPEG4_TICKS)
        return rate

    @cached_property
    def frames_per_clip(self) -> int:
        """Whole frames in a clip."""
        return max(1, round(exact_seconds(self.clip_seconds) * self.frame_rate))

    @cached_property
    def fewest_frames(self) -> int:
        """Whole frames in the shortest clip."""
        if not self.remainders:
            return self.frames_per_clip
        return max(1, round(exact_seconds(self._shortest_seconds) * self.frame_rate))

    @cached_property
    def clip_length(self) -> Fraction:
        """Exact length of a clip in seconds: a whole number of frames."""
        return self.frames_per_clip / self.frame_rate

    @cached_property
    def gop_frames(self) -> int:
        """Frames from one keyframe to the next."""
        return max(1, round(exact_seconds(self.gop_seconds) * self.frame_rate))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for json, without choices that came later and are the default."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {k: v for k, v in plain.items() if k not in _LATER or v != _LATER[k]}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "BuildOptions":
        """The options that `as_dict` gave.

        Raises:
            BuildError: these are none of this version.
        """
        values: dict[str, Any]
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise BuildError(f"These are not build options of this version: {error}.") from error


def _exact_rate(value: float) -> Fraction:
    for shown, exact in _NTSC.items():
        if abs(value - shown) < 5e-4:
            return exact
    return exact_seconds(value)


def exact_seconds(value: float) -> Fraction:
    """The simple fraction that a number written in decimals means: 0.1 is 1/10."""
    return Fraction(value).limit_denominator(100_000)


def _round16(pixels: float) -> int:
    return max(16, 16 * math.floor(pixels / 16 + 0.5))
