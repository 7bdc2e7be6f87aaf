"""The build benchmark measures what it says: the same clips of the same files, right figures."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks import shards as benchmark
from benchmarks.coded_quality import fitted, quality
from shards import BuildOptions
from tests.films import decode_video, read_number

FRAMES = int(benchmark.CLIP_SECONDS * 30)


@pytest.fixture
def paths(film: Callable[..., Path], tmp_path: Path) -> list[Path]:
    """Four files of 5 s, cut out of a film of numbered frames with a keyframe a second."""
    options = {"preset": "ultrafast", "g": "25", "sc_threshold": "0"}
    whole = film("whole.mp4", seconds=24, size=(160, 90), video_options=options)
    return benchmark.cut_film(whole, tmp_path, 20.0)


def numbers(path: Path) -> list[int]:
    return [read_number(f.to_ndarray()[: f.height]) for f in decode_video(path.read_bytes())]


def test_a_film_is_cut_at_keyframes_and_not_encoded_again(paths: list[Path]) -> None:
    for number, path in enumerate(paths):
        shown = numbers(path)
        assert shown == list(range(125 * number, 125 * number + len(shown)))
        assert len(shown) >= 125


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="needs ffmpeg on the path")
@pytest.mark.parametrize("way", [benchmark.one_ffmpeg, benchmark.three_ffmpeg])
def test_ffmpeg_makes_the_clips_of_a_build(
    paths: list[Path], tmp_path: Path, way: Callable[..., benchmark.Way]
) -> None:
    options = BuildOptions(clip_seconds=benchmark.CLIP_SECONDS, short_side=64)
    folder = tmp_path / "theirs"
    folder.mkdir()
    way(paths[1:2], benchmark.CLIP_SECONDS, options).run(folder)
    on_screen = [125 + int((n + 0.5) / 30 * 25) for n in range(FRAMES)]
    shown = numbers(folder / "film-1-000.mp4")
    assert len(shown) == FRAMES
    assert np.abs(np.array(shown) - on_screen).max() <= 1
    with av.open(str(folder / "film-1-000.flac")) as container:
        heard: Any = sum(frame.samples for frame in container.decode(audio=0))
    assert heard == pytest.approx(benchmark.CLIP_SECONDS * 24_000, rel=0.02)


def test_quality_is_of_the_pictures_that_went_in(paths: list[Path]) -> None:
    options = BuildOptions(short_side=64, crf=20)
    pictures = fitted(paths[0], 1.0, options)
    assert [read_number(p.to_ndarray()[: p.height]) for p in pictures] == [
        int((n + 0.5) / 30 * 25) for n in range(30)
    ]
    good, poor = (quality(pictures, BuildOptions(short_side=64, crf=crf)) for crf in (10, 40))
    assert good.psnr_db > poor.psnr_db + 5
    assert 0.99 < good.ssim <= 1
    assert good.ssim > poor.ssim
    assert good.bytes_a_second > poor.bytes_a_second
