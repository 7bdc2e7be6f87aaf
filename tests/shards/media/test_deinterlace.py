"""Interlaced sources come out whole; what is not interlaced comes out as if nobody had asked.

The oracle draws a bar at the time of each field. Two fields are woven into one picture, as a camera
does, and a clip must show what was there at the time of the first.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

import shards.media.deinterlace
from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.format.json_text import read_jsonl
from shards.maintenance.stats import stats
from shards.maintenance.verify import verify
from shards.media.deinterlace import Deinterlacer
from shards.media.frame_fitting import filter_chain
from tests.films import decode_video
from tools.cli import app

SIZE = (96, 64)
OPTIONS = BuildOptions(clip_seconds=1.0, fps=25, size=SIZE, require=(), crf=10)
MPEG2 = {"flags": "+ildct+ilme", "qscale": "2"}
X264 = {"preset": "veryfast", "x264-params": "tff=1", "crf": "10", "g": "25"}


def bar(field: int, size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """The luma [H, W] that is there at the time of a field: a bar that moves to the right."""
    width, height = size
    luma = np.full((height, width), 60, np.uint8)
    left = field * (width // 32) % (width * 3 // 4)
    luma[:, left : left + width // 6] = 200
    return luma


def frames(kinds: Sequence[str], size: tuple[int, int] = SIZE) -> Iterator[av.VideoFrame]:
    """A picture of each kind: two fields, the top (tff) or bottom (bff) one first, or one: prog."""
    width, height = size
    chroma = np.full((height // 2, width), 128, np.uint8)
    for k, kind in enumerate(kinds):
        luma = bar(2 * k, size)
        if kind != "prog":
            second = 1 if kind == "tff" else 0
            luma[second::2] = bar(2 * k + 1, size)[second::2]
        chain = filter_chain(size, "yuv420p", [f"setfield={kind}"])
        chain.vpush(av.VideoFrame.from_ndarray(np.concatenate([luma, chroma]), "yuv420p"))
        frame = chain.vpull()
        frame.pts, frame.time_base, frame.pict_type = k, Fraction(1, 25), 0
        yield frame


def interlaced(
    path: Path,
    kinds: Sequence[str],
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = SIZE,
    tags: tuple[int, int] = (1, 1),
) -> Path:
    """A file of these pictures, 25 a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        video: Any = out.add_stream(codec, rate=25, options=X264 if options is None else options)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        video.codec_context.colorspace, video.codec_context.color_range = tags
        for frame in frames(kinds, size):
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def joined(path: Path) -> Path:
    """One progressive and one interlaced second of two encoders in one stream, as broadcast is."""
    plain = {"preset": "veryfast", "g": "25"}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as out:
        stream: Any = out.add_stream("libx264", rate=25, options=plain)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for n, (kind, options) in enumerate((("prog", plain), ("tff", X264))):
            encoder: Any = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt = *SIZE, "yuv420p"
            encoder.colorspace, encoder.color_range = 1, 1
            encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
            encoder.options = options | {"bf": "0"}
            for frame in [*frames([kind] * 25), None]:
                for packet in encoder.encode(frame):
                    packet.pts = packet.dts = packet.pts + 25 * n
                    packet.time_base = Fraction(1, 25)
                    packet.stream = stream
                    out.mux(packet)
    return path


def lumas(data_set: Dataset, number: int) -> list[npt.NDArray[np.uint8]]:
    data = data_set.read_member(data_set.sample(number), "mp4")
    return [frame.to_ndarray()[: frame.height] for frame in decode_video(data)]


def error(luma: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(luma.astype(float) - truth).mean())


@pytest.mark.parametrize(
    ("name", "kind", "codec", "options", "size", "square"),
    [
        ("broadcast.ts", "tff", "mpeg2video", MPEG2, SIZE, SIZE),
        ("bottom.mpg", "bff", "mpeg2video", MPEG2, SIZE, SIZE),
        ("camcorder.mp4", "tff", "libx264", X264, SIZE, SIZE),
        ("archive.mkv", "bff", "ffv1", {"flags": "+ildct"}, SIZE, SIZE),
        ("tape.avi", "bff", "dvvideo", {}, (720, 576), (768, 576)),
    ],
)
def test_clips_of_an_interlaced_source_show_one_time_in_each_frame(
    tmp_path: Path,
    name: str,
    kind: str,
    codec: str,
    options: dict[str, str],
    size: tuple[int, int],
    square: tuple[int, int],
) -> None:
    path = interlaced(tmp_path / name, [kind] * 45, codec, options, size)
    summary = build([path], tmp_path / "out", dataclasses.replace(OPTIONS, size=square))
    assert verify(tmp_path / "out").problems == []
    assert (summary.clips, summary.deinterlaced_clips) == (1, 1)
    (line,) = read_jsonl(tmp_path / "out/report.jsonl")
    assert line["deinterlaced_clips"] == 1
    data_set = Dataset.open(tmp_path / "out")
    assert data_set.metadata(0)["deinterlaced"] is True
    shown = lumas(data_set, 0)
    assert len(shown) == 25
    woven: list[Any] = [frame.to_ndarray()[: size[1]] for frame in frames([kind] * 25, size)]
    for k in range(1, 25):  # of the first picture, nothing says where the bar came from
        truth = bar(2 * k, size)
        assert error(woven[k], truth) > 3
        columns = np.arange(square[0]) * size[0] // square[0]
        assert error(shown[k], truth[:, columns]) < 1.5


