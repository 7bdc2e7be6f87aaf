"""Real handwriting and real voices as videos: a picture of a digit drifts by while it is spoken.

Picture and voice have the digit in common and nothing else. Speakers, recordings and pictures of
the held-out videos are in none of the training videos. Each video draws its own picture, recording,
path and delay from (seed, folder, number); files are real mp4s, H.264 and AAC.

Legend: T frames, S audio samples.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.sample_data.digit_material import (
    RATE_HZ,
    TEST_PICTURES,
    TEST_SPEAKERS,
    Material,
    packaged_material,
)
from tools.sample_data.ranges import check
from tools.sample_data.synthetic import SyntheticOptions, write_video

_FORM: Final = SyntheticOptions(seconds=1.0, size=64, frames_per_second=10, sample_rate_hz=RATE_HZ)


@dataclass(frozen=True)
class DigitVideo:
    """What one video shows and plays: numbers of a picture and a recording in `Material`."""

    name: str
    digit: int
    picture: int
    recording: int


def draw_videos(material: Material, folder: str, count: int, seed: int) -> list[DigitVideo]:
    """The videos of "train" or "val": digits in turn, each recording as seldom as may be."""
    rng = np.random.default_rng([seed, *folder.encode()])
    is_test = np.isin(material.speakers, TEST_SPEAKERS)
    wanted = is_test if folder == "val" else ~is_test
    videos = []
    for digit in range(10):
        pictures = np.flatnonzero(material.picture_digits == digit)
        shown = pictures[:TEST_PICTURES] if folder == "val" else pictures[TEST_PICTURES:]
        spoken = np.flatnonzero(wanted & (material.spoken_digits == digit))
        numbers = range(digit, count, 10)
        turns = zip(numbers, _turns(rng, shown), _turns(rng, spoken), strict=False)
        videos += [DigitVideo(f"{folder}/{folder}_{n:05d}.mp4", digit, p, r) for n, p, r in turns]
    return sorted(videos, key=lambda video: video.name)


def _turns(rng: np.random.Generator, numbers: npt.NDArray[np.intp]) -> Iterator[int]:
    while True:
        yield from rng.permutation(numbers).tolist()


def render_digit(
    picture: npt.NDArray[np.uint8],
    recording: npt.NDArray[np.float32],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Frames uint8 [T, 64, 64, 3] of a picture twice its size that drifts, and sound [S]."""
    side, num_frames = _FORM.size, round(_FORM.seconds * _FORM.frames_per_second)
    large = picture.repeat(2, axis=0).repeat(2, axis=1)
    room = side - len(large)
    path = np.linspace(rng.uniform(0, room, 2), rng.uniform(0, room, 2), num_frames)
    frames = np.zeros((num_frames, side, side, 3), np.uint8)
    for frame, (top, left) in zip(frames, path.round().astype(int), strict=True):
        frame[top : top + len(large), left : left + len(large)] = large[..., None]
    sound = np.zeros(round(_FORM.seconds * RATE_HZ), np.float32)
    delay = int(rng.integers(len(sound) - len(recording) + 1))
    sound[delay : delay + len(recording)] = recording
    return frames, sound


def build_digits(
    out: Path,
    num_train: int = 1500,
    num_val: int = 300,
    seed: int = 0,
    *,
    material: Material | None = None,
    workers: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write out/train/*.mp4, out/val/*.mp4, out/labels.csv and ATTRIBUTION.txt.

    Args:
        out: the folder; it is made. Videos of the same names are written again.
        num_train: training videos, of four speakers.
        num_val: held-out videos, of two other speakers.
        seed: another one gives other videos.
        material: pictures and voices; those of the package if None.
        workers: threads; one for each core if None.
        report: gets (videos done, videos in all).

    Raises:
        ValueError: a number below 0.
    """
    check(
        "digits",
        (num_train >= 0, "videos", num_train, "0 or more"),
        (num_val >= 0, "val_videos", num_val, "0 or more"),
        (seed >= 0, "seed", seed, "0 or more"),
    )
    material = material or packaged_material()
    videos = draw_videos(material, "train", num_train, seed)
    videos += draw_videos(material, "val", num_val, seed)
    for folder in ("train", "val"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with ThreadPool(workers) as pool:
        write = partial(_write, out, material, seed)
        for done, _ in enumerate(pool.imap_unordered(write, videos), start=1):
            report(done, len(videos))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "speaker", "picture", "recording"])
        for video in videos:
            speaker = material.speakers[video.recording]
            writer.writerow([video.name, video.digit, speaker, video.picture, video.recording])
    (out / "ATTRIBUTION.txt").write_text(material.attribution, encoding="utf-8")


def _write(out: Path, material: Material, seed: int, video: DigitVideo) -> None:
    rng = np.random.default_rng([seed, *video.name.encode()])
    picture, recording = material.pictures[video.picture], material.recordings[video.recording]
    write_video(out / video.name, *render_digit(picture, recording, rng), _FORM)
