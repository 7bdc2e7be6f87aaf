"""Servers and networks at fault: the right bytes, or an error that says where, what and how often.

The server is real and on loopback; its faults are made to order. What must come out is what the
file on the disk holds.
"""

import multiprocessing
import random
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_up_shards import write_made_up_shards
from benchmarks.range_server import Fault, RangeServer, Request
from shards import ChecksumError, Dataset, IndexFormatError, RemoteError, RemoteOptions, ShardError
from shards.format.manifest import MANIFEST_NAME
from shards.storage.cache import BoundedFolder
from tests.faults.endless_reader import media, read, read_for_ever

Open = Callable[..., Dataset]
TAR = "shard-000000.tar"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_made_up_shards(tmp_path_factory.mktemp("made"), 8, 4, seconds=2)


@pytest.fixture
def server(local: Dataset) -> Iterator[RangeServer]:
    with RangeServer(Path(local.path)) as server:
        yield server


def remote_options(tmp_path: Path, **options: Any) -> RemoteOptions:
    quick = {"backoff_seconds": 0.001, "attempts": 4, "merge_gap_bytes": 0}
    return RemoteOptions(**{**quick, "cache_folder": str(tmp_path / "cache"), **options})


@pytest.fixture
def open_remote(server: RangeServer, tmp_path: Path) -> Open:
    return lambda **options: Dataset.open(server.url, remote=remote_options(tmp_path, **options))


def on(name: str, *faults: Fault | None) -> Callable[[int, Request], Fault | None]:
    """These faults for the first requests for a file, none for the later ones."""
    left = list(faults)

    def faults_of(_: int, request: Request) -> Fault | None:
        return left.pop(0) if request.name == name and left else None

    return faults_of


def always(name: str, fault: Fault) -> Callable[[int, Request], Fault | None]:
    return lambda _, request: fault if request.name == name else None


