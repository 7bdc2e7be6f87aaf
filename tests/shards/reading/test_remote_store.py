"""A remote data set gives what a local one gives, for few requests, few bytes and little room."""

import gc
import multiprocessing
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.made_up_shards import write_made_up_shards
from benchmarks.range_server import Fault, RangeServer, Request
from shards import Dataset, IndexedSample, RemoteError
from shards.reading.remote_store import default_cache_folder
from shards.storage.cache import RangeCache
from shards.storage.transfer import RemoteOptions

Open = Callable[..., Dataset]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_made_up_shards(tmp_path_factory.mktemp("made") / "train set", 12, 4)


@pytest.fixture
def server(local: Dataset) -> Iterator[RangeServer]:
    with RangeServer(Path(local.path)) as server:
        yield server


@pytest.fixture
def open_remote(server: RangeServer, tmp_path: Path) -> Open:
    def open_it(**options: Any) -> Dataset:
        options = {"cache_folder": str(tmp_path / "cache"), **options}
        return Dataset.open(server.url, remote=RemoteOptions(**options))

    return open_it


def segment(sample: IndexedSample, start: float = 1.0) -> list[tuple[int, int]]:
    """What one second needs: two groups of pictures, and the sound beside them."""
    assert sample.video is not None
    assert sample.audio is not None
    ranges = []
    for track, first, stop in (
        (sample.video, int(start * 30) // 15 * 15, int(start * 30) + 30),
        (sample.audio, int(start * 24_000) // 2304, int((start + 1) * 24_000) // 2304 + 1),
    ):
        offset, size = track.packets.offset, track.packets.size
        begin, last = int(offset[first]), min(stop, len(offset)) - 1
        ranges.append((begin, int(offset[last]) + int(size[last]) - begin))
    return ranges


def same(a: Dataset, b: Dataset, i: int, start: float = 1.0) -> bool:
    mine, other = a.sample(i), b.sample(i)
    return a.read_many(mine, segment(mine, start)) == b.read_many(other, segment(other, start))


def test_everything_is_as_on_this_machine(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    assert (len(remote), remote.fingerprint) == (len(local), local.fingerprint)
    assert remote.summary() == local.summary() | {"path": server.url}
    assert (remote.is_remote, local.is_remote) == (True, False)
    for i in range(len(local)):
        assert remote.sample(i).key == local.sample(i).key
        assert same(local, remote, i)
        assert remote.metadata(i) == local.metadata(i)
        sample = remote.sample(i)
        for extension in sample.members:
            assert remote.read_member(sample, extension) == local.read_member(sample, extension)
        assert remote.read(sample, 512, 0) == b""
        assert remote.read_many(sample, []) == []


def test_requests_are_counted_and_few(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    assert [r.name for r in server.requests] == ["manifest.json"]
    sample = remote.sample(0)
    assert [r.name for r in server.requests[1:]] == ["shard-000000.tar.index"]
    remote.sample(1)
    remote.read_many(sample, segment(sample))
    assert len(server.requests) == 4  # picture and sound
    wanted = sum(size for _, size in segment(sample))
    index = local.manifest.shards[0].index_size
    manifest = (Path(local.path) / "manifest.json").stat().st_size
    assert server.bytes_sent == wanted + index + manifest
    assert remote.traffic.bytes_fetched == server.bytes_sent
    assert (remote.traffic.requests, remote.traffic.broken) == (4, 0)
    # what is there is not asked for again, whole or in part, by this data set or the next
    remote.read_many(sample, segment(sample))
    again = open_remote()
    again.read(again.sample(0), segment(sample)[1][0] + 5, 100)
    assert [r.name for r in server.requests[4:]] == ["manifest.json"]
    assert remote.traffic.bytes_from_cache == wanted
    assert again.traffic.bytes_from_cache == 100


def test_only_what_is_missing_is_asked_for(open_remote: Open, server: RangeServer) -> None:
    remote = open_remote(merge_gap_bytes=0)
    sample = remote.sample(0)
    remote.read_many(sample, [(20_000, 5_000)])
    server.clear()
    remote.read_many(sample, [(15_000, 20_000)])
    asked = sorted((r.first, r.last) for r in server.requests)
    assert asked == [(15_000, 19_999), (25_000, 34_999)]


def test_near_ranges_are_asked_for_as_one(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote, ranges = (
        open_remote(),
        [(40_000, 10_000), (51_000, 10_000), (52_000, 100), (200_000, 10)],
    )
    sample = remote.sample(0)
    server.clear()
    assert remote.read_many(sample, ranges) == local.read_many(local.sample(0), ranges)
    asked = sorted((r.first, r.last) for r in server.requests)
    assert asked == [(40_000, 60_999), (200_000, 200_009)]


def test_a_reader_fetches_ahead_and_asks_for_the_rest(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    sample = remote.sample(0)
    server.clear()
    read = remote.reader(sample, [(30_000, 1_000), (10_000, 2_000)])
    assert len(server.requests) == 2
    for offset, size in [(10_000, 2_000), (10_500, 7), (30_999, 1)]:
        assert read(offset, size) == local.read(local.sample(0), offset, size)
    assert len(server.requests) == 2
    assert read(31_000, 5) == local.reader(local.sample(0), [])(31_000, 5)
    assert len(server.requests) == 3


def test_ranges_of_one_call_and_reads_of_several_threads_run_at_once(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote(attempts=1)
    for first in (0, 4, 8):
        remote.sample(first)  # its shard's index
    for samples in ([0], range(1, 9)):
        # nobody is answered before picture and sound of all of them are asked for
        together = threading.Barrier(2 * len(samples))
        server.faults = lambda *_, b=together: b.wait(60) and None
        with ThreadPoolExecutor(len(samples)) as pool:
            assert all(pool.map(lambda i: same(local, remote, i), samples))


def test_no_more_connections_than_allowed(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    server.latency_seconds = 0.02
    remote = open_remote(connections=3)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda i: same(local, remote, i), range(len(remote))))
    assert server.most_at_once == 3


def test_one_thread_opens_a_shard_and_the_others_are_not_held_up(
    open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    remote.sample(11)
    server.clear()
    asked, go = threading.Event(), threading.Event()

    def hold(_: int, __: Request) -> None:
        asked.set()
        assert go.wait(60)

    server.faults = hold
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(remote.sample, i) for i in range(4)]
        assert asked.wait(60)
        pool.submit(remote.sample, 11).result(60)
        assert not any(w.done() for w in waiting)
        go.set()
        assert [w.result().key for w in waiting] == [f"clip-{i:04d}" for i in range(4)]
    assert [r.name for r in server.requests] == ["shard-000000.tar.index"]


def test_processes_share_one_fetch_of_an_index(open_remote: Open, server: RangeServer) -> None:
    server.faults = lambda _, r: Fault(delay_seconds=0.3) if r.name.endswith("index") else None
    start = multiprocessing.get_context("fork").Process
    readers = [start(target=lambda: open_remote().sample(0)) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
        assert reader.exitcode == 0
    assert sorted(r.name for r in server.requests) == [
        *["manifest.json"] * 3,
        "shard-000000.tar.index",
    ]


def read_in_another_process(remote: Dataset, i: int) -> bytes:
    sample = remote.sample(i)
    return b"".join(remote.read_many(sample, segment(sample)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_set_goes_to_other_processes(local: Dataset, open_remote: Open, method: str) -> None:
    remote = open_remote(range_cache_bytes=0)
    assert same(local, remote, 0)
    context: Any = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        for i in (0, 5):
            assert pool.apply(read_in_another_process, (remote, i)) == read_in_another_process(
                local, i
            )
    assert same(local, remote, 1)


def test_a_range_outside_the_shard_is_refused_without_a_request(
    open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    sample, size = remote.sample(0), remote.manifest.shards[0].size
    server.clear()
    with pytest.raises(
        RemoteError, match=rf"bytes {size - 1} to {size + 3} were asked .* shard has {size}\."
    ):
        remote.read(sample, size - 1, 5)
    assert not server.requests


def test_mapped_indexes_are_bounded_by_their_part_of_the_cache(
    local: Dataset, open_remote: Open, server: RangeServer, tmp_path: Path
) -> None:
    largest = max(s.index_size for s in local.manifest.shards)
    remote = open_remote(index_cache_bytes=2 * (largest + 8192))
    for i in [0, 4, 8] * 3:
        assert same(local, remote, i)
        assert len(remote._open) <= 2
    kept = [p for p in (tmp_path / "cache" / "indexes").iterdir() if len(p.name) == 64]
    assert 1 <= len(kept) <= 2
    assert sum(r.name.endswith(".index") for r in server.requests) == 9  # each left before its turn


def test_nothing_in_memory_grows_with_use(local: Dataset, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.range_server", str(local.path)]
    root, rng = Path(__file__).parents[3], random.Random(0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as server:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        options = RemoteOptions(cache_folder=str(tmp_path), range_cache_bytes=1 << 20)
        remote = Dataset.open(url, remote=options)

        def use(times: int) -> None:
            for _ in range(times):
                sample = remote.sample(rng.randrange(len(remote)))
                remote.read_many(sample, segment(sample, rng.uniform(0, 2.9)))

        try:
            use(60)
            tracemalloc.start()
            use(20)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            use(150)
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            server.kill()
    assert after - before < 100_000  # one segment is 60 kB


def test_a_cache_that_cannot_be_written_costs_requests_and_says_so(
    local: Dataset, open_remote: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "/cache/ranges")

    remote = open_remote()
    monkeypatch.setattr(RangeCache, "put", full)
    with pytest.warns(UserWarning, match=r"/cache/ranges cannot be written \(No space left"):
        assert same(local, remote, 0)
    with pytest.warns(UserWarning, match="range_cache_bytes = 0"):
        assert same(local, remote, 0)


def test_the_cache_lies_where_the_user_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "gdt-stream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "gdt-stream"


def test_file_urls_are_read_here_and_other_protocols_by_fsspec(
    local: Dataset, tmp_path: Path
) -> None:
    import fsspec

    here = Dataset.open(Path(local.path).as_uri())
    assert not here.is_remote
    assert same(local, here, 0)

    memory: Any = fsspec.filesystem("memory")
    for path in Path(local.path).iterdir():
        memory.pipe(f"/sets/train/{path.name}", path.read_bytes())
    remote = Dataset.open(
        "memory://sets/train/", remote=RemoteOptions(cache_folder=str(tmp_path), attempts=1)
    )
    assert remote.is_remote
    assert all(same(local, remote, i) for i in range(len(remote)))
    memory.rm("/sets/train/shard-000000.tar")
    with pytest.raises(
        RemoteError, match=r"memory://sets/train/shard-000000.tar, bytes .*NotFound"
    ):
        remote.read(remote.sample(0), 0, 100)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("nosuch://host/train", r"nosuch:// is not a protocol that fsspec knows"),
        ("http://host/train?token=1", r"a URL with '\?' or '#' names one file"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused(url: str, text: str) -> None:
    with pytest.raises(RemoteError, match=text):
        Dataset.open(url)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)
    with pytest.raises(RemoteError, match=r"http:// needs .*aiohttp.*install gdt-stream\[http\]"):
        Dataset.open("http://127.0.0.1:1/train")


def test_a_password_is_sent_and_never_shown(
    server: RangeServer, local: Dataset, tmp_path: Path
) -> None:
    url = server.url.replace("http://", "http://me:secret@")
    remote = Dataset.open(url, remote=RemoteOptions(cache_folder=str(tmp_path)))
    assert same(local, remote, 0)
    server.faults = lambda *_: Fault(status=403)
    with pytest.raises(RemoteError) as caught:
        remote.sample(11)
    shown = (
        f"{caught.value!r} {remote!r} {remote.path} {remote.summary()} {remote._store.options!r}"  # type: ignore[union-attr]
    )
    assert "secret" not in shown
    assert "status 403" in shown


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [("attempts", 0, "at least 1"), ("timeout_seconds", 0.0, "more than 0"),
     ("range_cache_bytes", -1, "at least 0")],
)  # fmt: skip
def test_options_check_themselves(name: str, value: float, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"RemoteOptions: {name} = {value}, must be {allowed}"):
        RemoteOptions(**{name: value})  # type: ignore[arg-type]


def test_bytes_of_a_segment_are_near_those_that_it_needs(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    """At most 1.3 × the needed groups of pictures and sound, indexes included."""
    remote, rng = open_remote(range_cache_bytes=0), np.random.default_rng(1)
    needed = 0
    server.clear()
    for _ in range(4):
        for i in rng.permutation(len(remote)).tolist():
            sample = remote.sample(i)
            ranges = segment(sample, float(rng.uniform(0, 2.9)))
            needed += sum(size for _, size in ranges)
            remote.read_many(sample, ranges)
    whole = 4 * sum(s.size for s in local.manifest.shards)
    assert server.bytes_sent < 1.3 * needed < 0.5 * whole


def test_shard_names_with_odd_characters_are_asked_for_rightly(tmp_path: Path) -> None:
    odd = write_made_up_shards(tmp_path / "odd", 2, 1, name="a b%20#?é+&{}.tar")
    with RangeServer(tmp_path) as server:
        options = RemoteOptions(cache_folder=str(tmp_path / "cache"))
        remote = Dataset.open(f"{server.url}/odd", remote=options)
        assert all(same(odd, remote, i) for i in range(2))
        assert server.requests[-1].name == "odd/a b%20#?é+&1.tar"
