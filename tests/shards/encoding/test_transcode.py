"""What comes out for every kind of source: the right picture at every time, and sound with it.

The oracle knows when each numbered frame of a film is on screen and when its tones sound; it says
what a clip must show, and the clips are decoded by PyAV alone.
"""

import dataclasses
import io
import json
import math
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from shards import BuildOptions, SourceError
from shards.building.clip_plan import cut_shards, cut_source
from shards.building.planned_source import PlannedSource
from shards.building.survey import Survey
from shards.encoding.audio import AUDIO_FORMATS
from shards.encoding.transcode import (
    DAMAGED,
    ENDS_EARLY,
    NO_AUDIO_IN_CLIP,
    Unit,
    UnitResult,
    transcode,
)
from shards.media.probe import probe
from shards.sources.source import Source
from shards.storage.opening import Location
from tests.films import CORNERS, decode_audio, decode_video, onsets, picture, read_number

OPTIONS = BuildOptions(clip_seconds=1.0, fps=25.0)
ALL = ("top left", "top right", "bottom left", "bottom right")


def planned(path: Path) -> PlannedSource:
    location = Location(str(path))
    return PlannedSource(1, Source(path.name, location), Survey(probe(location)))


def units(path: Path, options: BuildOptions = OPTIONS) -> list[Unit]:
    return [unit for shard in cut_shards([planned(path)], "", options) for unit in shard]


def clips(path: Path, options: BuildOptions = OPTIONS) -> UnitResult:
    """All clips of a source that fits in one unit."""
    (unit,) = units(path, options)
    return transcode(unit, options)


def numbers(members: dict[str, bytes]) -> list[int]:
    frames = decode_video(members["mp4"])
    return [read_number(frame.to_ndarray()[: frame.height]) for frame in frames]


