"""Opening sources, against the bytes they were made of; URLs against a server on loopback."""

import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.range_server import Fault, RangeServer, Request
from shards import BuildOptions, RemoteOptions, SourceError
from shards.building.clip_plan import cut_shards
from shards.building.planning import plan_source
from shards.building.survey import Survey
from shards.encoding.transcode import Unit, UnitResult, transcode
from shards.media.probe import probe
from shards.media.source_reader import Decoded, SourceReader
from shards.sources.source import Source
from shards.storage import remote_file
from shards.storage.opening import Identity, Location, open_source

QUICK = RemoteOptions(attempts=2, backoff_seconds=0.001)
OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64)


@pytest.fixture
def noise(tmp_path: Path) -> bytes:
    data = random.Random(1).randbytes(5 * remote_file.BLOCK_BYTES + 777)
    (tmp_path / "noise.bin").write_bytes(data)
    return data


def place(tmp_path: Path, server: RangeServer, kind: str, size: int) -> tuple[Location, slice]:
    file, url = str(tmp_path / "noise.bin"), f"{server.url}/noise.bin"
    return {
        "file": (Location(file), slice(0, size)),
        "file URL": (Location("file://" + file), slice(0, size)),
        "member": (Location(file, 512, 300_000), slice(512, 300_512)),
        "URL": (Location(url), slice(0, size)),
        "member of a URL": (Location(url, 512, 300_000), slice(512, 300_512)),
    }[kind]


@pytest.mark.parametrize("kind", ["file", "file URL", "member", "URL", "member of a URL"])
def test_every_place_is_read_as_the_file_it_stands_for(
    kind: str, noise: bytes, tmp_path: Path
) -> None:
    with RangeServer(tmp_path) as server:
        location, part = place(tmp_path, server, kind, len(noise))
        expected, dice = noise[part], random.Random(2)
        with open_source(location, QUICK) as source:
            assert source.identity().size == len(expected)
            for _ in range(60):
                start, count = dice.randrange(len(expected) + 99), dice.randrange(400_000)
                assert source.file.seek(start) == start
                assert source.file.read(count) == expected[start : start + count]
                assert source.file.tell() == max(start, min(start + count, len(expected)))
            assert source.file.seek(-5, os.SEEK_END) == len(expected) - 5
            assert source.file.read() == expected[-5:]
            assert source.sha256() == hashlib.sha256(expected).hexdigest()
        assert Location(*location.as_list()) == location  # type: ignore[arg-type]


def asked(server: RangeServer, size: int) -> int:
    """Bytes asked for of a file; those sent are counted only after they came."""
    stops = [size if r.last is None else min(size, r.last + 1) for r in server.requests]
    return sum(stops) - sum(r.first for r in server.requests)


def test_an_empty_member_is_empty(noise: bytes, tmp_path: Path) -> None:
    with RangeServer(tmp_path) as server:
        for path in (str(tmp_path / "noise.bin"), f"{server.url}/noise.bin"):
            with open_source(Location(path, 512, 0), QUICK) as source:
                assert source.file.read() == b""
                assert source.identity().size == 0
                assert source.sha256() == hashlib.sha256(b"").hexdigest()


def test_any_protocol_of_fsspec_is_read(noise: bytes) -> None:
    memory = pytest.importorskip("fsspec").filesystem("memory")
    memory.pipe_file("/noise.bin", noise)
    for place, expected in (((), noise), ((512, 300_000), noise[512:300_512])):
        with open_source(Location("memory://noise.bin", *place), QUICK) as source:
            assert source.file.read() == expected
    memory.rm("/noise.bin")


def test_a_remote_member_costs_its_own_bytes(noise: bytes, tmp_path: Path) -> None:
    with RangeServer(tmp_path) as server:
        place = Location(f"{server.url}/noise.bin", 3 * remote_file.BLOCK_BYTES, 1000)
        with open_source(place, QUICK) as source:
            assert source.sha256() == hashlib.sha256(noise[place.offset :][:1000]).hexdigest()
        assert asked(server, len(noise)) == 1000


def test_what_is_no_part_is_refused() -> None:
    with pytest.raises(ValueError, match="an offset and a size, neither negative"):
        Location("x.tar", 512)
    assert str(Location("s3://me:secret@host/x.tar", 512, 7)) == "s3://host/x.tar, 7 bytes at 512"


