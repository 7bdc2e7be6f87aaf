"""Scene cuts of a film whose cuts are known, and against FFmpeg's own scene filter."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import pytest

from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.media.scene_cuts import scene_cuts
from tests.films import decode_video

SCENES = (1.2, 2.0, 0.4, 2.4)  # seconds
CUTS = (Fraction(12, 10), Fraction(32, 10), Fraction(36, 10))
MARKS = (40, 90, 140, 190)
FPS, WIDTH, HEIGHT = 25, 160, 96


def scenes_film(path: Path, container: str, start: float = 0.0) -> Path:
    """Four moving textures of one mean, each with its mark in the top left corner, and hiss."""
    rng = np.random.default_rng(1)
    with av.open(str(path), "w", format=container) as out:
        options = {"preset": "veryfast", "g": "300", "sc_threshold": "0"}
        video: Any = out.add_stream("libx264", rate=FPS, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio: Any = out.add_stream("aac", rate=16000, layout="mono")
        n = 0
        for seconds, mark in zip(SCENES, MARKS, strict=True):
            coarse = rng.integers(50, 206, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8)
            texture = coarse.repeat(8, 0).repeat(8, 1)
            for k in range(round(seconds * FPS)):
                planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
                planes[:HEIGHT] = np.roll(texture, k, 1)
                planes[:16, :32] = mark
                frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
                frame.pts, frame.time_base = n + round(start * FPS), Fraction(1, FPS)
                out.mux(video.encode(frame))
                n += 1
        out.mux(video.encode(None))
        hiss = rng.normal(0, 0.1, (1, 16000 * 6)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(hiss, "fltp", "mono")
        sound.sample_rate, sound.pts, sound.time_base = 16000, 0, Fraction(1, 16000)
        for part in _blocks(sound, audio.codec_context.frame_size or 1024):
            out.mux(audio.encode(part))
        out.mux(audio.encode(None))
    return path


def _blocks(sound: Any, size: int) -> Iterator[Any]:
    fifo = av.AudioFifo()
    fifo.write(sound)
    yield from fifo.read_many(size)


def cuts_of(path: Path, start: Fraction = Fraction(0), stop: float = 6) -> tuple[Fraction, ...]:
    with av.open(str(path)) as container:
        frame: Any = next(container.decode(video=0))
        origin = frame.pts * frame.time_base
    with path.open("rb") as file:
        return scene_cuts(file, origin, start, Fraction(stop))


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_cuts_are_found_to_the_frame_and_motion_is_none(tmp_path: Path, container: str) -> None:
    path = scenes_film(tmp_path / "film", container, start=0.48)
    found = cuts_of(path)
    assert [float(t) for t in found] == pytest.approx([float(t) for t in CUTS], abs=0.002)
    assert len(cuts_of(path, Fraction(2), 3.4)) == 1  # and within a range: what lies in it
    assert cuts_of(path, found[0], 2.5) == ()  # the first scene of a range is no cut


def test_the_score_is_that_of_ffmpegs_scene_filter(tmp_path: Path) -> None:
    path = scenes_film(tmp_path / "film.mp4", "mp4")
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        nodes = [
            graph.add_buffer(template=video),
            graph.add("scale", "64:36:flags=area"),
            graph.add("format", "gray"),
            graph.add("select", "gte(scene\\,0.1)"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        found = []
        for frame in [*container.decode(video), None]:
            graph.push(frame)
            while True:
                try:
                    picture: Any = graph.pull()
                except (av.BlockingIOError, av.EOFError):
                    break
                found.append(picture.pts * picture.time_base)
    assert cuts_of(path) == tuple(found) == CUTS


def test_no_clip_crosses_a_cut(tmp_path: Path) -> None:
    scenes_film(tmp_path / "film.mp4", "mp4")
    options = BuildOptions(
        cut="scenes", clip_seconds=1.0, min_clip_seconds=0.6, fps=10, size=(160, 96)
    )
    summary = build([tmp_path / "film.mp4"], tmp_path / "out", options)
    data_set = Dataset.open(tmp_path / "out")
    # 1.2 s: 1.0 and a rest of 0.2; 2.0: two clips; 0.4: none; 2.4: two and a rest of 0.4
    expected = [(0, 1.0), (1.2, 2.2), (2.2, 3.2), (3.6, 4.6), (4.6, 5.6)]
    infos = [data_set.metadata(i) for i in range(len(data_set))]
    assert [(i["start_seconds"], i["stop_seconds"]) for i in infos] == expected
    assert summary.skipped_clips == {"a scene or remainder shorter than the shortest clip": 3}
    for i, info in enumerate(infos):
        frames = decode_video(data_set.read_member(data_set.sample(i), "mp4"))
        assert len(frames) == info["num_frames"] == 10
        scene = sum(info["start_seconds"] >= float(cut) for cut in CUTS)
        seen = [float(f.to_ndarray()[4:12, 8:24].mean()) for f in frames]
        assert seen == pytest.approx([MARKS[scene]] * 10, abs=4)


def test_rests_of_scenes_are_shorter_clips(tmp_path: Path) -> None:
    scenes_film(tmp_path / "film.mp4", "mp4")
    options = BuildOptions(cut="scenes", clip_seconds=1.5, fps=10, size=(160, 96))
    build([tmp_path / "film.mp4"], tmp_path / "out", options)  # by default, 1.5 s are the least
    assert len(Dataset.open(tmp_path / "out")) == 2
    options = BuildOptions(
        cut="scenes", clip_seconds=1.5, min_clip_seconds=0.4, fps=10, size=(160, 96)
    )
    build([tmp_path / "film.mp4"], tmp_path / "shorter", options)
    data_set = Dataset.open(tmp_path / "shorter")
    lengths = [data_set.metadata(i)["duration_seconds"] for i in range(len(data_set))]
    assert lengths == [1.2, 1.5, 0.5, 0.4, 1.5, 0.9]
    for i, length in enumerate(lengths):
        for track in (data_set.sample(i).video, data_set.sample(i).audio):
            assert track is not None
            assert track.stop_seconds == pytest.approx(length)
