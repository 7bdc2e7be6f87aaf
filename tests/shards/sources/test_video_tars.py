"""WebDataset tars of videos as sources: against the same films as plain files."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.range_server import RangeServer
from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.sources.source import Source
from shards.sources.video_tars import tar_sources
from shards.storage.opening import Location
from tests.shards.sources.test_source_lists import report

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64)


def plain_tar(path: Path, members: dict[str, bytes], kind: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def clip(film: Callable[..., Path]) -> bytes:
    return film("film.mp4", seconds=2).read_bytes()


def listed(path: Path) -> dict[str, Source]:
    return {s.name: s for s in tar_sources(Location(str(path)), path.name)}


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_samples_become_sources_with_what_is_said_of_them(
    kind: int, clip: bytes, tmp_path: Path
) -> None:
    about = {"caption": "no", "url": "http://x", "duration": 2.5, "labels": ["a", 7]}
    members = {
        "000.mp4": clip,
        "000.json": json.dumps(about).encode(),
        "000.txt": "ein Häschen\n".encode(),
        "deep/001.webm": clip[:2000],
        "deep/001.cls": b"12",
        "002.jpg": b"\xff\xd8\xff\xe0",
        "002.mp4": clip,
        "003.json": json.dumps({"label": {"of": "others"}}).encode(),
        "003.mov": clip,
        "noext": b"",
    }
    path = plain_tar(tmp_path / "s.tar", members, kind)
    found = listed(path)
    assert list(found) == ["s.tar/000", "s.tar/deep/001", "s.tar/002", "s.tar/003"]
    assert [s.fault for s in found.values()] == [None] * 4
    assert found["s.tar/000"].row == {
        "caption": "ein Häschen",
        "labels": ["a", "7"],
        "metadata": {"url": "http://x", "duration": 2.5},
    }
    assert found["s.tar/deep/001"].row == {"label": "12"}
    assert found["s.tar/003"].row == {"metadata": {"label": {"of": "others"}}}
    data = path.read_bytes()
    for name, member in (("000", "000.mp4"), ("deep/001", "deep/001.webm"), ("002", "002.mp4")):
        place = found[f"s.tar/{name}"].location
        assert place.size is not None
        assert data[place.offset :][: place.size] == members[member]


def test_the_clips_are_those_of_the_files(clip: bytes, tmp_path: Path) -> None:
    files = {"a.mp4": clip, "b.mp4": clip}
    plain_tar(tmp_path / "tars/one.tar", files)
    (tmp_path / "tars/loose.mp4").write_bytes(clip)
    for name, data in files.items():
        (tmp_path / "files/one.tar").mkdir(parents=True, exist_ok=True)
        (tmp_path / "files/one.tar" / name).write_bytes(data)
    summary = build([tmp_path / "tars"], tmp_path / "out", OPTIONS, num_workers=2)
    assert (summary.sources, summary.made, summary.clips) == (3, 3, 6)
    build([tmp_path / "files"], tmp_path / "from files", OPTIONS)
    ours, theirs = Dataset.open(tmp_path / "out"), Dataset.open(tmp_path / "from files")
    assert [ours.metadata(i)["source"] for i in range(2, 6)] == ["one.tar/a"] * 2 + [
        "one.tar/b"
    ] * 2
    for i in range(4):
        mine, other = ours.sample(i + 2), theirs.sample(i)
        assert ours.read_member(mine, "mp4") == theirs.read_member(other, "mp4")
        assert ours.read_member(mine, "flac") == theirs.read_member(other, "flac")
        assert ours.metadata(i + 2)["source_sha256"] == theirs.metadata(i)["source_sha256"]
    # a tar that is given itself, here or behind a server
    summary = build([tmp_path / "tars/one.tar"], tmp_path / "alone", OPTIONS)
    assert [line["source"] for line in report(tmp_path / "alone")] == ["one.tar/a", "one.tar/b"]
    with RangeServer(tmp_path / "tars") as server:
        build([f"{server.url}/one.tar"], tmp_path / "far", OPTIONS)
        far = Dataset.open(tmp_path / "far")
        assert far.metadata(0)["source"] == f"{server.url}/one.tar/a"
    assert len(far) == 4
    for i in range(4):
        ours_i, far_i = ours.sample(i + 2), far.sample(i)
        assert ours.read_member(ours_i, "mp4") == far.read_member(far_i, "mp4")


def test_what_cannot_be_used_has_a_line_each(clip: bytes, tmp_path: Path) -> None:
    members = {
        "good.mp4": clip,
        "twin.mp4": clip,
        "page.mp4": b"<html>",
        "alone.json": b"{}",
        "badjson.mp4": clip,
        "badjson.json": b"{",
        "nan.mp4": clip,
        "nan.json": b'{"a": NaN}',
        "list.mp4": clip,
        "list.json": b"[1]",
        "bytes.mp4": clip,
        "bytes.txt": b"\xff",
        "long.mp4": clip,
        "long.txt": b"a" * (1 << 20) + b"b",
        "twin.webm": clip,
    }
    plain_tar(tmp_path / "tars/a.tar", members)
    (tmp_path / "tars/empty.tar").write_bytes(bytes(10240))
    (tmp_path / "tars/html.tar").write_bytes(b"<html>" * 200)
    whole = plain_tar(tmp_path / "b.tar", {f"{n}.mp4": clip for n in range(4)}).read_bytes()
    (tmp_path / "tars/short.tar").write_bytes(whole[: int(len(whole) * 0.6)])
    (tmp_path / "tars/two.tar").write_bytes(whole + whole)
    summary = build([tmp_path / "tars"], tmp_path / "out", OPTIONS)
    lines = report(tmp_path / "out")
    causes = {(line["source"], line.get("cause", "")) for line in lines}
    assert causes == {
        ("a.tar/good", ""),
        ("a.tar/twin", ""),
        ("a.tar/page", "not media: a web page or XML"),
        ("a.tar/alone", "a sample without a video"),
        ("a.tar/badjson", "json that cannot be read"),
        ("a.tar/nan", ""),
        ("a.tar/list", "json that is not an object"),
        ("a.tar/bytes", "a text that is not UTF-8"),
        ("a.tar/long", "a text of more than 1048576 bytes"),
        ("a.tar/twin", "the key was there before"),
        ("empty.tar", "a tar without samples"),
        ("html.tar", "not media: a web page or XML"),
        ("short.tar/0", ""),
        ("short.tar/1", ""),
        ("short.tar", "the tar is cut short or damaged"),
        *((f"two.tar/{n}", "") for n in range(4)),
        ("two.tar", "bytes after the tar's end are not read (are several tars joined?)"),
    }
    assert summary.sources == len(lines) == 20
    assert summary.made == 9


def test_a_header_cannot_fill_the_memory(tmp_path: Path, monkeypatch: Any) -> None:
    """An entry whose name, it says, has a gigabyte; tarfile would read it all."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    path = tmp_path / "bomb.tar"
    with path.open("wb") as file:
        file.write(info.tobuf())
        file.truncate(1 << 30)  # takes no room on the disk
    (found,) = tar_sources(Location(str(path)), "bomb.tar")
    assert (found.name, found.location.size) == ("bomb.tar", None)


