"""Copied clips: the source's own pictures to the last bit, sound on their clock; or why not.

The oracle decodes the source by PyAV alone and reads the numbers and tones of the film.
"""

import dataclasses
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from shards import BuildOptions, Dataset, SourceError
from shards.building.build import build
from shards.encoding.stream_copy import cut_points
from shards.maintenance.verify import verify
from shards.options import CODECS
from tests.films import decode_audio, decode_video, onsets, read_number
from tools.cli import app

OPTIONS = BuildOptions(profile="copy", clip_seconds=2.0, size="source", fps="source")
X264 = {"preset": "veryfast", "g": "25", "sc_threshold": "0", "flags": "+cgop"}
B_FRAMES = X264 | {"bf": "3"}
FITS: dict[str, Any] = {"seconds": 5, "color": (1, 1), "video_options": B_FRAMES}

SOURCES: dict[str, dict[str, Any]] = {
    "b-frames.mp4": FITS,
    "none.mp4": FITS | {"video_options": X264 | {"bf": "0"}},
    "matroska.mkv": FITS | {"container": "matroska"},
    "transport.ts": FITS | {"container": "mpegts", "audio_codec": "mp2"},
    "late.mp4": FITS | {"video_start": 0.24},
    "rate.mp4": FITS | {"fps": Fraction(24000, 1001)},
    "hevc.mp4": FITS
    | {
        "video_codec": "libx265",
        "video_options": {
            "preset": "ultrafast",
            "x265-params": "log-level=0:keyint=25:min-keyint=25:scenecut=0:open-gop=0:bframes=2",
        },
    },
    "vp9.webm": FITS
    | {
        "container": "webm",
        "video_codec": "libvpx-vp9",
        "video_options": {"deadline": "realtime", "cpu-used": "8", "g": "25"},
        "audio_codec": "libopus",
        "sample_rate_hz": 48000,
    },
    "mpeg4.mkv": FITS
    | {
        "container": "matroska",
        "video_codec": "mpeg4",
        "video_options": {"g": "25", "bf": "0", "sc_threshold": "1000000000"},
    },
    "av1.mp4": FITS
    | {
        "video_codec": "libsvtav1",
        "video_options": {"preset": "12", "g": "25", "svtav1-params": "scd=0"},
    },
}


