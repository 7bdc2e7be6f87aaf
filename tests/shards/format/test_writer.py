from pathlib import Path

import pytest

from shards import ShardError, ShardIndex
from shards.format.writer import ShardWriter
from shards.storage.local_files import write_atomically
from tests.shards.small import clip_members, write_shard


def test_nothing_has_a_final_name_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    writer = ShardWriter(path)
    writer.add("k", clip_members(0), [])
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.tmp"]
    entry = writer.finish()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "a.tar.index"]
    assert (entry.name, entry.size, entry.num_samples) == ("a.tar", path.stat().st_size, 1)
    assert len(ShardIndex(tmp_path / "a.tar.index")) == 1


def test_an_unfinished_shard_leaves_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as writer:
        writer.add("k", clip_members(0), [])
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_equal_samples_make_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "a.tar", range(3))
    for name in ("a.tar", "a.tar.index"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_keys_are_checked_and_used_once(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as writer:
        writer.add("k", {"json": b"{}"}, [])
        with pytest.raises(ShardError, match="Key 'k' is in the shard twice"):
            writer.add("k", {"json": b"{}"}, [])
        with pytest.raises(ShardError, match="no dot, slash or control character"):
            writer.add("a.b", {"json": b"{}"}, [])


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
