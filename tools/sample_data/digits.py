"""Real handwriting and real voices as videos: a picture of a digit drifts by while it is spoken.

    digit_data/digits.npz      pictures, and where each recording lies  (MNIST)
    digit_data/spoken.opus     recordings, end to end  (Free Spoken Digit Dataset)

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
from shutil import copyfile
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.sample_data.synthetic import SyntheticOptions, write_video

DATA: Final = Path(__file__).parent / "digit_data"
TEST_SPEAKERS: Final = (4, 5)
_TEST_PICTURES: Final = 40  # of the 190 of each digit
_RATE: Final = 48_000  # what an Opus decoder gives
_FORM: Final = SyntheticOptions(seconds=1.0, size=64, frames_per_second=10, sample_rate_hz=_RATE)


@dataclass(frozen=True)
class Material:
    """What videos are made of.

    Attributes:
        pictures: uint8 [P, 28, 28], of `picture_digits` [P].
        recordings: float32 [S] each, at 48 kHz, of `spoken_digits` [N] by `speakers` [N].
    """

    pictures: npt.NDArray[np.uint8]
    picture_digits: npt.NDArray[np.uint8]
    recordings: list[npt.NDArray[np.float32]]
    spoken_digits: npt.NDArray[np.uint8]
    speakers: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DigitVideo:
    """What one video shows and plays: numbers of a picture and a recording in `Material`."""

    name: str
    digit: int
    picture: int
    recording: int


def read_material(folder: Path = DATA) -> Material:
    """Read what comes with the package."""
    import av

    with np.load(folder / "digits.npz", allow_pickle=False) as archive:
        columns = {name: archive[name] for name in archive.files}
    with av.open(str(folder / "spoken.opus")) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    step = _RATE // 8000
    spans = zip(columns["start"].tolist(), columns["length"].tolist(), strict=True)
    recordings = [sound[start * step : (start + length) * step] for start, length in spans]
    return Material(
        columns["images"],
        columns["image_digit"],
        recordings,
        columns["spoken_digit"],
        columns["speaker"],
    )


def draw_videos(material: Material, folder: str, count: int, seed: int) -> list[DigitVideo]:
    """The videos of "train" or "val": digits in turn, each recording as seldom as may be."""
    rng = np.random.default_rng([seed, *folder.encode()])
    is_test = np.isin(material.speakers, TEST_SPEAKERS)
    wanted = is_test if folder == "val" else ~is_test
    videos = []
    for digit in range(10):
        pictures = np.flatnonzero(material.picture_digits == digit)
        shown = pictures[:_TEST_PICTURES] if folder == "val" else pictures[_TEST_PICTURES:]
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
    sound = np.zeros(round(_FORM.seconds * _RATE), np.float32)
    delay = int(rng.integers(len(sound) - len(recording) + 1))
    sound[delay : delay + len(recording)] = recording
    return frames, sound


def build_digits(
    out: Path,
    num_train: int = 1500,
    num_val: int = 300,
    seed: int = 0,
    *,
    workers: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write out/train/*.mp4, out/val/*.mp4, out/labels.csv and ATTRIBUTION.txt.

    Args:
        out: the folder; it is made. Videos of the same names are written again.
        num_train: training videos, of four speakers.
        num_val: held-out videos, of two other speakers.
        seed: another one gives other videos.
        workers: threads; one for each core if None.
        report: gets (videos done, videos in all).

    Raises:
        ValueError: a number below 0.
    """
    for name, number in (("videos", num_train), ("val_videos", num_val), ("seed", seed)):
        if number < 0:
            raise ValueError(f"digits: {name} is {number}; allowed: 0 or more")
    material = read_material()
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
    copyfile(DATA / "ATTRIBUTION.txt", out / "ATTRIBUTION.txt")


def _write(out: Path, material: Material, seed: int, video: DigitVideo) -> None:
    rng = np.random.default_rng([seed, *video.name.encode()])
    picture, recording = material.pictures[video.picture], material.recordings[video.recording]
    write_video(out / video.name, *render_digit(picture, recording, rng), _FORM)