def test_an_identity_changes_with_the_file(noise: bytes, tmp_path: Path) -> None:
    path = tmp_path / "noise.bin"
    with (
        open_source(Location(str(path), 512, 1024)) as member,
        open_source(Location(str(path))) as whole,
    ):
        before = whole.identity(), member.identity()
        assert before[0] == Identity(len(noise), str(path.stat().st_mtime_ns))
        assert before[1].size == 1024
        with path.open("ab") as file:
            file.write(b"more")
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        assert whole.identity() != before[0]
        assert member.identity() != before[1]


@pytest.mark.parametrize(
    ("location", "cause"),
    [
        (Location("gone.mp4"), "open: no such file"),
        (Location("."), "open: cannot be opened"),
        (Location("nul\0.mp4"), "open: cannot be opened"),
        (Location("noise.bin", 512, 10**9), "open: the tar ends before its member"),
        (
            Location("nonsense://x/y.mp4"),
            "open: cannot be fetched .*not a protocol that fsspec knows",
        ),
    ],
)
def test_what_cannot_be_opened_is_named(
    location: Location, cause: str, noise: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=cause), open_source(location, QUICK):
        pass


def test_a_server_says_why(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"")
    with RangeServer(tmp_path) as server:
        with pytest.raises(SourceError, match=r"open: status 404 .*gone\.mp4"):
            probe(Location(f"{server.url}/gone.mp4"), QUICK)
        with pytest.raises(SourceError, match="open: an empty file"):
            probe(Location(f"{server.url}/x.mp4"), QUICK)
        server.faults = lambda _number, _request: Fault(status=503)
        with pytest.raises(SourceError, match=r"open: status 503 .*gave up after 2 attempts"):
            probe(Location(f"{server.url}/x.mp4"), QUICK)


def built(location: Location, remote: RemoteOptions = QUICK) -> UnitResult:
    return transcode(planned(location, remote), OPTIONS, remote)


def planned(location: Location, remote: RemoteOptions = QUICK) -> Unit:
    """All clips of a source, as one unit."""
    found = Survey(probe(location, remote))
    planned = plan_source(1, Source("a.mp4", location), found, OPTIONS)
    ((unit,),) = cut_shards([planned], "", OPTIONS)
    return unit


