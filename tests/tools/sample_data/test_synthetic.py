"""The synthetic corpus: real mp4s, the same for the same seed, in which sound goes with sight."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from tools.commands import samples
from tools.sample_data.synthetic import (
    KINDS,
    SyntheticOptions,
    build_corpus,
    draw_scene,
    render_audio,
    render_video,
)

SMALL = SyntheticOptions(num_train=7, num_val=2, seconds=2.0, size=64, seed=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic")
    build_corpus(out, SMALL)
    return out


def test_files_are_h264_and_aac_of_the_stated_size(corpus: Path) -> None:
    assert len(list((corpus / "train").iterdir())) == 7
    assert len(list((corpus / "val").iterdir())) == 2
    with av.open(str(corpus / "train" / "train_00003.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height) == (64, 64)
        assert str(video.average_rate) == "30"
        assert sum(1 for _ in container.decode(video)) == 60
    with av.open(str(corpus / "train" / "train_00003.mp4")) as container:
        samples_read = sum(frame.samples for frame in container.decode(audio=0))
        assert samples_read == pytest.approx(2 * 44_100, abs=2048)


def test_labels_name_every_file(corpus: Path) -> None:
    with (corpus / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    files = {str(path.relative_to(corpus)) for path in corpus.rglob("*.mp4")}
    assert {row["file"] for row in rows} == files
    assert [row["label"] for row in rows] == [*KINDS, KINDS[0], *KINDS[:2]]


def test_same_seed_same_bytes_whatever_the_threads(corpus: Path, tmp_path: Path) -> None:
    build_corpus(tmp_path, SMALL, workers=1)
    for path in corpus.rglob("*.*"):
        assert (tmp_path / path.relative_to(corpus)).read_bytes() == path.read_bytes(), path


def test_videos_folders_and_seeds_differ() -> None:
    scenes = [
        draw_scene(seed, folder, number, 4.0)
        for seed in (0, 1)
        for folder in ("train", "val")
        for number in range(30)
    ]
    assert len({(scene.speed, scene.start_height) for scene in scenes}) == len(scenes)
    # every kind is drawn in its turn, so labels are balanced
    assert [scene.kind for scene in scenes[:12]] == [*KINDS, *KINDS]


def test_heights_bounce_between_floor_and_ceiling() -> None:
    scene = draw_scene(0, "train", 4, 4.0)
    times = np.linspace(0, 4, 40_001)
    heights = scene.heights(times)
    assert heights.min() >= scene.radius - 1e-9
    assert heights.max() <= 1 - scene.radius + 1e-9
    # slow oracle: a turn is where the slope changes its sign
    slopes = np.sign(np.diff(heights))
    turns = times[1:-1][slopes[1:] != slopes[:-1]]
    bounces = [t for t in scene.hits(4.0) if t not in scene.flash_seconds]
    np.testing.assert_allclose(turns, bounces, atol=3e-4)


def test_the_pitch_goes_up_with_the_shape() -> None:
    options = SyntheticOptions(seconds=4.0)
    scene = draw_scene(0, "train", 0, options.seconds)  # a disc: one partial
    audio = render_audio(scene, options)
    frames = render_video(scene, options)
    quiet = [t for t in np.arange(0.2, 3.6, 0.1) if np.abs(scene.hits(4.0) - t).min() > 0.13]
    pitches, seen = [], []
    for time in quiet:
        first = int(time * options.sample_rate_hz)
        piece = audio[first : first + 2048] * np.hanning(2048)
        pitches.append(int(np.argmax(np.abs(np.fft.rfft(piece, 16_384)))))
        frame = frames[round((time + 0.023) * options.frames_per_second)].astype(float).max(-1)
        rows = np.flatnonzero((frame > 200).any(axis=1))
        seen.append(1 - rows.mean() / options.size)
    assert np.corrcoef(np.log(pitches), seen)[0, 1] > 0.98


def test_a_hit_is_a_flash_and_a_click() -> None:
    options = SyntheticOptions(seconds=4.0)
    for number in range(len(KINDS)):
        scene = draw_scene(0, "train", number, options.seconds)
        hits = scene.hits(4.0)
        brightness = render_video(scene, options).min(axis=-1).mean(axis=(1, 2))
        audio = render_audio(scene, options)
        loudest = (
            np.abs(np.diff(audio, prepend=0)).reshape(-1, options.sample_rate_hz // 30).max(axis=1)
        )
        lit = np.zeros(len(brightness), bool)
        lit[np.minimum(np.ceil(hits * 30).astype(int), len(lit) - 1)] = True
        far = np.array([np.abs(hits - i / 30).min() > 0.15 for i in range(len(lit))])
        assert brightness[lit].mean() > brightness[far].max()
        assert np.median(loudest[(hits * 30).astype(int)]) > 2 * np.median(loudest[far])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 65}, "size is 65; allowed: even, 32 or more"),
        ({"num_val": -1}, "num_val is -1; allowed: 0 or more"),
        ({"seconds": 0.5}, "seconds is 0.5; allowed: 1 to 600"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_options_check_themselves(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticOptions(**arguments)


def test_command(tmp_path: Path) -> None:
    arguments = ["synthetic", "--out", str(tmp_path), "--videos", "1", "--val-videos", "1"]
    result = CliRunner().invoke(samples.app, [*arguments, "--seconds", "1", "--size", "32"])
    assert result.exit_code == 0, result.output
    assert "train/ 1 and val/ 1 videos of 1 s, 6 kinds" in result.output
    result = CliRunner().invoke(samples.app, [*arguments, "--size", "31"])
    assert result.exit_code == 2
    assert "size is 31" in result.output
