import hashlib
import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shards import ShardError
from shards.storage.byte_ranges import Piece
from shards.storage.cache import BoundedFolder, FileCache, RangeCache

KIB = 1024


def files_in(folder: Path) -> dict[str, int]:
    own = {"lock", "new"}
    found = (p for p in folder.rglob("*") if p.is_file() and p.name not in own)
    return {str(p.relative_to(folder)): p.stat().st_size for p in found}


def test_the_limit_holds_at_every_moment_and_the_least_recently_used_leave(
    tmp_path: Path,
) -> None:
    folder = BoundedFolder(tmp_path / "c", 100 * KIB)
    for i in range(200):
        assert folder.put(f"group{i % 7}/{i}", bytes(4 * KIB))
        os.utime(tmp_path / "c" / f"group{i % 7}" / f"{i}", (i, i))
        files = files_in(tmp_path / "c")
        assert sum(files.values()) <= folder.used_bytes() <= 100 * KIB
        kept = sorted(int(name.split("/")[1]) for name in files)
        assert kept == list(range(i + 1 - len(kept), i + 1)), "an older one stayed"
    assert len(kept) >= 10


def test_what_is_used_stays(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 100 * KIB)
    cache.put("often", Piece(0, b"kept"))
    for i in range(100):
        cache.put(f"once{i}", Piece(0, bytes(4 * KIB)))
        assert cache.get("often", [(0, 4)]) == [Piece(0, b"kept")]
    assert len(files_in(tmp_path)) < 20


def test_an_entry_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    folder = BoundedFolder(tmp_path, 10 * KIB)
    assert folder.put("small", bytes(KIB))
    assert not folder.put("large", bytes(11 * KIB))
    assert files_in(tmp_path) == {"small": KIB}


@pytest.mark.parametrize("count", [b"", b"x" * 20, b"123", None])
def test_a_lost_count_is_taken_anew(tmp_path: Path, count: bytes | None) -> None:
    folder = BoundedFolder(tmp_path, 64 * KIB)
    for i in range(7):
        folder.put(f"{i}", bytes(4 * KIB))
    lock = tmp_path / "lock"
    lock.unlink() if count is None else lock.write_bytes(count)
    for i in range(7, 20):
        folder.put(f"{i}", bytes(4 * KIB))
        assert folder.used_bytes() <= 64 * KIB


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "longer"])
def test_a_damaged_range_is_dropped_and_never_served(tmp_path: Path, damage: str) -> None:
    cache = RangeCache(tmp_path, 1 << 20)
    cache.put("clip", Piece(10, b"0123456789"))
    (path,) = (tmp_path / "clip").iterdir()
    data = path.read_bytes()
    damaged = {"cut": data[:-1], "flip": b"1" + data[1:], "empty": b"", "longer": data + b"x"}
    path.write_bytes(damaged[damage])
    assert cache.get("clip", [(12, 15)]) == []
    assert not path.exists()


def test_only_pieces_that_overlap_are_read_and_strange_names_ignored(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path, 1 << 20)
    for start in (0, 10, 20):
        cache.put("clip", Piece(start, b"0123456789"))
    (tmp_path / "clip" / "README").write_text("hello")
    assert [p.start for p in cache.get("clip", [(5, 11)])] == [0, 10]
    assert cache.get("clip", [(10, 10), (30, 40)]) == []
    assert cache.get("another", [(0, 10)]) == []
    cache.forget("clip")
    assert cache.get("clip", [(0, 10)]) == []


def test_a_limit_of_zero_keeps_nothing(tmp_path: Path) -> None:
    cache = RangeCache(tmp_path / "c", 0)
    cache.put("clip", Piece(0, b"x"))
    assert cache.get("clip", [(0, 1)]) == []
    assert not (tmp_path / "c").exists()


def test_a_file_is_fetched_once_and_again_when_it_was_damaged(tmp_path: Path) -> None:
    cache, fetched = FileCache(tmp_path / "indexes", 1 << 20), []
    data = b"an index"
    digest = hashlib.sha256(data).hexdigest()

    def fetch() -> bytes:
        fetched.append(1)
        time.sleep(0.05)
        return data

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: cache.get(digest, len(data), fetch), range(8)))
    assert {p.read_bytes() for p in paths} == {data}
    assert len(fetched) == 1
    paths[0].write_bytes(data[:3])
    assert cache.get(digest, len(data), fetch).read_bytes() == data
    assert len(fetched) == 2


def test_a_file_that_does_not_fit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "indexes", 10_000)
    with pytest.raises(
        ShardError, match=r"index of 20000 bytes does not fit .* of 10000 .*: raise index_cache_b"
    ):
        cache.get("0" * 64, 20_000, lambda: bytes(20_000))


def write_for_ever(folder: Path, seed: int) -> None:
    cache, rng = RangeCache(folder, 256 * KIB), random.Random(seed)
    while True:
        clip = rng.randrange(40)
        for piece in cache.get(f"clip{clip}", [(0, 20_000)]):
            if set(piece.data) != {clip}:
                os._exit(1)
        cache.put(f"clip{clip}", Piece(0, bytes([clip]) * rng.randrange(1, 20_000)))


def test_killed_writers_leave_nothing_wrong_and_no_more_than_the_limit(tmp_path: Path) -> None:
    folder, rng = tmp_path / "c", random.Random(7)
    start = multiprocessing.get_context("fork").Process
    for round_ in range(20):
        writers = [start(target=write_for_ever, args=(folder, 2 * round_ + i)) for i in range(2)]
        for writer in writers:
            writer.start()
        time.sleep(rng.uniform(0.01, 0.15))
        for writer in writers:
            writer.kill()
            writer.join()
            assert writer.exitcode == -signal.SIGKILL, "a writer saw wrong bytes"
        assert BoundedFolder(folder, 0).used_bytes() <= 256 * KIB
        cache = RangeCache(folder, 256 * KIB)
        for clip in range(40):
            for piece in cache.get(f"clip{clip}", [(0, 20_000)]):
                assert set(piece.data) == {clip}
        cache.put("after", Piece(0, b"a killed writer holds no lock"))
        assert not (folder / "new").exists()
    assert len(files_in(folder)) > 5
