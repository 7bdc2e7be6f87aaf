"""Digits of a folder: read as they are, or refused with the one thing that does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.sample_data.digit_material import MaterialError, material_of

NUM_IMAGES = 41  # of each digit
SECONDS = (0.1, 0.2, 0.95)  # of each digit: a speaker to train on, one held out, one too long
Arrays = dict[str, Any]


def images() -> Arrays:
    digit = np.arange(10).repeat(NUM_IMAGES).astype(np.uint8)
    return {"images": digit[:, None, None].repeat(28, 1).repeat(28, 2), "digit": digit}


def spoken() -> Arrays:
    lengths = [int(8000 * seconds) for _ in range(10) for seconds in SECONDS]
    times = [np.arange(length) / 8000 for length in lengths]
    tones = [np.sin(2 * np.pi * 500 * t) for t in times]
    return {
        "samples": (16_000 * np.concatenate(tones)).astype(np.int16),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "digit": np.arange(10).repeat(3).astype(np.uint8),
        "speaker": np.tile([0, 4, 1], 10).astype(np.uint8),
        "sample_rate_hz": np.array(8000),
    }


def write(folder: Path, *, of_images: Arrays, of_spoken: Arrays) -> Path:
    np.savez(folder / "digit_images.npz", **of_images)
    np.savez(folder / "spoken_digits.npz", **of_spoken)
    return folder


def test_a_folder_is_read_at_48_khz_without_what_is_too_long(tmp_path: Path) -> None:
    material = material_of(write(tmp_path, of_images=images(), of_spoken=spoken()))
    assert np.bincount(material.picture_digits).tolist() == [NUM_IMAGES] * 10
    assert material.pictures[:, 3, 4].tolist() == material.picture_digits.tolist()
    assert material.speakers.tolist() == [0, 4] * 10
    assert [len(recording) for recording in material.recordings] == [4800, 9600] * 10
    tone = 16_000 / 2**15 * np.sin(2 * np.pi * 500 * np.arange(4800) / 48_000)
    middle = slice(480, -480)  # the filter rings at the ends
    np.testing.assert_allclose(material.recordings[0][middle], tone[middle], atol=2e-3)


def without(arrays: Arrays, name: str) -> Arrays:
    return {key: value for key, value in arrays.items() if key != name}


WRONG: dict[str, tuple[Arrays, Arrays]] = {
    r"digit_images.npz: array images must be uint8 \[any, 28, 28\], got float64 \[410, 28, 28\]": (
        images() | {"images": images()["images"] * 1.0},
        spoken(),
    ),
    r"digit_images.npz: array digit must be uint8 \[any\], got none of that name": (
        without(images(), "digit"),
        spoken(),
    ),
    r"spoken_digits.npz: cannot be read as an .npz archive: Object arrays": (
        images(),
        spoken() | {"samples": np.array([None])},
    ),
    r"sample_rate_hz is 16000, must be 8000": (
        images(),
        spoken() | {"sample_rate_hz": np.array(16000)},
    ),
    r"410 images with 410 digits, and 30 offsets with 30 digits and 30 speakers": (
        images(),
        spoken() | {"offsets": spoken()["offsets"][:-1]},
    ),
    r"offsets must rise from 0 to 100000, the number of samples": (
        images(),
        spoken() | {"offsets": spoken()["offsets"][::-1]},
    ),
    r"digit 7 has 41 images, 2 recordings to train on and 0 by the speakers \(4, 5\)": (
        images(),
        spoken() | {"speaker": np.array(([0, 4, 1] * 7 + [0, 1, 1] * 3), np.uint8)},
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_fit_is_refused(tmp_path: Path, message: str) -> None:
    of_images, of_spoken = WRONG[message]
    with pytest.raises(MaterialError, match=message):
        material_of(write(tmp_path, of_images=of_images, of_spoken=of_spoken))


def test_a_folder_without_digits_is_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["samples", "digits", "--out", str(tmp_path / "out"), "--source", str(tmp_path)]
    )
    assert done.exit_code == 2
    wanted = "digit_images.npz: cannot be read as an .npz archive: No such file or directory"
    assert wanted in done.output.replace("\n", "")
    assert not (tmp_path / "out").exists()
