"""Films of every container, and how they are damaged: cut short, overwritten, torn out, flipped."""

import random
from pathlib import Path
from typing import Any

from tests.films import Film, make_film

_X264 = {"preset": "veryfast", "g": "25", "bf": "2", "sc_threshold": "0"}
#: What films are damaged: name → how it is made.
FORMS: dict[str, dict[str, Any]] = {
    "mp4": {"container": "mp4", "video_options": _X264},
    "mkv": {"container": "matroska", "video_options": _X264},
    "ts": {"container": "mpegts", "audio_codec": "mp2", "video_options": _X264},
    "flv": {"container": "flv", "video_options": _X264},
    "avi": {
        "container": "avi",
        "video_codec": "mpeg4",
        "audio_codec": "libmp3lame",
        "video_options": {},
    },
    "webm": {
        "container": "webm",
        "video_codec": "libvpx-vp9",
        "audio_codec": "libopus",
        "sample_rate_hz": 48_000,
        "video_options": {"cpu-used": "8", "deadline": "realtime"},
    },
    "ogg": {
        "container": "ogg",
        "video_codec": None,
        "audio_codec": "libopus",
        "sample_rate_hz": 48_000,
    },
    "mov": {
        "container": "mov",
        "video_codec": "mjpeg",
        "pixel_format": "yuvj420p",
        "audio_codec": "pcm_s16le",
        "video_options": {},
    },
}


def films(folder: Path, seconds: float, size: tuple[int, int]) -> list[bytes]:
    """A film of each form, in BT.709."""
    made = []
    for name, how in FORMS.items():
        film = Film(seconds=seconds, size=size, color=(1, 1), **how)
        made.append(make_film(folder / f"film.{name}", film).read_bytes())
    return made


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The film cut short, or with bytes replaced, missing, zeroed or flipped bit by bit."""
    content = bytearray(data)
    kind, at = dice.randrange(5), dice.randrange(len(content))
    if kind == 0:
        return bytes(content[:at])
    if kind == 1:
        length = dice.randrange(1, 2000)
        content[at : at + length] = dice.randbytes(length)
    elif kind == 2:
        del content[at : at + dice.randrange(1, 3000)]
    elif kind == 3:
        length = min(dice.randrange(1, 2000), len(content) - at)
        content[at : at + length] = bytes(length)
    else:
        for _ in range(dice.choice((1, 5, 40, 400))):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(content)
