"""Reading a data set: what was written comes back, from any thread, and in other processes."""

import json
import pickle
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from shards import ChecksumError, Dataset, IndexFormatError, ShardError
from shards.format.manifest import Manifest
from tests.films import decode_audio, decode_video, read_number
from tests.shards.small import clip_members, write_data_set


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "set")


def test_samples_are_numbered_through_the_shards(folder: Path) -> None:
    data_set = Dataset.open(folder)
    assert len(data_set) == 6
    assert [data_set.sample(i).key for i in range(6)] == [f"clip-{i:04d}" for i in range(6)]
    assert [data_set.metadata(i) for i in range(6)] == [{"number": i} for i in range(6)]
    assert data_set.find("clip-0004") == 4
    assert data_set.sample(4).shard == "shard-000001.tar"
    assert repr(data_set).endswith("set: 6 samples in 2 shards)")
    for wrong in (-1, 6):
        with pytest.raises(IndexError, match=rf"samples 0 to 5; asked for {wrong}"):
            data_set.sample(wrong)
    with pytest.raises(ShardError, match=r"no sample with the key 'x'; its first is clip-0000"):
        data_set.find("x")


def test_members_are_the_bytes_that_were_written(folder: Path) -> None:
    data_set = Dataset.open(folder)
    for i in range(6):
        sample = data_set.sample(i)
        assert {e: data_set.read_member(sample, e) for e in sample.members} == clip_members(i)
    with pytest.raises(ShardError, match=r"clip-0000 of .* has no \.png; it has \.mp4, \.flac"):
        data_set.read_member(data_set.sample(0), "png")


def test_packets_alone_decode_to_what_the_container_holds(folder: Path) -> None:
    """No container is opened: the codec's header and the packets of the index are enough."""
    data_set = Dataset.open(folder)
    members = clip_members(4)
    sample = data_set.sample(4)
    for track in (sample.video, sample.audio):
        assert track is not None
        decoder = av.CodecContext.create(track.codec, "r")
        decoder.extradata = track.extradata
        frames = []
        packets = track.packets
        for n in range(len(packets)):
            body = data_set.read(sample, int(packets.offset[n]), int(packets.size[n]))
            assert zlib.crc32(body) == packets.crc32[n]
            packet = av.Packet(body)
            packet.pts = int(packets.pts[n])
            decoded = decoder.decode(packet)  # type: ignore[attr-defined]
            assert len(decoded) == 1  # no delay: a frame for every packet
            frames += decoded
        if track.kind == "video":
            numbers = [read_number(f.to_ndarray()[: f.height]) for f in frames]
            assert numbers == list(range(40, 50))
            whole = [f.to_ndarray() for f in decode_video(members["mp4"])]
            assert all((a.to_ndarray() == b).all() for a, b in zip(frames, whole, strict=True))
            assert packets.keyframe.nonzero()[0].tolist() == [0, 5]
            seconds = [float(p * track.time_base) for p in packets.pts.tolist()]
            assert seconds == pytest.approx([n / 10 for n in range(10)])
        else:
            wave = np.concatenate([f.to_ndarray()[0] for f in frames]) / np.float32(32768)
            assert (wave == decode_audio(members["flac"])).all()
        assert (track.start_seconds, track.stop_seconds) == (0, 1)


def test_codec_headers_are_shared_by_all_clips(folder: Path) -> None:
    """So that one decoder, once opened, serves them all."""
    data_set = Dataset.open(folder)
    for kind in ("video", "audio"):
        tracks = [getattr(data_set.sample(i), kind) for i in range(6)]
        assert len({(t.codec, t.extradata) for t in tracks}) == 1