def without_version(result: UnitResult) -> list[dict[str, bytes]]:
    """The samples' members, without the line that only sources behind a URL have."""
    return [
        s.members | {"json": b"\n".join(
            line for line in s.members["json"].splitlines() if b"source_version" not in line
        )}
        for s in result.samples
    ]  # fmt: skip


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_url_gives_the_clips_of_the_file_in_few_bytes(
    container: str, film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("a.mp4", seconds=4, container=container)
    size = path.stat().st_size
    expected = built(Location(str(path)))
    with RangeServer(tmp_path) as server:
        result = built(Location(f"{server.url}/a.mp4"))
        assert without_version(result) == without_version(expected)
        assert len(result.samples) == 4
        assert b'"source_version": "\\"' in result.samples[0].members["json"]
        # once for the header, which is all of so small a file, and once for the clips
        assert asked(server, size) == 2 * size


def test_a_server_that_ignores_ranges_gives_short_videos_whole(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 4096)
    path = film("a.mp4", seconds=4)
    expected = built(Location(str(path)))
    with RangeServer(tmp_path, faults=lambda *_: Fault(ignore_range=True)) as server:
        location = Location(f"{server.url}/a.mp4")
        assert without_version(built(location)) == without_version(expected)
        monkeypatch.setattr(remote_file, "WHOLE_BYTES", 10_000)
        monkeypatch.setattr(remote_file, "_last_whole", None)
        with pytest.raises(SourceError, match=r"read: cannot be fetched .*ignores byte ranges"):
            probe(location, QUICK)


def test_a_long_url_is_read_where_it_is_needed(
    film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(remote_file, "WHOLE_BYTES", 0)
    path = film("a.mov", seconds=40, container="mov", audio_codec="pcm_s16le")  # 7 MB of sound
    size = path.stat().st_size
    with RangeServer(tmp_path) as server:
        location = Location(f"{server.url}/a.mov")
        whole = planned(location)
        assert len(whole.clips) == 40
        assert asked(server, size) < size / 10
        server.clear()
        unit = replace(whole, clips=whole.clips[20:22], first_clip=20)
        result = transcode(unit, OPTIONS, QUICK)
        assert len(result.samples) == 2
        assert asked(server, size) < size / 2
    assert b"source_sha256" not in result.samples[0].members["json"]
    here = replace(unit.source, location=Location(str(path)))
    now = replace(unit.probe, version=str(path.stat().st_mtime_ns))
    local = transcode(replace(unit, source=here, probe=now), OPTIONS)
    assert [s.members["mp4"] for s in local.samples] == [s.members["mp4"] for s in result.samples]


def test_a_file_that_changes_while_it_is_read_is_named(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film("a.mp4", seconds=2)
    unit = planned(Location(str(path)))
    real = SourceReader.frames

    def frames(reader: SourceReader) -> Iterator[Decoded]:
        for number, item in enumerate(real(reader)):
            if number == 10:
                with path.open("ab") as file:
                    file.write(b"more")
            yield item

    monkeypatch.setattr(SourceReader, "frames", frames)
    with pytest.raises(SourceError, match=r"the source changed while it was read \(\d+ bytes then"):
        transcode(unit, OPTIONS)


@pytest.mark.parametrize("when", ["planned", "read"])
def test_a_url_that_changes_is_named(
    when: str, film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 4096)
    film("a.mp4", seconds=4)

    def faults(_number: int, request: Request) -> Fault | None:
        return Fault(etag='"other"') if when == "planned" or request.first else None

    with RangeServer(tmp_path) as server:
        location = Location(f"{server.url}/a.mp4")
        unit = planned(location)
        server.faults = faults
        with pytest.raises(SourceError, match=f"the source changed .*{when}"):
            transcode(unit, OPTIONS, QUICK)


@pytest.mark.parametrize(("far", "cause"), [(True, "status 500"), (False, "cannot be read")])
def test_what_fails_half_way_is_no_short_video(
    far: bool, cause: str, film: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    """A reader that took the failure for the file's end would make fewer clips, and say so."""
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(remote_file, "WHOLE_BYTES", 0)
    path = film("a.mkv", seconds=4, container="matroska", video_options={"crf": "12"})
    half = path.stat().st_size // 2
    with RangeServer(tmp_path) as server:
        location = Location(f"{server.url}/a.mkv" if far else str(path))
        unit = planned(location)
        server.faults = lambda _, r: Fault(status=500) if (r.last or half) > half else None
        if not far:
            monkeypatch.setattr("shards.encoding.transcode.open_source", _failing(half))
        with pytest.raises(SourceError, match=f"read: {cause}"):
            transcode(unit, OPTIONS, QUICK)
    monkeypatch.undo()
    assert len(built(Location(str(path))).samples) == 4  # and the next one is not blamed for it


def _failing(after: int) -> Any:
    """`open_source` on a disk that fails after some bytes."""

    class Broken:
        def __init__(self, file: Any) -> None:
            self.seek, self.tell, self._file = file.seek, file.tell, file

        def read(self, count: int) -> bytes:
            if self._file.tell() + count > after:
                raise OSError(errno.EIO, "Input/output error")
            data: bytes = self._file.read(count)
            return data

    @contextmanager
    def opened(location: Location, remote: RemoteOptions | None = None) -> Any:
        with open_source(location, remote) as source:
            digest = source.sha256()
            source.file.seek(0)
            source.file, source.sha256 = Broken(source.file), lambda: digest  # type: ignore[assignment, method-assign]
            yield source

    return opened


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_is_found_in_either_form_of_unicode(tmp_path: Path, forms: tuple[str, str]) -> None:
    composed, apart = "\u00dcbung-\u00e9.mp4", "U\u0308bung-e\u0301.mp4"
    on_disk, asked = (composed, apart) if forms[0] == "NFC" else (apart, composed)
    (tmp_path / on_disk).write_bytes(b"here")
    with open_source(Location(str(tmp_path / asked))) as source:
        assert source.file.read() == b"here"
