"""Every bad input a folder of videos may hold: one line in the report, and the others are built.

`docs/faults.md` promises what is tested here.
"""

import errno
import json
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from typer.testing import CliRunner

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.encoding.transcode import Unit, UnitResult, transcode
from shards.maintenance.verify import verify
from tests.films import decode_video, read_number
from tools.cli import app

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64)
FAST = {"preset": "ultrafast"}
FRONT = {"movflags": "+faststart"}

Maker = Callable[[Callable[..., Path], Path], Any]


def _cut(keep: float, **what: Any) -> Maker:
    """A film of six seconds of which only the first part of the bytes is left."""

    def make(film: Callable[..., Path], path: Path) -> None:
        film(path.as_posix(), seconds=6, **what)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])

    return make


def _flipped(film: Callable[..., Path], path: Path) -> None:
    film(path.as_posix(), seconds=8, video_options={"preset": "veryfast", "g": "25"})
    data = bytearray(path.read_bytes())
    start, dice = data.index(b"mdat") + 8, random.Random(4)
    for _ in range(40):
        data[dice.randrange(start, data.index(b"moov"))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def _bomb(_film: Callable[..., Path], path: Path) -> None:
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=1, options=FAST)
        stream.width, stream.height, stream.pix_fmt = 8192, 8192, "yuv420p"
        frame = av.VideoFrame(8192, 8192, "yuv420p")
        frame.pts = 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _text(content: str | bytes) -> Maker:
    data = content.encode() if isinstance(content, str) else content
    return lambda _film, path: path.write_bytes(data)


def _film(**what: Any) -> Maker:
    return lambda film, path: film(path.as_posix(), **what)


