"""An index is a file from somebody else: whatever it holds, it opens right or with one error."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from shards import IndexFormatError, ShardError, ShardIndex
from shards.format.index_file import COLUMNS, HEADER_KEY, overlap
from shards.format.writer import IndexColumns
from tests.shards.small import write_shard

Columns = dict[str, Any]


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shard") / "shard-000000.tar"
    write_shard(path, range(3))
    return path


@pytest.fixture
def index_path(shard: Path, tmp_path: Path) -> Path:
    """A copy of the index that may be spoilt; its shard is named by size alone."""
    path = tmp_path / "copy.index"
    path.write_bytes(shard.with_name(shard.name + ".index").read_bytes())
    return path


def about_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = json.loads(data[8 : 8 + length])["__metadata__"][HEADER_KEY]
    about = json.loads(text)
    assert isinstance(about, dict)
    return about


def rewrite(path: Path, columns: Columns, about: dict[str, Any]) -> None:
    path.write_bytes(save(columns, metadata={HEADER_KEY: json.dumps(about)}))


def test_a_safetensors_reader_finds_the_columns(shard: Path) -> None:
    path = shard.with_name(shard.name + ".index")
    columns = load_file(path)
    assert set(columns) == set(COLUMNS)
    index = ShardIndex(path)
    for name, column in columns.items():
        assert (index.column(name) == column).all()
    assert columns["key_bytes"].tobytes() == b"clip-0000clip-0001clip-0002"
    assert repr(index) == "ShardIndex(shard-000000.tar.index: N=3, P=63)"


def test_looking_a_sample_up_touches_no_file(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = ShardIndex(shard.with_name(shard.name + ".index"))
    monkeypatch.setattr("builtins.open", None)
    sample = index.sample(2)
    assert (sample.key, list(sample.members)) == ("clip-0002", ["mp4", "flac", "json"])
    with pytest.raises(IndexFormatError, match="has samples 0 to 2; asked for 3"):
        index.sample(3)


def _set(name: str, row: int, value: int) -> Callable[[Columns, dict[str, Any]], None]:
    def change(columns: Columns, _about: dict[str, Any]) -> None:
        columns[name][row] = value

    return change


def _spell(text: str, row: int = 1) -> Callable[[Columns, dict[str, Any]], None]:
    """Write over the bytes of key `row`, and on over the next one's."""

    def change(columns: Columns, _about: dict[str, Any]) -> None:
        data = np.frombuffer(text.encode(), np.uint8)
        columns["key_bytes"][9 * row : 9 * row + len(data)] = data

    return change


def _cut(name: str) -> Callable[[Columns, dict[str, Any]], None]:
    def change(columns: Columns, _about: dict[str, Any]) -> None:
        columns[name] = columns[name][:-1].copy()

    return change


def _say(name: str, value: object) -> Callable[[Columns, dict[str, Any]], None]:
    def change(_columns: Columns, about: dict[str, Any]) -> None:
        about[name] = value

    return change


def _put_on(row: int, other: int) -> Callable[[Columns, dict[str, Any]], None]:
    def change(columns: Columns, _about: dict[str, Any]) -> None:
        columns["packet_offset"][row] = columns["packet_offset"][other]

    return change


