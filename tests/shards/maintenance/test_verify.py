from pathlib import Path

import pytest

from benchmarks.range_server import Fault, RangeServer, Request
from shards import Dataset, IndexFormatError, RemoteError, RemoteOptions
from shards.format.manifest import Manifest
from shards.maintenance.stats import stats
from shards.maintenance.verify import verify
from tests.shards.small import write_data_set, write_shard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "set")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(data)


def problems(folder: Path, *, quick: bool = False) -> list[str]:
    return [str(problem) for problem in verify(folder, quick=quick).problems]


def test_what_was_written_is_whole(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = verify(folder, num_threads=2, progress=lambda *step: steps.append(step))
    total = sum(p.stat().st_size for p in folder.glob("*.tar"))
    assert (found.shards, found.samples, found.bytes_read, found.problems) == (2, 6, total, [])
    assert steps[-1] == (total, total)
    assert verify(folder, quick=True).bytes_read == 0


def test_no_flipped_byte_goes_unseen(folder: Path) -> None:
    """One byte in every 997 of a shard, headers, members and padding alike."""
    tar = folder / "shard-000000.tar"
    data = tar.read_bytes()
    for at in range(0, len(data), 997):
        flip(tar, at)
        assert len(problems(folder)) == 1, at
        tar.write_bytes(data)


def test_damage_is_named_down_to_the_packet(folder: Path) -> None:
    sample = Dataset.open(folder).sample(4)
    assert sample.video is not None
    flip(folder / sample.shard, int(sample.video.packets.offset[7]))
    assert problems(folder) == ["shard-000001.tar, sample clip-0004: .mp4 is damaged (packets 7)"]
    flip(folder / sample.shard, sample.members["json"].offset)
    assert "shard-000001.tar, sample clip-0004: .json is damaged" in problems(folder)
    assert problems(folder, quick=True) == []


def test_changed_headers_and_padding_are_named(folder: Path) -> None:
    tar = folder / "shard-000000.tar"
    flip(tar, 0)  # the first entry's name
    (found,) = problems(folder)
    assert "the tar's own headers are damaged" in found or "entries are not those" in found
    flip(tar, 0)
    flip(tar, tar.stat().st_size - 1)
    assert problems(folder) == ["shard-000000.tar: bytes between the members were changed"]


def test_missing_short_and_replaced_files_are_named_even_quickly(folder: Path) -> None:
    tar, index = folder / "shard-000000.tar", folder / "shard-000001.tar.index"
    tar.write_bytes(tar.read_bytes()[:-1])
    index.write_bytes((folder / "shard-000000.tar.index").read_bytes())
    first, second = problems(folder, quick=True)
    assert "cut short or replaced" in first
    assert "shard-000001.tar.index is not the one that the manifest lists" in second
    tar.unlink()
    index.unlink()
    first, second = problems(folder)
    assert first == "shard-000000.tar: shard-000000.tar is missing"
    assert "shard-000001.tar.index is in the manifest of" in second


def test_a_key_used_in_two_shards_is_found(tmp_path: Path) -> None:
    tmp_path.joinpath("set").mkdir()
    entries = [write_shard(tmp_path / f"set/{name}.tar", range(2)) for name in ("a", "b")]
    Manifest(tuple(entries)).write(tmp_path / "set")
    (found,) = problems(tmp_path / "set", quick=True)
    assert "a key is used more than once" in found


def test_a_folder_without_a_data_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IndexFormatError, match=r"has no manifest\.json"):
        verify(tmp_path)


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("status", [403, 500, 503])
def test_a_part_that_is_not_given_is_not_taken_for_absent(
    tmp_path: Path, part: str, status: int
) -> None:
    write_data_set(tmp_path / "set/train", 1, 1)
    remote = RemoteOptions(cache_folder=str(tmp_path / "cache"), attempts=2, backoff_seconds=0.001)

    def refuse(_number: int, request: Request) -> Fault | None:
        return Fault(status=status) if f"{part}/" in request.name else None

    with RangeServer(tmp_path) as server:
        assert verify(f"{server.url}/set", remote=remote).samples == 1  # val is absent: 404
        write_data_set(tmp_path / "set/val", 1, 1, first=1)
        assert verify(f"{server.url}/set", remote=remote).samples == 2
        server.faults = refuse
        for look in (verify, stats):
            with pytest.raises(RemoteError, match=rf"/set/{part}/manifest.*status {status}.*alone"):
                look(f"{server.url}/set", remote=remote)