def _header(name: str, kind: bytes, size: bytes) -> bytes:
    """A header with a size field as it is given: base 256 where it begins with 0xff, negative."""
    info = tarfile.TarInfo(name)
    info.type = kind
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = size
    raw[148:156] = b"%06o\0 " % (sum(raw[:148]) + sum(raw[156:]) + 8 * 32)
    return bytes(raw)


@pytest.mark.parametrize("name", ["back", "read all", "nested"])
def test_no_header_makes_the_listing_hang_or_break(name: str, clip: bytes, tmp_path: Path) -> None:
    """Sizes below zero, by which tarfile goes back for ever; and three thousand nested names."""
    good = plain_tar(tmp_path / "good.tar", {"a.mp4": clip, "b.mp4": clip}).read_bytes()
    good = good[: 2 * (512 + -(-len(clip) // 512) * 512)]
    below = b"\xff" * 10 + b"\xfc\x00"
    long_name = _header("././@LongLink", tarfile.GNUTYPE_LONGNAME, b"00000000005\0")
    bad = {
        "back": _header("c.mp4", tarfile.REGTYPE, below),
        "read all": _header("././@LongLink", tarfile.GNUTYPE_LONGNAME, below),
        "nested": (long_name + b"abcd".ljust(512, b"\0")) * 3000,
    }[name]
    path = tmp_path / "bad.tar"
    path.write_bytes(good + bad + bytes(1024))
    found = list(listed(path).values())
    assert [(s.name, s.fault and s.fault[1]) for s in found] == [
        ("bad.tar/a", None),
        ("bad.tar", "the tar is cut short or damaged"),
    ]


def test_a_tar_that_changes_is_named(clip: bytes, tmp_path: Path) -> None:
    path = plain_tar(tmp_path / "tars/a.tar", {"a.mp4": clip})
    film = tmp_path / "tars/b.mp4"
    film.write_bytes(clip)

    def progress(stage: str, done: int, _total: int | None) -> None:
        if (stage, done) == ("build", 0):
            path.write_bytes(path.read_bytes() + bytes(512))

    summary = build([tmp_path / "tars"], tmp_path / "out", OPTIONS, progress=progress)
    assert summary.skipped_sources == {"open: the source changed since the build was planned": 1}


def test_several_films_in_one_sample_are_taken_by_name(clip: bytes, tmp_path: Path) -> None:
    """WebDataset's keys end at the first dot, so names with dots fall into one sample."""
    members = {
        "2024-01-05 10.30.22.mp4": clip,
        "2024-01-05 10.30.22.json": b'{"label": "a"}',
        "2024-01-05 10.45.10.mkv": clip,
        "2024-01-05 10.45.10.txt": b"the second",
        "pair.mp4": clip,
        "pair.webm": clip,
        "pair.json": b'{"label": "both"}',
        "one.mp4": clip,
        "one.m4a": clip,
    }
    path = plain_tar(tmp_path / "a.tar", members)
    found = list(tar_sources(Location(str(path)), "a.tar"))
    assert [(s.name, s.row, s.fault) for s in found] == [
        ("a.tar/2024-01-05 10.30.22.mp4", {"label": "a"}, None),
        ("a.tar/2024-01-05 10.45.10.mkv", {"caption": "the second"}, None),
        ("a.tar/pair.mp4", {"label": "both"}, None),
        ("a.tar/pair.webm", {"label": "both"}, None),
        ("a.tar/one", {}, None),
    ]
    assert len({s.location for s in found}) == 5


def test_links_are_what_they_lead_to_in_the_tar(clip: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    links = [
        ("001.mp4", tarfile.LNKTYPE, "films/000.mp4"),
        ("films/002.mp4", tarfile.SYMTYPE, "000.mp4"),
        ("003.mp4", tarfile.SYMTYPE, "./films/002.mp4"),
        ("004.mp4", tarfile.SYMTYPE, "../outside.mp4"),
        ("005.mp4", tarfile.SYMTYPE, "006.mp4"),
        ("006.mp4", tarfile.SYMTYPE, "005.mp4"),
        ("007.mp4", tarfile.SYMTYPE, "later.mp4"),
    ]
    with tarfile.open(path, "w") as tar:
        entry = tarfile.TarInfo("films/000.mp4")
        entry.size = len(clip)
        tar.addfile(entry, io.BytesIO(clip))
        for name, kind, target in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, target
            tar.addfile(entry)
        entry = tarfile.TarInfo("later.mp4")
        entry.size = len(clip)
        tar.addfile(entry, io.BytesIO(clip))
    found = list(tar_sources(Location(str(path)), "a.tar"))
    films = [s for s in found if s.fault is None]
    names = ["films/000", "001", "films/002", "003", "007", "later"]
    assert [s.name for s in films] == [f"a.tar/{name}" for name in names]
    assert len({s.location for s in films}) == 2
    faults = [s.fault for s in found if s.fault is not None]
    assert [(f[1], f[2]) for f in faults] == [
        ("a link to nothing in the tar", "004.mp4 to ../outside.mp4"),
        ("a link to nothing in the tar", "005.mp4 to 006.mp4"),
        ("a link to nothing in the tar", "006.mp4 to 005.mp4"),
    ]