def test_who_makes_a_clip_changes_nothing(tmp_path: Path) -> None:
    """The neighbours of a unit's first and last pictures are those that they have in the film."""
    path = interlaced(tmp_path / "a.mp4", ["tff"] * 127)
    for name, seconds in (("one", 60.0), ("many", 1.0)):
        build([path], tmp_path / name, dataclasses.replace(OPTIONS, seconds_per_unit=seconds))
    one, many = (Dataset.open(tmp_path / name) for name in ("one", "many"))
    assert len(one) == len(many) == 5
    for i in range(5):
        for member in ("mp4", "json"):
            data = [each.read_member(each.sample(i), member) for each in (one, many)]
            assert data[0] == data[1]


def test_progressive_frames_pass_as_they_are_beside_interlaced_ones(tmp_path: Path) -> None:
    kinds = ["prog"] * 30 + ["tff"] * 20 + ["prog"] * 26
    lossless = ("ffv1", {"flags": "+ildct"})
    mixed = interlaced(tmp_path / "mixed.mkv", kinds, *lossless)
    plain = interlaced(tmp_path / "plain.mkv", ["prog"] * 76, *lossless)
    summary = build([mixed], tmp_path / "a", OPTIONS)
    build([plain], tmp_path / "b", OPTIONS)
    assert (summary.clips, summary.deinterlaced_clips) == (3, 1)
    a, b = Dataset.open(tmp_path / "a"), Dataset.open(tmp_path / "b")
    for i, said in enumerate((None, True, None)):
        assert a.metadata(i).get("deinterlaced") is said
        members = [each.read_member(each.sample(i), "mp4") for each in (a, b)]
        assert members[0] == members[1] or i == 1
    for k, luma in enumerate(lumas(a, 1)):
        assert error(luma, bar(2 * (25 + k))) < 1.5
    assert stats(tmp_path / "a").deinterlaced == 1


def test_a_progressive_source_never_meets_the_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards.media.deinterlace, "filter_chain", None)
    deinterlacer = Deinterlacer()
    given = list(frames(["prog"] * 3))
    got = [p for k, f in enumerate(given) for p in deinterlacer.push(f, Fraction(k, 25))]
    assert [picture.frame for picture in got] == given
    assert not any(picture.was_interlaced for picture in got)
    assert list(deinterlacer.finish()) == []


def test_every_frame_comes_out_once_at_its_time_whatever_comes_when() -> None:
    """One picture alone, and pictures that change their size."""
    large, small = (96, 64), (48, 32)
    runs = [("tff", large, 1), ("prog", small, 2), ("tff", small, 2), ("bff", large, 3)]
    given = [f for kind, size, count in runs for f in frames([kind] * count, size)]
    deinterlacer = Deinterlacer()
    got = [p for k, f in enumerate(given) for p in deinterlacer.push(f, Fraction(k, 25))]
    got += deinterlacer.finish()
    assert [p.time for p in got] == [Fraction(k, 25) for k in range(8)]
    assert [p.frame.width for p in got] == [f.width for f in given]
    assert [p.was_interlaced for p in got] == [f.interlaced_frame for f in given]
    assert not any(p.frame.interlaced_frame for p in got)
    for picture, frame in zip(got, given, strict=True):
        assert (picture.frame.pts, picture.frame.duration) == (frame.pts, frame.duration)
        assert picture.frame.time_base == frame.time_base


def test_interlaced_frames_are_not_copied(tmp_path: Path) -> None:
    options = BuildOptions(
        profile="copy", size="source", fps="source", clip_seconds=1.0, require=()
    )
    interlaced(tmp_path / "videos/first.mp4", ["tff"] * 50)
    joined(tmp_path / "videos/later.ts")
    summary = build([tmp_path / "videos"], tmp_path / "out", options)
    first, later = read_jsonl(tmp_path / "out/report.jsonl")
    assert first["cause"] == "interlaced video"
    assert "build with --profile fast" in first["detail"]
    assert later["skipped_clips"] == {"the video is interlaced": 1}
    assert (summary.clips, summary.deinterlaced_clips) == (1, 0)


def test_the_command_says_how_many_clips_were_deinterlaced(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.ts", ["tff"] * 27, "mpeg2video", MPEG2)
    arguments = [str(path), "--out", str(tmp_path / "out"), "--clip-seconds", "1"]
    asked = ["--fps", "25", "--require", "none", "--workers", "1"]
    result = CliRunner().invoke(app, ["shards", "build", *arguments, *asked])
    assert result.exit_code == 0, result.output
    assert result.output.split("of them deinterlaced")[1].split()[0] == "1"
    result = CliRunner().invoke(app, ["shards", "stats", str(tmp_path / "out"), "--json"])
    assert json.loads(result.output)["deinterlaced"] == 1