# file name → how it is made, and what the report says of it: clips made, and the cause of the rest
BAD: dict[str, tuple[Maker, int | tuple[int, int], str]] = {
    "empty.mp4": (_text(""), 0, "an empty file"),
    "page.mp4": (_text("<!DOCTYPE html><html></html>"), 0, "not media: a web page or XML"),
    "text.mp4": (_text("not a video\n" * 99), 0, "not media: a text file"),
    "list.mp4": (_text("#EXTM3U\ngood.mp4\n"), 0, "not media: a playlist"),
    "concat.mp4": (_text("ffconcat version 1.0\nfile good.mp4\n"), 0, "not media: a playlist"),
    "random.mp4": (_text(random.Random(0).randbytes(9999)), 0, "not media: unknown first bytes"),
    "cut, header last.mp4": (_cut(0.5), 0, "the header cannot be read"),
    "cut, header first.mp4": (
        _cut(0.5, container_options=FRONT),
        (1, 4),
        "the video ends before the declared length",
    ),
    "cut.mkv": (
        _cut(0.5, container="matroska"),
        (1, 4),
        "the video ends before the declared length",
    ),
    "cut.webm": (
        _cut(0.5, container="webm", video_codec="libvpx", video_options={"deadline": "realtime"},
             audio_codec="libopus", sample_rate_hz=48000),
        (1, 4),
        "the video ends before the declared length",
    ),
    "flipped.mp4": (_flipped, (0, 7), "the decoder met damage"),
    "only sound.mp4": (_film(video_codec=None), 0, "no video stream"),
    "only pictures.mp4": (_film(audio_codec=None), 0, "no audio stream"),
    "short sound.mp4": (_film(audio_seconds=1.7), 2, "no audio in the clip"),
    "long sound.mp4": (_film(audio_seconds=9.0), 3, ""),
    "one frame.mp4": (_film(seconds=0.04, audio_seconds=5), 0, "too short for one clip"),
    "tiny.mp4": (_film(size=(16, 16)), 3, ""),
    "bomb.mp4": (_bomb, 0, "the frame is too large"),
    "with spaces, 'quotes' and \"more\".mp4": (_film(), 3, ""),
    "dots.and.日本語.mp4": (_film(), 3, ""),
    "n" * 200 + ".mp4": (_film(), 3, ""),
    "/".join(["m" * 150, "o" * 150, "a path of 300 characters.mp4"]): (_film(), 3, ""),
    "left/same.mp4": (_film(), 3, ""),
    "right/same.mp4": (_film(), 3, ""),
    "new\nline.mp4": (_film(), 3, ""),
    os.fsdecode(b"not \xff utf-8.mp4"): (_film(), 3, ""),
}  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One build of all bad inputs; the target, and the report's lines by source."""
    from tests.films import Film, make_film

    root = tmp_path_factory.mktemp("building")

    def film(name: str, **what: Any) -> Path:
        return make_film(Path(name), Film(**what))

    for name, (make, _, _) in BAD.items():
        path = root / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make(film, path)
    build([root / "videos"], root / "out", OPTIONS, num_workers=2)
    text = (root / "out/report.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return root / "out", {line["source"]: line for line in lines}


in_one_process = pytest.mark.xdist_group("building")  # so that the films are built once


@in_one_process
@pytest.mark.slow
def test_every_source_has_one_line(built: tuple[Path, dict[str, Any]]) -> None:
    assert sorted(built[1]) == sorted(BAD)


@in_one_process
@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_counted_and_named(built: tuple[Path, dict[str, Any]], name: str) -> None:
    _, clips, cause = BAD[name]
    line = built[1][name]
    low, high = (clips, clips) if isinstance(clips, int) else clips
    assert low <= line["clips"] <= high
    assert line["outcome"] == ("made" if line["clips"] else "skipped")
    causes = [line["cause"]] if "cause" in line else []
    causes += line.get("skipped_clips", {})
    if cause:
        assert any(found.startswith(cause) for found in causes)
    else:
        assert not causes


@in_one_process
@pytest.mark.slow
def test_what_was_built_beside_them_is_right(built: tuple[Path, dict[str, Any]]) -> None:
    out, lines = built
    assert verify(out).problems == []
    data_set = Dataset.open(out)
    assert len(data_set) == sum(line["clips"] for line in lines.values())
    for i in range(len(data_set)):
        info = data_set.metadata(i)
        if info["source"] in ("tiny.mp4", "flipped.mp4"):
            continue  # too small to read the number off, or damaged where no decoder can tell
        frames = decode_video(data_set.read_member(data_set.sample(i), "mp4"))
        numbers = [read_number(f.to_ndarray()[: f.height]) for f in frames]
        start = info["start_seconds"]
        assert numbers == [int((start + (n + 0.5) / 10) * 25 + 1e-6) for n in range(10)]


def test_a_folder_without_a_usable_video_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_text("text")
    (tmp_path / "videos/b.mp4").write_text("more text")
    (tmp_path / "videos/c.mp4").write_bytes(b"")
    complaint = (
        r"Of 3 files none could become a clip: 2 × not media: a text file; 1 × an empty file\. "
        r"They are a\.mp4: not media: a text file \(begins with b'text'; accepted: MP4, .*\); "
        r"b\.mp4: .*; "
        r"c\.mp4: an empty file \(0 bytes\)\. .*report\.jsonl has a line for each"
    )
    for _ in range(2):  # and it may be tried again
        with pytest.raises(BuildError, match=complaint):
            build([tmp_path / "videos"], tmp_path / "out", OPTIONS)
    (tmp_path / "videos/d.mp4").write_bytes(b"")
    with pytest.raises(BuildError, match=r"Of 4 files .* The first are a\.mp4: (?!.*d\.mp4)"):
        build([tmp_path / "videos"], tmp_path / "more", OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty"], "error: The sources hold no file: there is nothing to build. Check the path."),
        (["nowhere"], "nowhere does not exist; check the path."),
        (["empty", "--clip-seconds", "0"], "clip_seconds is 0.0; allowed: 0.5–600"),
        (["empty", "--size", "100x100"], "width and height multiples of 16, 16–4096"),
        (["empty", "--require", "audoi"], "require is ('audoi',); allowed: any of audio"),
        (["empty", "--fps", "many"], "fps is 'many'; allowed: 1–240 frames a second, or source"),
        (["empty", "--cut", "shots"], "cut is 'shots'; allowed: fixed or scenes or ranges"),
        (["empty", "--min-clip-seconds", "3"], "min_clip_seconds is 3.0; allowed: none; cut is"),
        (["empty", "--size", "source"], "width and height; or source, with profile copy"),
        (["empty", "--labels", "gone.csv"], "gone.csv cannot be read"),
    ],
)
def test_the_command_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    result = CliRunner().invoke(app, ["shards", "build", *arguments, "--out", "out"])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not Path("out").exists()


