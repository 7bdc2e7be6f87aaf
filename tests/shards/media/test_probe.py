"""How long a source lasts: what its header says, and what is there where the header is wrong."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards import BuildOptions
from shards.building.planned_source import PlannedSource
from shards.building.planning import REST, plan_source
from shards.building.survey import survey
from shards.media.probe import probe
from shards.sources.source import Source
from shards.storage.opening import Location

FORMS: dict[str, dict[str, Any]] = {
    "flv": {"container": "flv", "video_codec": "flv"},
    "mkv": {"container": "matroska"},
    "webm": {"container": "webm", "video_codec": "libvpx-vp9", "audio_codec": "libopus"}
    | {"sample_rate_hz": 48000, "video_options": {"deadline": "realtime", "cpu-used": "8"}},
    "avi": {"container": "avi", "video_codec": "mpeg4", "audio_codec": "mp2"},
    "wmv": {"container": "asf", "video_codec": "wmv2", "audio_codec": "mp2"},
}
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def declaring(data: bytes, form: str, seconds: float) -> bytes:
    """The same file, whose header says that it lasts `seconds`."""
    changed = bytearray(data)
    if form == "flv":
        place = data.index(b"\x00\x08duration\x00") + 11
        changed[place : place + 8] = struct.pack(">d", seconds)
    elif form in ("mkv", "webm"):
        place = data.index(b"\x44\x89\x88") + 3
        changed[place : place + 8] = struct.pack(">d", seconds * 1000)
    elif form == "avi":
        place = data.index(b"avih") + 8 + 16
        changed[place : place + 4] = struct.pack("<I", round(seconds * 25))
        place = data.index(b"strh") + 8 + 32
        changed[place : place + 4] = struct.pack("<I", round(seconds * 25))
    else:
        place = data.index(_FILE_PROPERTIES) + 16 + 8 + 16 + 8 + 8 + 8
        changed[place : place + 16] = struct.pack("<QQ", *[round((seconds + 3.1) * 1e7)] * 2)
        if not seconds:
            changed[place : place + 16] = bytes(16)
    assert len(changed) == len(data)
    return bytes(changed)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("declared", [0.0, 1.0, 2.5])
def test_packets_after_the_declared_end_are_read(
    film: Callable[..., Path], form: str, declared: float
) -> None:
    path = film(f"a.{form}", seconds=4, **FORMS[form])
    as_it_is = probe(Location(str(path))).duration_seconds
    assert as_it_is == pytest.approx(4, abs=0.09)
    path.write_bytes(declaring(path.read_bytes(), form, declared))
    found = probe(Location(str(path)))
    assert found.duration_seconds == pytest.approx(4, abs=0.05)
    assert not found.clock_jumps


def test_a_length_that_is_declared_too_long_is_believed(film: Callable[..., Path]) -> None:
    # what is missing is then counted, as for a file that was cut short
    path = film("a.mkv", seconds=4, **FORMS["mkv"])
    path.write_bytes(declaring(path.read_bytes(), "mkv", 9))
    assert probe(Location(str(path))).duration_seconds == pytest.approx(9, abs=0.05)


@pytest.mark.parametrize("form", ["flv", "wmv"])
def test_what_a_demuxer_does_not_read_after_the_end_is_counted(
    film: Callable[..., Path], form: str
) -> None:
    """Some formats end for FFmpeg where the header of a second, joined recording comes."""
    path = film(f"a.{form}", seconds=4, **FORMS[form])
    assert not probe(Location(str(path))).has_unread_rest
    path.write_bytes(path.read_bytes() * 5)
    assert probe(Location(str(path))).has_unread_rest
    planned = planned_whole(path)
    assert planned.skipped_clips[REST] == 1


def planned_whole(path: Path) -> PlannedSource:
    source = Source(path.name, Location(str(path)))
    options = BuildOptions(clip_seconds=1.0)
    planned = plan_source(1, source, survey(source, options), options)
    assert PlannedSource.from_json(planned.to_json()) == planned
    return planned