@pytest.mark.parametrize("name", SOURCES)
def test_copied_clips_are_the_sources_own_frames(
    film: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    path = film(name, **SOURCES[name])
    source = [frame.to_ndarray() for frame in decode_video(path.read_bytes())]
    rate = SOURCES[name].get("fps", Fraction(25))
    codec = name.split(".")[0] if name.split(".")[0] in CODECS else "h264"
    build([path], tmp_path / "out", dataclasses.replace(OPTIONS, codec=codec))
    assert verify(tmp_path / "out").problems == []
    data_set = Dataset.open(tmp_path / "out")
    # as many GOPs, of 25 frames but for the last, as two seconds hold
    lengths = [50, 50, 25] if rate == 25 else [25, 25, 25, 45]
    assert [data_set.metadata(i)["num_frames"] for i in range(len(data_set))] == lengths
    reader = SegmentReader(data_set, SegmentOptions(num_frames=12, decoder="av"))
    for i in range(len(data_set)):
        info = data_set.metadata(i)
        first = round(info["start_seconds"] * rate)
        assert first == sum(lengths[:i])
        assert info["frame_rate"] == pytest.approx(float(rate), abs=1e-6)
        assert info["made_by"].endswith("pictures copied")
        members = data_set.sample(i)
        data = data_set.read_member(members, "mp4")
        assert b"elst" not in data
        copied = decode_video(data)
        assert copied[0].pts == 0
        assert len(copied) == lengths[i]
        for frame, original in zip(copied, source[first:], strict=False):
            assert np.array_equal(frame.to_ndarray(), original)
        heard = decode_audio(data_set.read_member(members, "flac"))
        late = SOURCES[name].get("video_start", 0.0)
        tone = -(info["start_seconds"] + late) % 1
        if info["start_seconds"] + late + tone < 5:  # the sound has five seconds
            first_tone = 0 if tone > 0.94 else tone  # a tone of 60 ms may be under way
            assert onsets(heard, 24000)[0] == pytest.approx(first_tone, abs=0.002)
        for segment in reader.segments(i, [0.0] if len(copied) <= 26 else [0.0, 0.73]):
            assert segment.video is not None
            planes = segment.video.reshape(12, -1, segment.width)
            for k, planar in enumerate(planes):
                shown = int((segment.start_seconds + (k + 0.5) / 12) * rate + 1e-6)
                original = source[first + shown]
                assert np.array_equal(planar, original)


@pytest.mark.parametrize(
    ("container", "audio"),
    [("mp4", "aac"), ("matroska", "aac"), ("mpegts", "mp2"), ("flv", "aac")],
)
def test_a_source_copied_in_many_units_is_the_source_in_one(
    film: Callable[..., Path], tmp_path: Path, container: str, audio: str
) -> None:
    path = film("a.bin", **FITS | {"seconds": 9, "container": container, "audio_codec": audio})
    found = []
    for seconds in (60.0, 2.0):
        out = tmp_path / f"{seconds}"
        build([path], out, dataclasses.replace(OPTIONS, seconds_per_unit=seconds))
        data_set = Dataset.open(out)
        found.append([data_set.read_member(data_set.sample(i), "mp4") for i in range(5)])
    assert found[0] == found[1]


def test_clips_are_runs_of_whole_gops(film: Callable[..., Path], tmp_path: Path) -> None:
    """Keyframes every 0.8 s: clips of at most two seconds have two GOPs; the rest is left out."""
    path = film("a.mp4", **FITS | {"seconds": 7, "video_options": B_FRAMES | {"g": "20"}})
    summary = build([path], tmp_path / "out", dataclasses.replace(OPTIONS, min_clip_seconds=1.5))
    data_set = Dataset.open(tmp_path / "out")
    spans = [
        (info["start_seconds"], info["stop_seconds"])
        for info in (data_set.metadata(i) for i in range(len(data_set)))
    ]
    assert spans == [(0, 1.6), (1.6, 3.2), (3.2, 4.8), (4.8, 6.4)]
    assert summary.skipped_clips == {"a scene or remainder shorter than the shortest clip": 1}
    # and a range begins with the first keyframe in it
    (tmp_path / "list.csv").write_text(f"path,start,stop\n{path},1,5.7\n")
    ranges = dataclasses.replace(OPTIONS, cut="ranges", clip_seconds=4.0)
    build([tmp_path / "list.csv"], tmp_path / "ranges", ranges)
    info = Dataset.open(tmp_path / "ranges").metadata(0)
    assert (info["start_seconds"], info["stop_seconds"]) == (1.6, 5.6)
    held = dataclasses.replace(OPTIONS, holdout=0.5, gap_seconds=0.4, min_clip_seconds=0.8)
    summary = build([path], tmp_path / "held", held)
    val = Dataset.open(tmp_path / "held/val").metadata(0)
    assert (val["start_seconds"], val["stop_seconds"]) == (4.0, 5.6)  # the half is at 3.5 s
    assert summary.clips_by_part == {"train": 2, "val": 2}


def _turned(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + matrix + data[at + 36 :])


def _later_edit(path: Path) -> None:
    """The first edit of the video begins 12 frames into the first GOP."""
    data = path.read_bytes()
    at = data.index(b"elst") + 4
    count, duration, media_time = struct.unpack_from(">IIi", data, at + 4)
    (scale,) = struct.unpack_from(">I", data, data.index(b"mdhd") + 4 + 12)
    assert count == 1
    edit = struct.pack(">Ii", duration - 480, media_time + 12 * scale // 25)
    path.write_bytes(data[: at + 8] + edit + data[at + 16 :])


UNFIT: dict[str, tuple[dict[str, Any], Callable[[Path], None] | None, dict[str, Any], str]] = {
    "codec": (
        {"video_codec": "libx265", "video_options": {"preset": "ultrafast"}},
        None,
        {},
        r"copy: another codec \(hevc, not h264; build with --profile fast\)",
    ),
    "ten bits": (
        {"pixel_format": "yuv420p10le"},
        None,
        {},
        "another pixel format .yuv420p10le, not yuv420p",
    ),
    "chroma": ({"pixel_format": "yuv444p"}, None, {}, "another pixel format .yuv444p"),
    "size": (
        {},
        None,
        {"size": (224, 128)},
        r"another size \(320×180, not 224×128; try --size source, or build with",
    ),
    "pixels": (
        {"sample_aspect_ratio": Fraction(4, 3)},
        None,
        {},
        r"pixels that are not square \(4:3; ",
    ),
    "rotation": ({}, _turned, {}, r"copy: a rotation \(-90 degrees, display matrix \(0, 1, -1"),
    "colours": ({"color": (5, 1)}, None, {}, "other colours .bt601 limited, not bt709 limited"),
    "full range": ({"color": (1, 2)}, None, {}, "other colours .bt709 full"),
    "keyframes": (
        {"video_options": B_FRAMES | {"g": "250"}},
        None,
        {},
        r"keyframes too far apart \(up to 5.000 s; a clip is 2 s",
    ),
    "open GOPs": (
        {"video_options": {"preset": "medium", "g": "26", "bf": "2", "b_strategy": "0",
                           "sc_threshold": "0", "flags": "-cgop"}},
        None,
        {},
        "open GOPs",
    ),
    "edit list": ({}, _later_edit, {}, "an edit list that cuts within a GOP"),
    "rate": (
        {},
        None,
        {"fps": 30.0},
        r"another frame rate \(frame 3 is at 0.120 s, not 0.100 s; try --fps source",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_a_source_that_does_not_fit_says_why(film: Callable[..., Path], name: str) -> None:
    what, change, asked, reason = UNFIT[name]
    path = film("a.mp4", **FITS | what)
    if change is not None:
        change(path)
    options = dataclasses.replace(OPTIONS, **asked).for_source(Fraction(25), (320, 180))
    with path.open("rb") as file, pytest.raises(SourceError, match=reason):
        cut_points(
            file, options if asked.get("size") else dataclasses.replace(options, size="source")
        )


def test_a_source_that_does_not_fit_is_a_counted_skip(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    film("videos/a.mp4", **FITS)
    film("videos/b.mp4", **FITS | {"pixel_format": "yuv444p"})
    summary = build([tmp_path / "videos"], tmp_path / "out", OPTIONS)
    assert (summary.made, summary.clips) == (1, 3)
    assert summary.skipped_sources == {"another pixel format": 1}
    report = (tmp_path / "out/report.jsonl").read_text()
    assert '"stage": "copy"' in report
    assert "build with --profile fast" in report


def test_the_command_copies(film: Callable[..., Path], tmp_path: Path) -> None:
    path = film("a.mp4", **FITS | {"seconds": 2})
    asked = ["--profile", "copy", "--size", "source", "--fps", "source", "--require", "motion"]
    arguments = ["shards", "build", str(path), "--out", str(tmp_path / "out"), *asked]
    result = CliRunner().invoke(app, [*arguments, "--clip-seconds", "1", "--workers", "1"])
    assert result.exit_code == 0, result.output
    data_set = Dataset.open(tmp_path / "out")
    assert [data_set.metadata(i)["num_frames"] for i in range(len(data_set))] == [25, 25]
    assert data_set.manifest.build["options"]["profile"] == "copy"


def test_the_size_and_rate_that_are_asked_for_may_be_the_sources_own(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("a.mp4", **FITS | {"seconds": 2})
    options = BuildOptions(profile="copy", clip_seconds=2.0, size=(320, 180), fps=25)
    build([path], tmp_path / "out", options)
    info = Dataset.open(tmp_path / "out").metadata(0)
    assert (info["width"], info["height"], info["num_frames"]) == (320, 180, 50)


def test_a_copied_source_that_was_cut_short_or_damaged_loses_what_it_lost(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("cut.mkv", **FITS | {"seconds": 8, "container": "matroska"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    summary = build([path], tmp_path / "cut", OPTIONS)
    made = len(Dataset.open(tmp_path / "cut"))
    assert 1 <= made <= 2
    assert summary.skipped_clips["the video ends before the declared length"] in (1, 2)

    from shards.media.demux import demux_tracks

    path = film("damaged.mp4", **FITS | {"seconds": 6})
    (video, _) = demux_tracks(path.read_bytes(), "mp4")
    content = bytearray(path.read_bytes())
    at = int(video.offset[60]) + int(video.size[60]) // 3  # in the second clip of three
    content[at : at + 8] = bytes(x ^ 0xFF for x in content[at : at + 8])
    path.write_bytes(content)
    summary = build([path], tmp_path / "damaged", OPTIONS)
    assert summary.skipped_clips == {"the decoder met damage": 1}
    data_set = Dataset.open(tmp_path / "damaged")
    assert [data_set.metadata(i)["start_seconds"] for i in range(2)] == [0, 4]
    frame = decode_video(data_set.read_member(data_set.sample(1), "mp4"))[0].to_ndarray()
    assert read_number(frame[:180]) == 100