PASSING = {
    "reset": Fault(reset_after=10_000),
    "reset before the body": Fault(reset_after=0),
    "cut short": Fault(stop_after=12_345),
    "stalled": Fault(stall_after=5_000),
    "500": Fault(status=500),
    "502": Fault(status=502),
    "503 with Retry-After": Fault(status=503, retry_after="0"),
    "429 with a date": Fault(status=429, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
    "no Content-Range": Fault(content_range=" "),
    "a Content-Range that is none": Fault(content_range="bytes ten-20/30"),
    "another range": Fault(content_range="bytes 5-9/SIZE"),
    "other bytes under the right header": Fault(shift=3),
    "a flipped bit": Fault(flip_byte=20_000),
    "late": Fault(delay_seconds=0.1),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_costs_a_request_and_no_byte(
    local: Dataset, open_remote: Open, server: RangeServer, fault: Fault
) -> None:
    size = local.manifest.shards[0].size
    if fault.content_range:
        wrong = fault.content_range.replace("SIZE", str(size))
        fault = Fault(content_range=wrong)
    remote = open_remote(timeout_seconds=30 if fault.stall_after is None else 1.0)
    remote.sample(0)
    server.clear()
    server.faults = on(TAR, fault)
    assert read(remote, 0) == read(local, 0)
    # a wrong checksum has the sample fetched anew, all else only what is missing
    extra = 2 if fault.shift or fault.flip_byte else 0 if fault.delay_seconds else 1
    assert len(server.requests) == 2 + extra  # picture and sound


@pytest.mark.parametrize(
    ("how", "cut"),
    [("reset", 1), ("reset", 40_000), ("stop", 1), ("stop", 999), ("stop", 40_000), ("stall", 999)],
)
def test_a_broken_answer_is_continued_at_the_byte_where_it_broke(
    local: Dataset, open_remote: Open, server: RangeServer, how: str, cut: int
) -> None:
    remote = open_remote(timeout_seconds=1.0 if how == "stall" else 30)
    offset, size = media(remote, 0)[0]
    server.clear()
    breaks = {
        "reset": Fault(reset_after=cut),
        "stop": Fault(stop_after=cut),
        "stall": Fault(stall_after=cut),
    }
    server.faults = on(TAR, breaks[how], breaks[how])
    sample = remote.sample(0)
    assert remote.read(sample, offset, size) == local.read(local.sample(0), offset, size)
    firsts = [r.first for r in server.requests]
    if how == "reset":  # a reset may overtake bytes that were sent before it
        assert firsts == sorted(firsts)
        assert offset == firsts[0] <= firsts[1] <= offset + cut
    else:
        assert firsts == [offset, offset + cut, offset + 2 * cut]
    assert {r.last for r in server.requests} == {offset + size - 1}


def test_manifest_and_index_are_continued_too(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    breaks = [on(MANIFEST_NAME, Fault(stop_after=50)), on(TAR + ".index", Fault(stop_after=999))]
    server.faults = lambda n, request: next((f for b in breaks if (f := b(n, request))), None)
    remote = open_remote()
    assert read(remote, 0) == read(local, 0)
    asked = [(r.name, r.first) for r in server.requests[:4]]
    name = TAR + ".index"
    assert asked == [(MANIFEST_NAME, 0), (MANIFEST_NAME, 50), (name, 0), (name, 999)]


def test_faults_all_the_time_and_nothing_is_lost_or_wrong(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    """Latency all the time, 5 % each of resets, cut answers and 503, and now and then a flip."""
    rng = random.Random(5)
    kinds: list[Callable[[], Fault]] = [
        lambda: Fault(reset_after=rng.randrange(60_000)),
        lambda: Fault(stop_after=rng.randrange(60_000)),
        lambda: Fault(status=503, retry_after="0"),
    ]

    def faults(number: int, _: Request) -> Fault | None:
        # Flips come one by one: in a row they are damage, not noise, and are reported as such.
        if number % 50 == 49:
            return Fault(flip_byte=rng.randrange(60_000))
        draw = rng.random() * 20
        return kinds[int(draw)]() if draw < len(kinds) else None

    server.faults, server.latency_seconds = faults, 0.002
    remote = open_remote(range_cache_bytes=0, attempts=8)
    expected = [read(local, i) for i in range(len(local))]
    work = [i for _ in range(25) for i in range(len(remote))]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda i: read(remote, i) == expected[i], work))
    assert remote.traffic.broken > 20
    assert len(server.requests) == remote.traffic.requests < 1.5 * 2 * len(work)


LASTING = {
    "reset": (Fault(reset_after=0), "Reset|disconnected|Payload"),
    "cut short": (Fault(stop_after=0), r"ended after 0 of \d+ bytes|Payload"),
    "503": (Fault(status=503, retry_after="0"), "status 503 Service Unavailable"),
    "500": (Fault(status=500), "status 500 Internal Server Error"),
    "another range": (Fault(content_range="bytes 0-9/10"), "has 10 bytes, the manifest says"),
    "no range": (Fault(content_range="x"), "Content-Range is 'x'"),
}


@pytest.mark.parametrize(("fault", "cause"), LASTING.values(), ids=LASTING)
def test_a_lasting_fault_names_url_range_attempts_and_cause(
    open_remote: Open, server: RangeServer, fault: Fault, cause: str
) -> None:
    remote = open_remote()
    offset, size = media(remote, 0)[0]
    server.clear()
    server.faults = always(TAR, fault)
    with pytest.raises(RemoteError) as caught:
        remote.read(remote.sample(0), offset, size)
    text = str(caught.value)
    assert text.startswith(f"{server.url}/{TAR}, bytes {offset} to {offset + size - 1}: ")
    assert re.search(cause, text), text
    if "gave up" in text:
        assert "gave up after 4 attempts in 0." in text
        assert "Check server and network" in text
        assert len(server.requests) == 4
    else:
        assert len(server.requests) == 1, "asked again for what does not change"


def test_a_trickle_of_bytes_does_not_keep_a_request_alive_for_ever(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    offset, size = media(remote, 0)[0]
    server.clear()
    server.faults = always(TAR, Fault(reset_after=100))
    with pytest.raises(RemoteError, match=r"gave up after 4 attempts .* \d+ bytes received"):
        remote.read(remote.sample(0), offset, size)
    assert len(server.requests) == 4
    server.faults = None
    assert read(remote, 0) == read(local, 0)


def test_a_trickle_is_broken_off_and_continued(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    """Each byte comes in time, and all of them would take a minute."""
    remote = open_remote(timeout_seconds=1.0)
    sample, offset = remote.sample(0), media(remote, 0)[0][0]
    server.clear()
    server.faults = on(TAR, Fault(trickle_seconds=0.1))
    assert remote.read(sample, offset, 1000) == local.read(local.sample(0), offset, 1000)
    first, second = server.requests
    assert offset < second.first < offset + 20
    assert first.last == second.last


def test_a_cache_that_cannot_be_made_is_one_clear_error(open_remote: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    remote = open_remote(cache_folder=str(tmp_path / "file"))
    with pytest.raises(
        ShardError, match=r"cache .*/file/indexes cannot be written \(.*\).*with cache_folder"
    ):
        remote.sample(0)


def test_a_server_that_ignores_ranges_is_refused_and_its_whole_file_not_read(
    open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    remote.sample(0)
    server.clear()
    server.faults = always(TAR, Fault(ignore_range=True))
    size = remote.manifest.shards[0].size
    with pytest.raises(
        RemoteError, match=rf"server ignores byte ranges: .* whole file of {size} bytes.*nginx"
    ):
        read(remote, 0)
    assert len(server.requests) <= 2  # picture and sound, unless the first was refused before
    assert remote.traffic.bytes_fetched < size


def test_whole_files_may_come_from_a_server_that_ignores_ranges(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    name = TAR + ".index"
    whole = Fault(ignore_range=True)
    broken = Fault(ignore_range=True, stop_after=1000)
    server.faults = lambda n, r: {MANIFEST_NAME: whole, name: broken if n < 2 else whole}.get(
        r.name
    )
    remote = open_remote()
    assert remote.sample(0).key == local.sample(0).key
    assert [r.first for r in server.requests] == [0, 0, 1000]  # from the start again, all of it


@pytest.mark.parametrize("change", ["longer", "shorter"])
def test_a_shard_of_another_size_is_refused_with_both_sizes(
    local: Dataset, tmp_path: Path, change: str
) -> None:
    shutil.copytree(local.path, tmp_path / "copy")
    tar = tmp_path / "copy" / TAR
    size, other = tar.stat().st_size, {"longer": 10, "shorter": -600_000}[change]
    data = tar.read_bytes()
    tar.write_bytes(data[:other] if other < 0 else data + bytes(other))
    with RangeServer(tmp_path / "copy") as server:
        options = RemoteOptions(cache_folder=str(tmp_path / "cache"))
        remote = Dataset.open(server.url, remote=options)
        remote.sample(3)
        server.clear()
        with pytest.raises(
            RemoteError,
            match=rf"has {size + other} bytes, the manifest says {size}: it was replaced or cut",
        ):
            remote.read(remote.sample(3), *media(remote, 3)[1])
        assert len(server.requests) == 1


def test_a_shard_that_is_replaced_while_it_is_read_is_refused_with_both_etags(
    local: Dataset, open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    assert read(remote, 0) == read(local, 0)
    server.faults = always(TAR, Fault(etag='"another"'))
    with pytest.raises(
        RemoteError, match=r'its ETag was "[0-9a-f]{16}" and is now "another": .*check_etag = false'
    ):
        read(remote, 1)
    lenient = open_remote(check_etag=False)
    server.faults = on(TAR, None, Fault(etag='"another"'))
    assert read(lenient, 1) == read(local, 1)


def test_an_answer_is_never_made_of_two_versions_of_a_file(
    open_remote: Open, server: RangeServer
) -> None:
    remote = open_remote()
    remote.sample(0)
    server.faults = on(TAR, Fault(stop_after=100, etag='"one"'), Fault(etag='"two"'))
    with pytest.raises(RemoteError, match='its ETag was "one" and is now "two"'):
        remote.read(remote.sample(0), *media(remote, 0)[0])


@pytest.mark.parametrize("status", [401, 403, 404, 410, 501])
def test_what_another_attempt_would_not_change_is_asked_once(
    open_remote: Open, server: RangeServer, status: int
) -> None:
    remote = open_remote()
    server.clear()
    server.faults = lambda *_: Fault(status=status)
    with pytest.raises(RemoteError, match=rf"{TAR}\.index, bytes 0 to \d+: status {status} "):
        remote.sample(0)
    assert len(server.requests) == 1


def test_a_missing_data_set_says_what_the_url_has_to_be(server: RangeServer) -> None:
    with pytest.raises(
        RemoteError,
        match=rf"No data set could be opened at {server.url}/nowhere\. .*status 404 Not Found.*"
        r"the folder with manifest\.json",
    ):
        Dataset.open(f"{server.url}/nowhere/")
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/train"
        options = RemoteOptions(attempts=3, backoff_seconds=0, cache_folder=str(tmp_path))
        with pytest.raises(RemoteError, match=r"gave up after 3 attempts .*Cannot connect to host"):
            Dataset.open(url, remote=options)


@pytest.mark.parametrize("damage", ["changed", "cut", "of another set"])
def test_an_index_that_is_not_the_manifests_is_refused(
    local: Dataset, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(local.path, folder)
    index = folder / (TAR + ".index")
    data = index.read_bytes()
    if damage == "changed":
        index.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        index.write_bytes(data[:-1])
    else:
        index.write_bytes((folder / "shard-000001.tar.index").read_bytes())
    with RangeServer(folder) as server:
        remote = Dataset.open(
            server.url, remote=RemoteOptions(cache_folder=str(tmp_path / "cache"))
        )
        if damage == "cut":
            with pytest.raises(RemoteError, match=rf"{len(data) - 1} bytes, the manifest says"):
                remote.sample(0)
        else:
            expected = remote.manifest.shards[0].index_sha256
            with pytest.raises(
                IndexFormatError, match=rf"is not the index that .*SHA-256 .*manifest {expected}"
            ):
                remote.sample(0)
            assert len(server.requests) == 1 + 3
        assert remote.sample(4).key == local.sample(4).key


def test_a_damaged_manifest_is_refused(local: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(local.path, folder)
    manifest = folder / MANIFEST_NAME
    other = '"index_sha256": "' + "0" * 64 + '"'
    manifest.write_text(re.sub(r'"index_sha256": "\w+"', other, manifest.read_text()))
    with (
        RangeServer(folder) as server,
        pytest.raises(IndexFormatError, match=rf"{server.url}/manifest.json does not agree"),
    ):
        Dataset.open(server.url)


def test_a_damaged_shard_is_refused_and_not_kept(local: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(local.path, folder)
    tar, sample = folder / TAR, local.sample(0)
    assert sample.video is not None
    data = bytearray(tar.read_bytes())
    place = int(sample.video.packets.offset[7]) + 3
    data[place] ^= 1
    data[sample.members["json"].offset] ^= 1
    tar.write_bytes(data)
    with RangeServer(folder) as server:
        options = RemoteOptions(cache_folder=str(tmp_path / "cache"))
        remote = Dataset.open(server.url, remote=options)
        first, last = sample.video.packets.offset[[0, 20]].tolist()
        server.clear()
        with pytest.raises(
            ChecksumError,
            match=rf"{TAR}: video packet 7 of clip-0000, \d+ bytes at {place - 3}, has crc32 "
            r"[0-9a-f]{8}, the index says [0-9a-f]{8}, after 3 fetches.*verify",
        ):
            remote.read(remote.sample(0), first, last - first)
        assert sum(r.name == TAR for r in server.requests) == 3
        with pytest.raises(ChecksumError, match=r"member clip-0000\.json, \d+ bytes at \d+, has"):
            remote.metadata(0)
        # once the shard is right again, so is what is read
        tar.write_bytes((Path(local.path) / TAR).read_bytes())
        again = Dataset.open(server.url, remote=options)
        assert read(again, 0) == read(local, 0)
        assert again.metadata(0) == local.metadata(0)


def test_damage_in_the_cache_is_mended(local: Dataset, open_remote: Open, tmp_path: Path) -> None:
    remote = open_remote()
    assert read(remote, 0) == read(local, 0)
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file() and path.name != "lock":
            path.write_bytes(path.read_bytes()[:-1] + b"?")
    again = open_remote()
    assert read(again, 0) == read(local, 0)


def test_waits_double_with_jitter_and_heed_the_server_up_to_a_limit() -> None:
    options = RemoteOptions(backoff_seconds=0.5, max_backoff_seconds=10)
    for attempt in range(8):
        full = min(10.0, 0.5 * 2**attempt)
        waits = [options.pause_seconds(attempt, 0.0) for _ in range(50)]
        assert full / 2 <= min(waits) < max(waits) or min(waits) == 10.0
        assert max(waits) <= full
    assert options.pause_seconds(0, 7.0) == 7.0
    assert options.pause_seconds(0, 3600.0) == 10.0


def test_retry_after_reaches_the_wait(
    open_remote: Open, server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def no_wait(_: RemoteOptions, __: int, wait_seconds: float) -> float:
        asked.append(wait_seconds)
        return 0.0

    monkeypatch.setattr(RemoteOptions, "pause_seconds", no_wait)
    remote = open_remote()
    busy = [Fault(status=503, retry_after=text) for text in ("17", "soon")]
    server.faults = on(TAR + ".index", *busy, Fault(status=503))
    remote.sample(0)
    assert asked == [17.0, 0.0, 0.0]


def test_a_reader_killed_at_any_moment_leaves_a_cache_that_is_right(
    local: Dataset, open_remote: Open, server: RangeServer, tmp_path: Path
) -> None:
    rng = random.Random(11)
    # not forked from here, where the server has threads
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([read_for_ever.__module__])
    options = remote_options(tmp_path, range_cache_bytes=1 << 20)
    for round_ in range(12):
        begun = context.Event()
        what = (server.url, str(local.path), options, round_, begun)
        reader = context.Process(target=read_for_ever, args=what)
        reader.start()
        assert begun.wait(60)
        time.sleep(rng.uniform(0, 0.2))
        reader.kill()
        reader.join()
        assert reader.exitcode == -signal.SIGKILL
    assert len(server.requests) > 12 * 3, "the readers read before they were killed"
    assert 0 < BoundedFolder(tmp_path / "cache" / "ranges", 0).used_bytes() <= 1 << 20
    remote = open_remote()  # with room, so that what is there is not dropped before it is read
    assert all(read(remote, i) == read(local, i) for i in range(len(remote)))
    assert remote.traffic.bytes_from_cache > 0
