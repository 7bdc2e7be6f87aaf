"""A clock that can be seen and heard: write it into pictures and sound, read it back from either.

Every picture says its own presentation time in sixteen black or white blocks, and their opposites
as a check. The sound is one stretch of noise that is known exactly, so that any window of it tells,
by correlation, when it is, to a few microseconds. Both survive lossy codecs and scaling.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TICK_SECONDS = 1e-4  # of the visible clock; sixteen bits reach 6.5 s
WIDTH, HEIGHT = 160, 96
_COLUMNS, _BITS = 8, 16
_DARK, _LIGHT = 40, 210

SOUND_SECONDS = 6
_BAND_HZ = (300.0, 5000.0)
_MASTER_HZ = 48_000


class UnreadableClockError(Exception):
    """A picture or a window of sound that shows no time."""


def picture(seconds: float) -> NDArray[np.uint8]:
    """A picture that shows a time: I420 planes stacked, [H·3/2, W]."""
    number = round(seconds / TICK_SECONDS)
    if not 0 <= number < 1 << _BITS:
        raise ValueError(f"{seconds} s does not fit the visible clock")
    bits = number >> np.arange(_BITS) & 1
    cells = np.concatenate([bits, 1 - bits]).reshape(-1, _COLUMNS)
    luma = np.where(cells, _LIGHT, _DARK).astype(np.uint8)
    luma = np.kron(luma, np.ones((HEIGHT // len(cells), WIDTH // _COLUMNS), np.uint8))
    return np.concatenate([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])


def read_picture(luma: NDArray[np.uint8]) -> float:
    """The time in seconds that a picture [H, W] of any size shows."""
    height, width = luma.shape
    num_rows = 2 * _BITS // _COLUMNS
    rows = (np.arange(num_rows) + 0.5) * height / num_rows
    columns = (np.arange(_COLUMNS) + 0.5) * width / _COLUMNS
    half = max(1, min(height // num_rows, width // _COLUMNS) // 4)
    cells = np.array(
        [
            [
                luma[int(y) - half : int(y) + half, int(x) - half : int(x) + half].mean()
                for x in columns
            ]
            for y in rows
        ]
    )
    bits, opposites = np.split((cells > (_DARK + _LIGHT) / 2).ravel().astype(int), 2)
    if (bits == opposites).any():
        raise UnreadableClockError("the picture shows no time: a block and its opposite agree")
    return float((bits << np.arange(_BITS)).sum() * TICK_SECONDS)


@lru_cache(maxsize=8)
def sound(sample_rate_hz: int) -> NDArray[np.float32]:
    """The whole sound, [6 s], the same function of time at every rate of at least 10 kHz."""
    count = SOUND_SECONDS * _MASTER_HZ
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / _MASTER_HZ)
    spectrum[(hertz < _BAND_HZ[0]) | (hertz > _BAND_HZ[1])] = 0
    wanted = SOUND_SECONDS * sample_rate_hz
    keep = wanted // 2 + 1
    resized = np.zeros(keep, np.complex128)
    resized[: min(keep, len(spectrum))] = spectrum[:keep]
    wave = np.fft.irfft(resized, wanted) * (wanted / count)
    loudest = 4.5 * np.sqrt((np.abs(spectrum) ** 2).sum() * 2) / count
    return np.asarray(np.clip(0.8 * wave / loudest, -0.95, 0.95), np.float32)


def read_audio(window: NDArray[np.float32], sample_rate_hz: int, near: float = 0.0) -> float:
    """The time in seconds at which a window [n] of the sound begins; 50 ms are enough.

    Args:
        window: a piece of the sound.
        sample_rate_hz: of the window.
        near: where to look first, in seconds.

    Raises:
        UnreadableClockError: the window is not one unbroken piece of the sound.
    """
    if len(window) < sample_rate_hz // 50:
        raise UnreadableClockError(f"{len(window)} samples are too few to tell the time by")
    whole = sound(sample_rate_hz)
    first = max(0, round((near - 0.1) * sample_rate_hz))
    stop = round((near + 0.1) * sample_rate_hz) + len(window)
    for start, piece in ((first, whole[first:stop]), (0, whole)):
        if len(piece) > len(window):
            place, match = _find(piece.astype(np.float64), window.astype(np.float64))
            if match > 0.9:
                return (start + place) / sample_rate_hz
    raise UnreadableClockError(f"the sound matches none of the clock's ({match:.2f})")


def _find(whole: NDArray[np.float64], piece: NDArray[np.float64]) -> tuple[float, float]:
    """Where in `whole` a `piece` is, between samples too, and how well it fits (1: exactly)."""
    size = 1 << (len(whole) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(piece, size)), size)
    products = products[: len(whole) - len(piece) + 1]
    best = int(products.argmax())
    there = whole[best : best + len(piece)]
    match = products[best] / (np.linalg.norm(there) * np.linalg.norm(piece) + 1e-12)
    if not 0 < best < len(products) - 1:
        return best, float(match)
    before, peak, after = products[best - 1 : best + 2]
    return best + 0.5 * float((before - after) / (before - 2 * peak + after)), float(match)
