"""Handwritten digits and recordings of spoken ones: those of the package, or a folder of one's own.

    digit_data/digits.npz      pictures, and where each recording lies  (MNIST)
    digit_data/spoken.opus     recordings, end to end  (Free Spoken Digit Dataset)

A folder holds two NumPy archives; all else in it is left alone, but for a README.md, which is
passed on as the attribution:

    digit_images.npz    images uint8 [P, 28, 28], digit uint8 [P]
    spoken_digits.npz   samples int16 (all recordings, end to end), offsets int64 [N + 1] (where
                        each begins, and the end), digit uint8 [N], speaker uint8 [N],
                        sample_rate_hz 8000

Legend: P pictures, N recordings, S samples of a recording.
"""

import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

DATA: Final = Path(__file__).parent / "digit_data"
RATE_HZ: Final = 48_000  # what an Opus decoder gives
TEST_SPEAKERS: Final = (4, 5)
TEST_PICTURES: Final = 40  # of each digit, the first
LONGEST_SECONDS: Final = 0.9
_SPOKEN_RATE_HZ: Final = 8_000
_LARGEST_BYTES: Final = 2**30
_Archive = dict[str, npt.NDArray[Any]]
# array → its type, and its shape behind the first axis
_Expected = dict[str, tuple[str, tuple[int, ...]]]
_IMAGES: Final[_Expected] = {"images": ("uint8", (28, 28)), "digit": ("uint8", ())}
_SPOKEN: Final[_Expected] = {
    "samples": ("int16", ()),
    "offsets": ("int64", ()),
    "digit": ("uint8", ()),
    "speaker": ("uint8", ()),
}


class MaterialError(ValueError):
    """A folder that holds no digits to make videos of; the message says what does not fit."""


@dataclass(frozen=True)
class Material:
    """What videos are made of.

    Attributes:
        pictures: uint8 [P, 28, 28], of `picture_digits` [P].
        recordings: float32 [S] each, at 48 kHz, of `spoken_digits` [N] by `speakers` [N].
        attribution: where all this is from, and its licences.
    """

    pictures: npt.NDArray[np.uint8]
    picture_digits: npt.NDArray[np.uint8]
    recordings: list[npt.NDArray[np.float32]]
    spoken_digits: npt.NDArray[np.uint8]
    speakers: npt.NDArray[np.uint8]
    attribution: str


def packaged_material() -> Material:
    """Read what comes with the package: 1,900 pictures, 1,820 recordings."""
    import av

    with np.load(DATA / "digits.npz", allow_pickle=False) as archive:
        columns = {name: archive[name] for name in archive.files}
    with av.open(str(DATA / "spoken.opus")) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    step = RATE_HZ // _SPOKEN_RATE_HZ
    spans = zip(columns["start"].tolist(), columns["length"].tolist(), strict=True)
    return Material(
        columns["images"],
        columns["image_digit"],
        [sound[start * step : (start + length) * step] for start, length in spans],
        columns["spoken_digit"],
        columns["speaker"],
        (DATA / "ATTRIBUTION.txt").read_text(encoding="utf-8"),
    )


def material_of(folder: Path) -> Material:
    """Read the digits of a folder (see above); recordings over 0.9 s are left out.

    Raises:
        MaterialError: a file or array that is missing or does not fit; too few of a digit.
    """
    from scipy.signal import resample_poly

    images = _read(folder / "digit_images.npz", _IMAGES)
    spoken = _read(folder / "spoken_digits.npz", _SPOKEN)
    where = folder / "spoken_digits.npz"
    rate = spoken.get("sample_rate_hz", np.array(_SPOKEN_RATE_HZ))
    if rate.tolist() != _SPOKEN_RATE_HZ:
        raise MaterialError(
            f"{where}: sample_rate_hz is {rate.tolist()}, must be {_SPOKEN_RATE_HZ}"
        )
    offsets, counts = spoken["offsets"], (len(spoken["digit"]), len(spoken["speaker"]))
    if counts != (len(offsets) - 1,) * 2 or len(images["images"]) != len(images["digit"]):
        raise MaterialError(
            f"{folder}: {len(images['images'])} images with {len(images['digit'])} digits, and "
            f"{len(offsets)} offsets with {counts[0]} digits and {counts[1]} speakers; each image "
            "needs a digit, and each recording a digit, a speaker and an offset, and one more"
        )
    if (offsets[0], offsets[-1]) != (0, len(spoken["samples"])) or (np.diff(offsets) <= 0).any():
        raise MaterialError(
            f"{where}: offsets must rise from 0 to {len(spoken['samples'])}, the number of samples"
        )
    fits = np.flatnonzero(np.diff(offsets) <= LONGEST_SECONDS * _SPOKEN_RATE_HZ)
    spans = list(pairwise(offsets.tolist()))
    sound = spoken["samples"].astype(np.float32) / 2**15
    step = RATE_HZ // _SPOKEN_RATE_HZ
    readme = folder / "README.md"
    material = Material(
        images["images"],
        images["digit"],
        [resample_poly(sound[slice(*spans[n])], step, 1) for n in fits],
        spoken["digit"][fits],
        spoken["speaker"][fits],
        readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else f"{folder}\n",
    )
    _check_counts(folder, material)
    return material


def _read(path: Path, expected: _Expected) -> _Archive:
    try:
        with zipfile.ZipFile(path) as members:
            num_bytes = sum(member.file_size for member in members.infolist())
        if num_bytes > _LARGEST_BYTES:
            raise MaterialError(f"{path}: {num_bytes} bytes, unpacked; at most {_LARGEST_BYTES}")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name in expected}
            if "sample_rate_hz" in archive.files:
                arrays["sample_rate_hz"] = archive["sample_rate_hz"]
    except MaterialError:
        raise
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise MaterialError(f"{path}: cannot be read as an .npz archive: {reason}") from error
    for name, (dtype, shape) in expected.items():
        got = arrays.get(name)
        if got is None or (got.dtype, got.shape[1:]) != (dtype, shape) or not got.ndim:
            has = "none of that name" if got is None else f"{got.dtype} {list(got.shape)}"
            wanted = f"{dtype} {['any', *shape]}".replace("'", "")
            raise MaterialError(f"{path}: array {name} must be {wanted}, got {has}")
    return arrays


def _check_counts(folder: Path, material: Material) -> None:
    """Every digit needs pictures and voices on both sides of the split."""
    is_test = np.isin(material.speakers, TEST_SPEAKERS)
    for digit in range(10):
        pictures = int((material.picture_digits == digit).sum())
        spoken = material.spoken_digits == digit
        heard, held_out = int((spoken & ~is_test).sum()), int((spoken & is_test).sum())
        if pictures <= TEST_PICTURES or not heard or not held_out:
            raise MaterialError(
                f"{folder}: digit {digit} has {pictures} images, {heard} recordings to train on "
                f"and {held_out} by the speakers {TEST_SPEAKERS}, who are held out; it needs more "
                f"than {TEST_PICTURES} images, and recordings of both kinds"
            )