def corners(members: dict[str, bytes]) -> list[int]:
    frame = decode_video(members["mp4"])[5]
    luma = frame.to_ndarray()[: frame.height]
    h, w = luma.shape
    return [int(luma[y * h // 5, x * w // 5]) for y, x in ((1, 1), (1, 4), (4, 1), (4, 4))]


def tones(members: dict[str, bytes]) -> list[float]:
    return onsets(decode_audio(members["flac"]), 24000)


def on_screen(frame_times: Sequence[float], fps: float, start: float, count: int) -> list[int]:
    """Which of the film's frames are on screen in the middles of `count` frames from `start`."""
    origin = frame_times[0]
    middles = [start + (n + 0.5) / fps for n in range(count)]
    return [max(k for k, t in enumerate(frame_times) if t - origin <= m + 1e-9) for m in middles]


SOURCES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "b-frames.mp4": {"video_options": {"preset": "veryfast", "bf": "3"}},
    "hevc.mp4": {
        "video_codec": "libx265",
        "video_options": {"preset": "ultrafast", "x265-params": "log-level=0"},
    },
    "vp9 and opus.webm": {
        "container": "webm",
        "video_codec": "libvpx-vp9",
        "video_options": {"deadline": "realtime", "cpu-used": "8"},
        "audio_codec": "libopus",
        "sample_rate_hz": 48000,
    },
    "transport stream.ts": {"container": "mpegts", "audio_codec": "mp2"},
    "flash.flv": {"container": "flv"},
    "old.avi": {
        "container": "avi",
        "video_codec": "mpeg4",
        "video_options": {"bf": "2", "qscale": "2"},
        "audio_codec": "pcm_s16le",
        "seconds": 3.2,
    },
    "program stream.mpg": {
        "container": "mpeg",
        "video_codec": "mpeg2video",
        "video_options": {"bf": "2", "qscale": "2"},
        "audio_codec": "mp2",
        "seconds": 3.5,
    },
    "windows.asf": {"container": "asf", "video_codec": "wmv2", "audio_codec": "mp2"},
    "ten bits.mkv": {"container": "matroska", "pixel_format": "yuv420p10le"},
    "full chroma.mp4": {"pixel_format": "yuv444p"},
    "rgb.mkv": {
        "container": "matroska",
        "video_codec": "ffv1",
        "video_options": {},
        "pixel_format": "bgr0",
    },
    "odd size.mkv": {
        "container": "matroska",
        "video_codec": "ffv1",
        "video_options": {},
        "size": (322, 182),
    },
    "surround.mkv": {"container": "matroska", "audio_codec": "flac", "layout": "5.1"},
    "mono 8 kHz.mov": {
        "container": "mov",
        "audio_codec": "pcm_s16le",
        "layout": "mono",
        "sample_rate_hz": 8000,
    },
    "full range.mp4": {"pixel_format": "yuvj420p", "color": (5, 2)},
    "wide pixels.mp4": {"size": (240, 180), "sample_aspect_ratio": Fraction(4, 3)},
    "wide pixels.mkv": {
        "container": "matroska",
        "size": (240, 180),
        "sample_aspect_ratio": Fraction(4, 3),
    },
}


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source_comes_out_whole_upright_and_in_time(
    film: Callable[..., Path], name: str
) -> None:
    result = clips(film(name, **SOURCES[name]))
    assert result.skipped == {}
    assert len(result.samples) == 3
    for n, sample in enumerate(result.samples):
        assert numbers(sample.members) == list(range(25 * n, 25 * (n + 1)))
        assert corners(sample.members) == pytest.approx([CORNERS[c] for c in ALL], abs=4)
        assert tones(sample.members)[0] == pytest.approx(0, abs=0.002)
        assert len(decode_audio(sample.members["flac"])) == 24000


@pytest.mark.parametrize("size", [(321, 181), (320, 181), (321, 180)])
def test_sizes_that_are_odd_come_out_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "odd.mkv"
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv444p"
        for n in range(25):
            whole = av.VideoFrame.from_ndarray(picture(n, 322, 182), "yuv420p")
            rgb: Any = whole.to_ndarray(format="rgb24")[: size[1], : size[0]]
            frame = av.VideoFrame.from_ndarray(rgb.copy(), "rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(stream.encode(frame.reformat(format="yuv444p")))
        out.mux(stream.encode(None))
    (sample,) = clips(path, dataclasses.replace(OPTIONS, require=())).samples
    assert numbers(sample.members) == list(range(25))
    assert corners(sample.members) == pytest.approx([CORNERS[c] for c in ALL], abs=4)


@pytest.mark.parametrize(
    ("fps", "source_fps"),
    [(30.0, Fraction(24)), (12.5, Fraction(25)), (29.97, Fraction(30)), (25.0, Fraction(60))],
)
def test_another_frame_rate_shows_what_is_on_screen_in_each_frames_middle(
    film: Callable[..., Path], fps: float, source_fps: Fraction
) -> None:
    path = film("a.mp4", seconds=3.2, fps=source_fps)
    options = BuildOptions(clip_seconds=1.0, fps=fps)
    result = clips(path, options)
    times = [k / float(source_fps) for k in range(math.ceil(3.2 * source_fps))]
    length = float(options.clip_length)
    exact = float(options.frame_rate)
    for n, sample in enumerate(result.samples):
        wanted = on_screen(times, exact, n * length, options.frames_per_clip)
        assert numbers(sample.members) == wanted
        into = n * length % 1
        tone = 0 if into < 0.06 else 1 - into  # a clip may begin within a tone of 60 ms
        assert tones(sample.members)[0] == pytest.approx(tone, abs=0.002)


def test_variable_frame_rates_are_followed_by_time(film: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    times = [0.0, *np.cumsum(rng.uniform(0.005, 0.2, 40)).round(3).tolist()]
    path = film("a.mkv", seconds=3, container="matroska", frame_times=times)
    result = clips(path)
    assert len(result.samples) >= 3
    for n, sample in enumerate(result.samples):
        assert numbers(sample.members) == on_screen(times, 25, n, 25)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_audio_that_starts_late_is_preceded_by_silence(
    film: Callable[..., Path], container: str
) -> None:
    path = film("a", container=container, audio_start=0.5, audio_seconds=2.5, audio_codec="flac")
    samples = clips(path).samples
    assert len(samples) == 3
    assert tones(samples[0].members) == []  # the tone at 0 s was never there
    assert not decode_audio(samples[0].members["flac"])[:11990].any()
    assert tones(samples[1].members)[0] == pytest.approx(0, abs=0.002)


def test_video_that_starts_late_set_the_clock(film: Callable[..., Path]) -> None:
    path = film("a.mp4", video_start=0.24)
    samples = clips(path).samples
    assert numbers(samples[0].members) == list(range(25))
    assert tones(samples[0].members)[0] == pytest.approx(0.76, abs=0.002)


def test_audio_that_ends_early_loses_only_the_clips_without_it(film: Callable[..., Path]) -> None:
    result = clips(film("a.mp4", audio_seconds=1.7))
    assert [sample.key[-1] for sample in result.samples] == ["0", "1"]
    assert result.skipped == {NO_AUDIO_IN_CLIP: 1}
    silence = decode_audio(result.samples[1].members["flac"])[int(0.75 * 24000) :]
    assert np.abs(silence).max() < 0.01


def test_a_source_without_audio_is_kept_where_none_is_required(film: Callable[..., Path]) -> None:
    options = dataclasses.replace(OPTIONS, require=())
    result = clips(film("a.mp4", audio_codec=None), options)
    assert [set(sample.members) for sample in result.samples] == [{"mp4", "json"}] * 3


def _with_matrix(data: bytes, a: int, b: int, c: int, d: int) -> bytes:
    """The mp4 with another display matrix in its (first) track header."""
    at = data.index(b"tkhd") + 4 + 40
    assert struct.unpack_from(">9i", data, at)[0::4] == (65536, 65536, 1 << 30)
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    return data[:at] + matrix + data[at + 36 :]


# matrix (a, b, c, d): a point (x, y) is shown at (a·x + c·y, b·x + d·y); y counts downwards
ORIENTATIONS = {
    "quarter turn clockwise": (0, 1, -1, 0),
    "quarter turn counterclockwise": (0, -1, 1, 0),
    "half turn": (-1, 0, 0, -1),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed and turned": (0, -1, -1, 0),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_frames_come_out_upright(film: Callable[..., Path], name: str) -> None:
    a, b, c, d = ORIENTATIONS[name]
    path = film("a.mp4", seconds=1, size=(180, 320) if a == 0 else (320, 180))
    path.write_bytes(_with_matrix(path.read_bytes(), a, b, c, d))
    wanted = {}
    for place, (x, y) in zip(ALL, ((-1, -1), (1, -1), (-1, 1), (1, 1)), strict=True):
        wanted[(a * x + c * y, b * x + d * y)] = CORNERS[place]
    (sample,) = clips(path).samples
    expected = [wanted[place] for place in ((-1, -1), (1, -1), (-1, 1), (1, 1))]
    assert corners(sample.members) == pytest.approx(expected, abs=4)


def _with_edit(data: bytes, skip_seconds: Fraction) -> bytes:
    """The mp4 with a first (video) edit that begins later in the container."""
    at = data.index(b"elst") + 4
    scale_at = data.index(b"mdhd") + 4 + 12
    (scale,) = struct.unpack_from(">I", data, scale_at)
    count, duration, media_time = struct.unpack_from(">IIi", data, at + 4)
    assert count == 1
    assert media_time >= 0
    later = media_time + round(skip_seconds * scale)
    shorter = duration - round(skip_seconds * 1000)
    return data[: at + 8] + struct.pack(">Ii", shorter, later) + data[at + 16 :]


def test_edit_lists_are_respected(film: Callable[..., Path]) -> None:
    path = film("a.mp4", seconds=4, video_options={"preset": "veryfast", "bf": "2"})
    path.write_bytes(_with_edit(path.read_bytes(), Fraction(12, 25)))
    samples = clips(path).samples
    assert len(samples) == 3
    for n, sample in enumerate(samples):  # pictures begin with number 12, sound is not edited
        assert numbers(sample.members) == list(range(12 + 25 * n, 37 + 25 * n))
        assert tones(sample.members)[0] == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("a.mp4", {}),
        ("a.mkv", {"container": "matroska"}),
        ("a.ts", {"container": "mpegts", "audio_codec": "mp2"}),
        ("a.flv", {"container": "flv"}),
        ("a.avi", SOURCES["old.avi"]),
        ("a.mpg", SOURCES["program stream.mpg"]),
    ],
)
def test_a_source_in_many_units_is_the_source_in_one(
    film: Callable[..., Path], name: str, what: dict[str, Any]
) -> None:
    """Seeking lands where reading through does, with one keyframe in the whole source, too."""
    options = what | {"seconds": 6.5} | {"video_options": {"preset": "ultrafast", "g": "400"}}
    if "video_codec" in what:
        options["video_options"] = what["video_options"]
    path = film(name, **options)
    whole = clips(path).samples
    parts = dataclasses.replace(OPTIONS, seconds_per_unit=1.0)
    split = [s for unit in units(path, parts) for s in transcode(unit, parts).samples]
    assert len(split) == len(whole) == 6
    for one, other in zip(whole, split, strict=True):
        assert one.key == other.key
        assert one.members["mp4"] == other.members["mp4"]
        # where a container counts milliseconds, sound is placed to a fraction of one
        assert tones(one.members)[0] == pytest.approx(tones(other.members)[0], abs=0.0005)


def test_equal_input_gives_equal_bytes(film: Callable[..., Path]) -> None:
    path = film("a.mp4")
    first, second = clips(path), clips(path)
    assert [s.members for s in first.samples] == [s.members for s in second.samples]


def test_frames_are_cropped_to_cover_or_padded_to_fit(film: Callable[..., Path]) -> None:
    path = film("a.mp4", seconds=1)
    for fit, size in (("crop", (128, 128)), ("pad", (128, 128)), ("pad", (224, 64))):
        options = dataclasses.replace(OPTIONS, fit=fit, size=size)
        (sample,) = clips(path, options).samples
        frame = decode_video(sample.members["mp4"])[0]
        luma = frame.to_ndarray()[: frame.height].astype(int)
        assert (frame.width, frame.height) == size
        if fit == "crop":  # the middle 180 of 320 columns, so all corners' greys are seen
            assert [luma[5, 5], luma[5, -5]] == pytest.approx([220, 165], abs=4)
            continue
        shape = 320 / 180
        height = size[1] if size[0] / size[1] > shape else size[0] / shape
        width = size[0] if size[0] / size[1] <= shape else size[1] * shape
        rows = np.flatnonzero((luma > 40).any(1))
        columns = np.flatnonzero((luma > 40).any(0))
        assert rows[-1] - rows[0] + 1 == pytest.approx(height, abs=4)
        assert columns[-1] - columns[0] + 1 == pytest.approx(width, abs=4)
        assert rows[0] + rows[-1] == pytest.approx(size[1] - 1, abs=3)
        assert columns[0] + columns[-1] == pytest.approx(size[0] - 1, abs=3)


def test_clips_are_laid_out_to_be_read_often(film: Callable[..., Path]) -> None:
    """Closed GOPs of half a second, no B-frames, times from zero at a constant rate."""
    sample = clips(film("a.mp4", fps=Fraction(24))).samples[1]
    video, audio = sample.tracks
    assert video.member == "mp4"
    assert video.flags.nonzero()[0].tolist() == [0, 12, 24]
    assert video.pts.tolist() == [n * video.duration[0] for n in range(25)]
    assert (video.start, float(video.stop * video.header.time_base)) == (0, 1)
    assert (audio.start, audio.stop) == (0, 24000)
    data = sample.members["mp4"]
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"elst" not in data
    types = [str(frame.pict_type) for frame in decode_video(data)]
    assert set(types) == {"1", "2"}
    assert (video.header.color_matrix, video.header.color_range) == ("bt709", "limited")


def test_a_source_that_ends_before_its_declared_length(film: Callable[..., Path]) -> None:
    """Half of an mkv: no decoder complains, and the header still declares it all."""
    path = film("a.mkv", seconds=6, container="matroska", video_options={"preset": "veryfast"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = clips(path)
    made = len(result.samples)
    assert 1 <= made <= 4
    assert result.skipped == {ENDS_EARLY: 6 - made}
    for n, sample in enumerate(result.samples):
        assert numbers(sample.members) == list(range(25 * n, 25 * (n + 1)))


def test_clips_that_damage_reaches_are_left_out(film: Callable[..., Path]) -> None:
    """Bytes flipped in the third second of six, keyframes every second: only it is lost."""
    path = film("a.mp4", seconds=6, video_options={"preset": "veryfast", "g": "25", "bf": "0"})
    clean = clips(path)
    (video, _) = media_tracks(path)
    data = bytearray(path.read_bytes())
    for n in range(65, 72):
        at = int(video.offset[n]) + int(video.size[n]) // 2
        data[at : at + 4] = bytes(x ^ 0xFF for x in data[at : at + 4])
    path.write_bytes(data)
    damaged = clips(path)
    assert damaged.skipped == {DAMAGED: 1}
    assert damaged.details
    kept = [s for s in clean.samples if not s.key.endswith("2")]
    assert [s.key for s in damaged.samples] == [s.key for s in kept]
    assert [s.members["mp4"] for s in damaged.samples] == [s.members["mp4"] for s in kept]


def media_tracks(path: Path) -> list[Any]:
    from shards.media.demux import demux_tracks

    return demux_tracks(path.read_bytes(), "mp4")


def test_a_source_that_changed_since_the_plan_is_refused(film: Callable[..., Path]) -> None:
    path = film("a.mp4")
    (unit,) = units(path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(SourceError, match="the source changed since the build was planned"):
        transcode(unit, OPTIONS)


def test_a_source_that_is_gone_is_a_clear_error(film: Callable[..., Path]) -> None:
    path = film("a.mp4")
    (unit,) = units(path)
    path.unlink()
    with pytest.raises(SourceError, match="open: no such file"):
        transcode(unit, OPTIONS)


def test_the_tail_is_left_out(film: Callable[..., Path]) -> None:
    cuts = cut_source(planned(film("a.mp4", seconds=2.9)), OPTIONS)
    assert (len(cuts[""].clips), cuts[""].remainders) == (2, 1)


def stored_sound(data: bytes) -> Any:
    """All samples of a file in memory, [C, S], as floats."""
    container: Any
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        to_planes = av.AudioResampler("fltp", stream.layout.name, stream.sample_rate)
        frames: list[Any] = list(container.decode(stream))
        planes = [out for frame in [*frames, None] for out in to_planes.resample(frame)]
    return np.concatenate([frame.to_ndarray() for frame in planes], axis=1)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("audio", AUDIO_FORMATS)
def test_audio_is_stored_as_asked_for(film: Callable[..., Path], audio: str, channels: int) -> None:
    options = BuildOptions(
        clip_seconds=1.0, fps=25.0, audio=audio, channels=channels, sample_rate_hz=48000
    )
    path = film("a.mp4", seconds=2, sample_rate_hz=48000)
    for sample in clips(path, options).samples:
        info = json.loads(sample.members["json"])
        assert (info["num_channels"], info["num_samples"]) == (channels, 48000)
        (extension,) = sample.members.keys() - {"mp4", "json"}
        assert extension == AUDIO_FORMATS[audio].extension
        wave = stored_sound(sample.members[extension])
        assert len(wave) == channels
        assert onsets(wave[-1], 48000)[0] == pytest.approx(0, abs=0.002)
        assert wave[:, 480:2400].std(axis=1) == pytest.approx([0.5 / math.sqrt(2)] * channels, 0.1)


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_the_level_of_audio_does_not_depend_on_channels(
    film: Callable[..., Path], layout: str
) -> None:
    """Mono repeated, stereo as it is, and the mean of either: always the same tone."""
    path = film("a.mov", container="mov", seconds=1, layout=layout, audio_codec="pcm_s16le")
    for channels in (1, 2):
        options = dataclasses.replace(OPTIONS, channels=channels, audio="pcm")
        wave = stored_sound(clips(path, options).samples[0].members["wav"])
        assert np.abs(wave).max(axis=1) == pytest.approx([0.5] * channels, abs=0.02)
