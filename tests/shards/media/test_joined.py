"""Two recordings in one file: both are read, or it is counted that the second is not."""

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.building.planning import REST
from shards.errors import SourceError
from shards.media.demux import demux_tracks
from shards.media.joined import second_recording
from shards.media.probe import probe
from shards.storage.opening import Location
from tests.films import Film, make_film
from tests.shards.media.test_probe import planned_whole

FRAGMENTS = {"container_options": {"movflags": "frag_keyframe+empty_moov"}}
MPEG2 = {"video_codec": "mpeg2video", "audio_codec": "mp2"}
#: Container → how its films are made, and whether both parts of a joined one are read.
FORMS: dict[str, tuple[dict[str, Any], bool]] = {
    "mp4": ({}, False),
    "faststart.mp4": ({"container_options": {"movflags": "faststart"}}, False),
    "pieces.mp4": (FRAGMENTS, True),
    "mov": ({"container": "mov"}, False),
    "3gp": ({"container": "3gp", "video_codec": "mpeg4"}, False),
    "avi": ({"container": "avi", "video_codec": "mpeg4", "audio_codec": "mp2"}, True),
    "mkv": ({"container": "matroska"}, True),
    "flv": ({"container": "flv", "video_codec": "flv", "audio_codec": "libmp3lame"}, False),
    "ts": ({"container": "mpegts"} | MPEG2, True),
    "mpg": ({"container": "mpeg"} | MPEG2, True),
    "nut": ({"container": "nut", "video_codec": "mpeg4", "audio_codec": "mp2"}, True),
    "mxf": ({"container": "mxf", "sample_rate_hz": 48000} | MPEG2 | {"audio_codec": "pcm_s16le"},
            False),
    "ivf": ({"container": "ivf", "video_codec": "libvpx", "audio_codec": None}, False),
}  # fmt: skip
SMALL: dict[str, Any] = {"size": (96, 64), "video_options": {}}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """The bytes of a film of some form and length."""
    made: dict[tuple[str, int], bytes] = {}
    folder = tmp_path_factory.mktemp("parts")

    def of(form: str, seconds: int) -> bytes:
        if (form, seconds) not in made:
            what = Film(seconds=seconds, **{**SMALL, **FORMS[form][0]})
            made[form, seconds] = make_film(folder / f"{seconds}.{form}", what).read_bytes()
        return made[form, seconds]

    return of


@pytest.mark.parametrize("order", [(3, 2), (2, 3)])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_joined_is_read_or_counted(
    make: Callable[..., bytes], tmp_path: Path, form: str, order: tuple[int, int]
) -> None:
    path = tmp_path / f"joined.{form}"
    path.write_bytes(make(form, order[0]))
    assert not probe(Location(str(path))).has_unread_rest
    path.write_bytes(make(form, order[0]) + make(form, order[1]))
    found = probe(Location(str(path)))
    is_read = FORMS[form][1]
    assert found.has_unread_rest is not is_read
    seconds = sum(order) if is_read else order[0]
    assert float(found.duration_seconds) == pytest.approx(seconds, abs=0.15)
    if FORMS[form][0].get("audio_codec", "") is not None:
        assert planned_whole(path).skipped_clips.get(REST, 0) == int(not is_read)


@pytest.mark.parametrize(
    ("forms", "is_read"),
    [
        (("pieces.mp4", "mp4"), False),
        (("pieces.mp4", "faststart.mp4"), False),
        (("pieces.mp4", "pieces.mp4"), True),
        (("faststart.mp4", "mp4"), False),
    ],
)
def test_films_in_pieces_beside_plain_ones(
    make: Callable[..., bytes], tmp_path: Path, forms: tuple[str, str], is_read: bool
) -> None:
    path = tmp_path / "joined.mp4"
    path.write_bytes(make(forms[0], 3) + make(forms[1], 2))
    found = probe(Location(str(path)))
    assert found.has_unread_rest is not is_read
    assert float(found.duration_seconds) == pytest.approx(5 if is_read else 3, abs=0.15)


def test_a_plain_film_before_one_in_pieces_is_a_skip_with_its_cause(
    make: Callable[..., bytes], tmp_path: Path
) -> None:
    path = tmp_path / "joined.mp4"
    path.write_bytes(make("mp4", 3) + make("pieces.mp4", 2))
    with pytest.raises(SourceError, match="the header cannot be read"):
        probe(Location(str(path)))


@pytest.mark.parametrize("form", ["mp4", "mov", "mxf", "ivf"])
def test_an_index_is_of_the_first_alone(make: Callable[..., bytes], form: str) -> None:
    """FFmpeg takes packets of a second MXF for its first one's, at the time of its last frame."""
    first, both = make(form, 3), make(form, 3) + make(form, 2)
    alone, joined = demux_tracks(first, form), demux_tracks(both, form)
    for one, other in zip(alone, joined, strict=True):
        assert (one.offset == other.offset).all()
        assert (one.pts == other.pts).all()


def test_a_movie_with_more_than_one_box_of_media_is_one() -> None:
    def box(kind: bytes, size: int = 8) -> bytes:
        return struct.pack(">I4s", size, kind) + bytes(size - 8)

    def at(*kinds: bytes, end: bytes = b"") -> int | None:
        return second_recording(io.BytesIO(b"".join(map(box, kinds)) + end), "mov")

    assert at(b"ftyp", b"mdat", b"mdat", b"free", b"moov", b"udta") is None
    assert at(b"ftyp", b"moov", b"mdat", b"free", b"mdat") is None
    assert at(b"ftyp", b"moov", b"moof", b"mdat", b"styp", b"moof", b"mdat", b"mfra") is None
    assert at(b"moov", b"mdat", b"moov") == 16
    assert at(b"ftyp", b"mdat", b"moov", b"free", b"ftyp") == 32
    assert at(b"ftyp", b"moov", b"mdat", end=struct.pack(">I4sQ", 1, b"free", 1 << 63)) is None
    assert at(b"ftyp", b"moov", end=struct.pack(">I4s", 0, b"mdat") + box(b"moov")) is None
    assert at(b"ftyp", end=b"\0\0") is None


@pytest.mark.parametrize("demuxer", ["mov", "mxf", "ivf", "flv", "asf", "ogg", "avi"])
def test_no_bytes_are_too_odd(demuxer: str, make: Callable[..., bytes]) -> None:
    data = make(demuxer if demuxer in FORMS else "mxf", 2)
    for cut in (0, 1, 16, 17, 40, 64, 95, len(data) // 2, len(data) - 1):
        assert second_recording(io.BytesIO(data[:cut]), demuxer, last=0) in (None, 0)
        for filler in (b"\xff", b"\0"):
            second_recording(io.BytesIO(data[:cut] + filler * 100), demuxer, last=0)