def test_many_threads_read_with_few_shards_open(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "set", num_shards=12, samples_each=1)
    data_set = Dataset.open(folder, max_open_shards=8)
    wanted = np.random.default_rng(0).integers(0, 12, 400).tolist()

    def number_of(i: int) -> int:
        return int(data_set.metadata(i)["number"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(number_of, wanted)) == wanted


def test_a_copy_for_another_process_opens_its_own_files(folder: Path) -> None:
    data_set = Dataset.open(folder)
    data_set.sample(0)
    copy = pickle.loads(pickle.dumps(data_set))
    assert copy.metadata(5) == {"number": 5}
    assert copy.fingerprint == data_set.fingerprint


def test_the_fingerprint_is_that_of_the_bytes(folder: Path, tmp_path: Path) -> None:
    same = write_data_set(tmp_path / "same")
    other = write_data_set(tmp_path / "other", samples_each=2)
    assert Dataset.open(folder).fingerprint == Dataset.open(same).fingerprint
    assert Dataset.open(folder).fingerprint != Dataset.open(other).fingerprint


def test_a_folder_that_is_no_data_set_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match="does not exist"):
        Dataset.open(tmp_path / "nowhere")
    with pytest.raises(IndexFormatError, match=r"holds the data sets set; name one, e\.g\. .*/set"):
        Dataset.open(tmp_path)
    (tmp_path / "plain").mkdir()
    with pytest.raises(
        IndexFormatError, match=r"has no manifest\.json: it is not a data set, or its"
    ):
        Dataset.open(tmp_path / "plain")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.update(version=99), "has version 99; this program reads 1"),
        (lambda m: m.update(format="x"), "is not a manifest of shards"),
        (lambda m: m["shards"][0].update(name="../x"), r"damaged .*shard name '\.\./x'"),
        (lambda m: m["shards"][0].update(size=-1), "damaged .*counts of shard"),
        (lambda m: m["shards"][0].update(num_samples=True), "damaged .*counts of shard"),
        (lambda m: m["shards"][0].pop("sha256"), "is damaged"),
        (lambda m: m.update(shards=3), "is damaged"),
        (lambda m: m["shards"].pop(), "does not agree with its own fingerprint"),
    ],
)
def test_a_changed_manifest_is_refused(folder: Path, change: object, complaint: str) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    assert callable(change)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(IndexFormatError, match=complaint):
        Dataset.open(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    for text in (b"", b"{", b"[" * 100_000, b"\xff\xfe"):
        (folder / "manifest.json").write_bytes(text)
        with pytest.raises(IndexFormatError, match="is not a manifest"):
            Dataset.open(folder)


def test_a_changed_byte_of_a_member_is_found_when_it_is_read(folder: Path) -> None:
    data_set = Dataset.open(folder)
    sample = data_set.sample(1)
    at = sample.members["json"].offset
    _flip(folder / "shard-000000.tar", at + 3)
    with pytest.raises(ChecksumError, match=r"shard-000000\.tar: member clip-0001\.json is not"):
        data_set.metadata(1)
    assert data_set.metadata(0) == {"number": 0}


def test_an_index_of_other_bytes_is_refused(folder: Path) -> None:
    _flip(folder / "shard-000001.tar.index", 2000)
    data_set = Dataset.open(folder)
    assert data_set.metadata(0) == {"number": 0}
    with pytest.raises(IndexFormatError, match=r"shard-000001\.tar\.index is not the one that"):
        data_set.sample(3)


def test_a_missing_or_shortened_shard_is_named(folder: Path) -> None:
    tar = folder / "shard-000001.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    with pytest.raises(IndexFormatError, match=r"changed or cut short"):
        Dataset.open(folder).sample(3)
    tar.unlink()
    with pytest.raises(
        ShardError, match=r"shard-000001\.tar is in the manifest .* not on the disk"
    ):
        Dataset.open(folder).sample(3)


def test_a_shard_that_shrinks_while_it_is_open_is_named(folder: Path) -> None:
    data_set = Dataset.open(folder)
    sample = data_set.sample(5)
    tar = folder / "shard-000001.tar"
    with tar.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(ShardError, match=r"ends before byte \d+; sample clip-0005 needs 13 bytes"):
        data_set.read_member(sample, "json")


def test_a_manifest_writes_what_it_reads(folder: Path, tmp_path: Path) -> None:
    manifest = Dataset.open(folder).manifest
    (tmp_path / "copy").mkdir()
    Manifest(manifest.shards, manifest.build).write(tmp_path / "copy")
    assert (tmp_path / "copy/manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)