def test_a_target_that_cannot_be_written_is_one_clear_message(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    film("videos/a.mp4")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(BuildError, match=r"file/out cannot be written: Not a directory"):
        build([tmp_path / "videos"], tmp_path / "file/out", OPTIONS)


def test_a_full_disk_is_one_clear_message_and_the_build_goes_on_later(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film("videos/a.mp4")
    film("videos/b.mp4")
    full = True
    real = os.fsync
    calls = 0

    def fsync(number: int) -> None:
        nonlocal calls
        calls += 1
        if full and calls > 6:
            raise OSError(errno.ENOSPC, "No space left on device", "shard-000001.tar.tmp")
        real(number)

    options = BuildOptions(clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=2)
    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(BuildError, match=r"No space left .* run the same command again"):
        build([tmp_path / "videos"], tmp_path / "out", options)
    finals = {p.name for p in (tmp_path / "out").glob("shard-*.tar*")}
    assert finals == {"shard-000000.tar", "shard-000000.tar.index"}
    full = False
    build([tmp_path / "videos"], tmp_path / "out", options)
    assert verify(tmp_path / "out").samples == 6


def _crashing(unit: Unit, options: BuildOptions) -> UnitResult:
    """As the real one, but one source brings its worker down, and one never ends."""
    if unit.source.name == "crash.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    if unit.source.name == "hang.mp4":
        time.sleep(600)
    return transcode(unit, options)


@pytest.mark.slow
def test_a_source_that_crashes_or_hangs_its_decoder_costs_that_source(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "crash.mp4", "hang.mp4", "z.mp4"):
        film(f"videos/{name}", seconds=2)
    monkeypatch.setattr("shards.building.engines.transcode", _crashing)
    summary = build([tmp_path / "videos"], tmp_path / "out", OPTIONS, time_limit_seconds=10)
    assert (summary.sources, summary.made, summary.clips) == (4, 2, 4)
    assert summary.skipped_sources == {
        "worker: crashed its worker": 1,
        "worker: took too long": 1,
    }
    text = (tmp_path / "out/report.jsonl").read_text()
    assert "ended by SIGSEGV" in text
    assert summary.took_too_long
    assert "limit 10 s" in text


@pytest.mark.slow
def test_what_took_too_long_is_done_again_with_more_time(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second shard lacks what was given up; only with a longer limit is it made again."""
    for name in ("a.mp4", "hang.mp4", "z.mp4"):
        film(f"videos/{name}", seconds=2)
    out, options = tmp_path / "out", replace(OPTIONS, clips_per_shard=2)

    class Interrupted(BaseException):
        pass

    def interrupt(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("build", 6):
            raise Interrupted

    def again(limit: float) -> None:
        with pytest.raises(Interrupted):
            build([tmp_path / "videos"], out, options, time_limit_seconds=limit, progress=interrupt)

    with monkeypatch.context() as patch:
        patch.setattr("shards.building.engines.transcode", _crashing)
        again(4)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.tar")}
    assert before.keys() == {"shard-000000.tar"}  # the third was about to be written
    again(4)
    again(3)
    assert not (out / "shard-000001.tar").exists()
    summary = build([tmp_path / "videos"], out, options, time_limit_seconds=600)
    assert (summary.clips, summary.skipped_sources, summary.took_too_long) == (6, {}, False)
    assert (out / "shard-000000.tar").stat().st_mtime_ns == before["shard-000000.tar"]
    build([tmp_path / "videos"], tmp_path / "whole", options)
    for path in filter(Path.is_file, (tmp_path / "whole").iterdir()):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_a_source_that_grows_while_it_is_built_is_named(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("videos/a.mp4", seconds=2)
    film("videos/b.mp4", seconds=2)

    def progress(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("build", 0):
            path.write_bytes(path.read_bytes() + b"more")

    summary = build([tmp_path / "videos"], tmp_path / "out", OPTIONS, progress=progress)
    assert summary.skipped_sources == {"open: the source changed since the build was planned": 1}
    assert summary.clips == 2