HUGE = 2**63 - 1
SPOILT = {
    "a member past the shard's end": (_set("member_offset", 3, 10**12), "outside the shard"),
    "a member that ends past it": (_set("member_size", 8, 10**12), "outside the shard"),
    "a size that overflows": (_set("member_size", 3, 2**64 - 1), "outside the shard"),
    "an offset that overflows": (_set("member_offset", 3, 2**64 - 1), "outside"),
    "a packet before its member": (_set("packet_offset", 40, 0), "outside its member"),
    "a packet past its member": (_set("packet_offset", 40, HUGE), "outside its member"),
    "a packet that is too large": (_set("packet_size", 0, 2**32 - 1), "outside its member"),
    "a packet of the next member": (_set("packet_size", 9, 60_000), "outside its member"),
    "two packets in one place": (_put_on(3, 4), "packets overlap"),
    "a packet on one far before it": (_put_on(8, 1), "packets overlap"),
    "a key that ends before it starts": (_set("key_stop", 1, 0), "key_stop does not rise"),
    "keys that end too late": (_set("key_stop", 2, 999), "key_stop does not rise to 27"),
    "members that end too late": (_set("member_stop", 2, 10), "member_stop does not rise"),
    "tracks that fall": (_set("track_stop", 0, 5), "track_stop does not rise"),
    "packets that end too late": (_set("packet_stop", 5, HUGE), "packet_stop does not rise"),
    "an unlisted extension": (_set("member_extension", 0, 3), "an extension is not listed"),
    "an unlisted codec": (_set("track_header", 0, 2), "a codec header is not listed"),
    "a track of no member": (_set("track_member", 0, 9), "a track's member does not exist"),
    "a key that is no text": (_set("key_bytes", 0, 0xFF), "the keys are not UTF-8"),
    "a key with a line end": (_set("key_bytes", 4, 0x0A), "a key holds a line end or a control"),
    "a key that deletes": (_set("key_bytes", 4, 0x7F), "a key holds a line end or a control"),
    "a key with a C1 control": (_spell("\x9b"), "a key holds a line end or a control"),
    "a key with a line separator": (_spell("\u2028"), "a key holds a line end or a control"),
    "a key cut within a letter": (_spell("aaaaaaaa\u00e9", 0), "a key ends within a character"),
    "a column too short": (_cut("packet_pts"), "column packet_pts has 62 rows, not 63"),
    "samples too few": (_cut("key_stop"), "column member_stop has 3 rows, not 2"),
    "another version": (_say("version", 2), "has version 2; this program reads 1"),
    "another format": (_say("format", "x"), "its header is not an index header"),
    "a shard elsewhere": (_say("shard", "../../etc/passwd"), "header field shard"),
    "a shard of another size": (_say("shard_size", 7), "of 7 bytes, and the file has"),
    "a size that is no number": (_say("shard_size", True), "header field shard_size"),
    "extensions that are no text": (_say("extensions", [1, 2, 3]), "header field extensions"),
    "no codec headers": (_say("headers", [{}, {}]), "a codec header"),
    "codec headers that are no list": (_say("headers", {}), "header field headers"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_index_is_refused_with_its_cause(shard: Path, index_path: Path, name: str) -> None:
    change, complaint = SPOILT[name]
    columns, about = load_file(index_path), about_of(index_path)
    change(columns, about)
    rewrite(index_path, columns, about)
    with pytest.raises(IndexFormatError, match=complaint):
        ShardIndex(index_path, shard.stat().st_size)


@pytest.mark.parametrize("field", ["time_base", "frame_rate", "extradata", "width", "kind"])
@pytest.mark.parametrize("value", ["1/0", "x", -1, None, [], "é", {"a": 1}, 1.5, "1e999999999"])
def test_a_spoilt_codec_header_is_refused(
    shard: Path, index_path: Path, field: str, value: object
) -> None:
    if field == "frame_rate" and value is None:
        return  # sound has none
    columns, about = load_file(index_path), about_of(index_path)
    about["headers"][0][field] = value
    rewrite(index_path, columns, about)
    with pytest.raises(IndexFormatError, match="a codec header"):
        ShardIndex(index_path, shard.stat().st_size)


def test_a_column_of_another_kind_or_shape_is_refused(shard: Path, index_path: Path) -> None:
    good, about = load_file(index_path), about_of(index_path)
    for name in COLUMNS:
        for change in (
            lambda c: c.astype(np.float32),
            lambda c: c[:, None].copy(),
            lambda c: np.zeros((), c.dtype),
        ):
            rewrite(index_path, good | {name: change(good[name])}, about)
            with pytest.raises(IndexFormatError, match=f"column {name}"):
                ShardIndex(index_path, shard.stat().st_size)


def test_an_index_cut_at_any_place_is_refused(shard: Path, index_path: Path) -> None:
    data = index_path.read_bytes()
    size = shard.stat().st_size
    for length in [0, 1, 7, 8, 9, 100, 1000, len(data) // 2, len(data) - 1]:
        index_path.write_bytes(data[:length])
        with pytest.raises(IndexFormatError):
            ShardIndex(index_path, size)


@pytest.mark.parametrize(
    "header", [b"", b"{}", b"[]", b"null", b'{"__metadata__": 3}', b"[" * 60_000, b"\xff" * 64]
)
def test_a_header_that_is_no_header_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "x.index"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(IndexFormatError, match="header"):
        ShardIndex(path, 10)
    path.write_bytes(struct.pack("<Q", 2**63) + header)
    with pytest.raises(IndexFormatError, match="cut short or not an index"):
        ShardIndex(path, 10)


def test_any_flipped_bit_opens_or_is_refused_but_reads_nothing_outside(
    shard: Path, index_path: Path
) -> None:
    data = index_path.read_bytes()
    size = shard.stat().st_size
    dice = random.Random(0)
    refused = 0
    for _ in range(400):
        spoilt = bytearray(data)
        spoilt[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        index_path.write_bytes(spoilt)
        try:
            index = ShardIndex(index_path, size)
            samples = [index.sample(i) for i in range(len(index))]
        except ShardError:
            refused += 1
            continue
        for sample in samples:
            for track in (sample.video, sample.audio):
                if track is not None:
                    ends = track.packets.offset + track.packets.size
                    assert int(ends.max(initial=0)) <= size
    assert 0 < refused < 400


def test_packets_of_one_track_overlap_or_do_not() -> None:
    def overlaps(offsets: list[int], sizes: list[int], tracks: list[int]) -> bool:
        offset, size = np.array(offsets, np.uint64), np.array(sizes, np.uint32)
        return overlap(offset, size, np.array(tracks, np.int64))

    assert not overlaps([], [], [])
    assert not overlaps([0, 10, 20], [10, 10, 5], [0, 0, 0])
    assert not overlaps([20, 0, 10], [5, 10, 10], [0, 0, 0])  # in another order
    assert not overlaps([0, 5], [10, 10], [0, 1])  # of two tracks
    assert overlaps([0, 9], [10, 10], [0, 0])
    assert overlaps([20, 0, 10], [5, 10, 11], [0, 0, 0])
    assert overlaps([0, 10, 0], [10, 10, 10], [0, 0, 0])


@pytest.mark.parametrize("keys", [["ab", "b", "abc"], ["a", "aa", "aaa"], ["é", "éa", "aé"]])
def test_a_key_is_found_whole(tmp_path: Path, keys: list[str]) -> None:
    """Bytes of two keys beside each other, and parts of one, are no key."""
    columns = IndexColumns()
    for key in keys:
        columns.add(key, {}, [])
    path = tmp_path / "a.index"
    path.write_bytes(columns.to_bytes("a.tar", 0))
    index = ShardIndex(path, 0)
    assert [index.find(key) for key in keys] == [0, 1, 2]
    for key in ("", "bb", "c", "ca", "aaaa", "\udc80", "".join(keys), keys[0] + "\0"):
        assert index.find(key) is None
