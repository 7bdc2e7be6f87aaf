"""A clock that starts anew goes on: packet by packet, and in films joined end to end."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from shards import BuildOptions
from shards.encoding.transcode import transcode
from shards.media.continuous_clock import ContinuousClock
from shards.media.probe import probe
from shards.storage.opening import Location
from tests.shards.encoding.test_transcode import clips, numbers, planned, tones, units

OPTIONS = BuildOptions(clip_seconds=1.0, fps=25.0)


@dataclass
class Packet:
    stream_index: int
    dts: int | None
    pts: int | None = None
    duration: int = 100
    time_base: Fraction = Fraction(1, 1000)


def placed(packets: list[Packet], may_jump_ahead: bool = True) -> list[int | None]:
    clock = ContinuousClock(may_jump_ahead)
    for packet in packets:
        clock.place(packet)
    return [packet.dts for packet in packets]


def test_a_part_goes_on_where_the_one_before_ended() -> None:
    first = [Packet(0, n * 100, n * 100 + 40) for n in range(5)]
    second = [Packet(0, n * 100, n * 100 + 40) for n in range(5)]
    assert placed(first + second) == [n * 100 for n in range(10)]
    assert [packet.pts for packet in second] == [540 + n * 100 for n in range(5)]


def test_all_streams_of_a_part_are_moved_by_as_much() -> None:
    # sound of the first part is read after the picture of the second has begun, and ends later
    times = [(0, 0), (1, 0), (0, 500), (0, 0), (1, 500), (1, 600), (1, 30), (0, 500)]
    moved = placed([Packet(stream, time) for stream, time in times])
    assert moved == [0, 0, 500, 600, 500, 600, 630, 1100]


@pytest.mark.parametrize("other", [None, 1])
def test_a_jump_ahead_is_a_part_where_no_stream_is_there_yet(other: int | None) -> None:
    before = [Packet(0, n * 100) for n in range(3)]
    if other is not None:  # sound goes on through a hole in the pictures
        before += [Packet(1, n * 100) for n in range(200)]
    after = Packet(0, 20_000)
    moved = placed([*before, after])
    assert moved[-1] == (300 if other is None else 20_000)
    assert placed([Packet(0, 0), Packet(0, 20_000)], may_jump_ahead=False) == [0, 20_000]


def test_one_wrong_time_does_not_move_what_follows() -> None:
    times = [0, 100, 200, -5000, 400, 500]
    assert placed([Packet(0, time) for time in times]) == [0, 100, 200, 300, 400, 500]


def test_a_packet_without_a_time_is_moved_with_its_part() -> None:
    packets = [Packet(0, 0), Packet(0, 500), Packet(0, 0), Packet(0, None, 60)]
    placed(packets)
    assert packets[-1].pts == 660


def test_a_pause_and_a_small_step_back_are_no_jump() -> None:
    assert placed([Packet(0, t) for t in (0, 100, 50, 9_000)]) == [0, 100, 50, 9_000]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("x.ts", {"container": "mpegts"}),
        ("x.mpg", {"container": "mpeg", "video_codec": "mpeg2video", "audio_codec": "mp2"}),
        ("x.mkv", {"container": "matroska"}),
    ],
)
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_joined_recordings_come_out_whole_with_their_own_audio(
    film: Callable[..., Path], tmp_path: Path, name: str, settings: dict[str, Any], order: str
) -> None:
    # the second is on a clock that is elsewhere, where its container can say so
    elsewhere = {"output_ts_offset": "50"} if name == "x.ts" else {}
    parts = {
        "a": film(f"a{name}", seconds=3, **settings),
        "b": film(f"b{name}", seconds=2, container_options=elsewhere, **settings),
    }
    joined = tmp_path / f"joined-{name}"
    joined.write_bytes(b"".join(parts[part].read_bytes() for part in order))
    found = probe(Location(str(joined)))
    assert found.clock_jumps
    assert found.duration_seconds == pytest.approx(5, abs=0.1)
    made = clips(joined, OPTIONS).samples
    assert len(made) >= 4
    shown = [n for clip in made for n in numbers(clip.members)]
    expected = [*range(75), *range(50)] if order == "ab" else [*range(50), *range(75)]
    step = 75 if order == "ab" else 50
    assert shown[: step - 3] == expected[: step - 3]
    # where the second begins is off by what the first's sound lasts longer than its picture
    begin = shown.index(0, step - 3)
    assert abs(begin - step) <= 2
    assert shown[begin:] == expected[step : step + len(shown) - begin]
    heard = [n + tone for n, clip in enumerate(made) for tone in tones(clip.members)]
    for time in heard:
        into = time - (begin / 25 if time > begin / 25 - 0.1 else 0)
        assert abs(into - round(into)) < 0.045
    assert len(heard) >= len(made)


def test_a_joined_recording_in_many_units_is_the_one_in_one(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    parts = [film(f"{n}.ts", seconds=3, container="mpegts").read_bytes() for n in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    whole = clips(joined, OPTIONS).samples
    short = BuildOptions(clip_seconds=1.0, fps=25.0, seconds_per_unit=1.0)
    many = [sample for unit in units(joined, short) for sample in transcode(unit, short).samples]
    assert len(units(joined, short)) == planned(joined).found.probe.duration_seconds // 1
    assert [s.members["mp4"] for s in many] == [s.members["mp4"] for s in whole]


def test_a_joined_recording_may_number_its_streams_otherwise(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    first = film("a.ts", seconds=3, container="mpegts")
    other = {"mpegts_start_pid": "0x200"}
    second = film("b.ts", seconds=3, container="mpegts", container_options=other)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    found = probe(Location(str(joined)))
    assert found.duration_seconds == pytest.approx(6, abs=0.1)
    shown = [n for clip in clips(joined, OPTIONS).samples for n in numbers(clip.members)]
    assert shown[:72] == [*range(72)]
    assert shown[-40:] == [*range(shown[-40], shown[-40] + 40)]
