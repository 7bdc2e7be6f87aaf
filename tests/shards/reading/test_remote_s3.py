"""S3 through s3fs, against a server that speaks it, in a process of its own on loopback."""

import random
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.made_up_shards import write_made_up_shards
from shards import Dataset, RemoteError, RemoteOptions
from shards.maintenance.verify import verify
from tests.shards.s3_server import endpoint, file_system, quick, s3_server

pytest.importorskip("moto", reason="moto[server] speaks S3 here")
pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_made_up_shards(tmp_path_factory.mktemp("made"), 4, 2, seconds=2)


@pytest.fixture(scope="module")
def port(local: Dataset) -> Iterator[int]:
    """Of a server whose bucket holds the data set under sets/train."""
    with s3_server() as number:
        fs = file_system(number)
        fs.mkdir("shards")
        for path in Path(local.path).iterdir():
            fs.put_file(str(path), f"shards/sets/train/{path.name}")
        yield number


def open_it(port: int, cache: Path, **options: Any) -> Dataset:
    given: dict[str, Any] = {
        "backoff_seconds": 0.001,
        "storage_options": endpoint(port),
        "cache_folder": str(cache),
    }
    remote = RemoteOptions(**(given | options))
    return Dataset.open("s3://shards/sets/train", remote=remote)


def read(dataset: Dataset, i: int) -> list[bytes]:
    sample = dataset.sample(i)
    return dataset.read_many(sample, [(m.offset, m.size) for m in sample.members.values()])


def test_s3_gives_what_the_disk_gives(local: Dataset, port: int, tmp_path: Path) -> None:
    remote = open_it(port, tmp_path)
    assert remote.fingerprint == local.fingerprint
    for i in range(len(local)):
        assert read(remote, i) == read(local, i)
        assert remote.metadata(i) == local.metadata(i)
    manifest = (Path(local.path) / "manifest.json").stat().st_size
    indexes = sum(s.index_size for s in local.manifest.shards)
    samples = sum(map(len, (b for i in range(4) for b in read(local, i))))
    extra = remote.traffic.bytes_fetched - manifest - indexes - samples
    assert 0 <= extra < 0.2 * samples  # tar headers between members
    assert remote.traffic.requests == 1 + 2 + 4


def test_environment_variables_are_enough(
    local: Dataset, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remote = Dataset.open("s3://shards/sets/train")
    assert read(remote, 0) == read(local, 0)


def test_what_is_not_there_is_asked_for_once(port: int, tmp_path: Path) -> None:
    with pytest.raises(
        RemoteError, match=r"s3://shards/nowhere/manifest\.json, the whole file: status 404 NoSuchK"
    ):
        Dataset.open(
            "s3://shards/nowhere",
            remote=RemoteOptions(
                storage_options=endpoint(port),
                cache_folder=str(tmp_path),
            ),
        )


def test_what_lies_on_s3_is_verified_there(local: Dataset, port: int, tmp_path: Path) -> None:
    fs = file_system(port)
    remote = quick(port, cache_folder=str(tmp_path))
    found = verify("s3://shards/sets", num_threads=2, remote=remote)  # holds train alone
    assert (found.shards, found.samples, found.problems) == (2, 4, [])
    assert found.bytes_read == sum(s.size for s in local.manifest.shards)
    name = "shards/sets/train/shard-000001.tar"
    whole = (Path(local.path) / "shard-000001.tar").read_bytes()
    sample = local.sample(3)
    at = sample.members["json"].offset
    fs.pipe_file(name, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    try:
        (problem,) = verify("s3://shards/sets/train", remote=remote).problems
        assert str(problem) == f"shard-000001.tar, sample {sample.key}: .json is damaged"
        assert verify("s3://shards/sets/train", quick=True, remote=remote).problems == []
        fs.pipe_file(name, whole[:-1])
        (problem,) = verify("s3://shards/sets/train", quick=True, remote=remote).problems
        assert "bytes, the manifest says" in str(problem)
    finally:
        fs.pipe_file(name, whole)


def test_a_shard_cut_short_is_refused(local: Dataset, port: int, tmp_path: Path) -> None:
    fs = file_system(port)
    name, size = "shards/sets/train/shard-000001.tar", local.manifest.shards[1].size
    whole = (Path(local.path) / "shard-000001.tar").read_bytes()
    fs.pipe_file(name, whole[:100_000])
    try:
        remote = open_it(port, tmp_path)
        with pytest.raises(
            RemoteError, match=rf"has 100000 bytes, the manifest says {size}: it was replaced"
        ):
            read(remote, 2)
        with pytest.raises(RemoteError, match=rf"has 100000 bytes, the manifest says {size}"):
            read(remote, 3)  # begins after the end
    finally:
        fs.pipe_file(name, whole)


class BreakingProxy:
    """Passes bytes between client and server, and breaks every so many answers in the middle."""

    def __init__(self, port: int, share: float) -> None:
        self._server_port, self._share, self._rng = port, share, random.Random(3)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            for a, b, breaks in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass, args=(a, b, breaks), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, breaks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16_384):
                if breaks and self._rng.random() < self._share:
                    self.broken += 1
                    target.sendall(data[: len(data) // 2])
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def test_broken_connections_cost_nothing_but_requests(
    local: Dataset, port: int, tmp_path: Path
) -> None:
    proxy = BreakingProxy(port, 0.05)
    try:
        remote = open_it(proxy.port, tmp_path, range_cache_bytes=0, attempts=10)
        expected = [read(local, i) for i in range(4)]
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda n: read(remote, n % 4) == expected[n % 4], range(40)))
    finally:
        proxy.close()
    assert proxy.broken > 5
    assert 0 < remote.traffic.broken <= remote.traffic.requests - 1 - 2 - 40


def test_a_server_that_is_gone_is_an_error_that_names_the_url(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with pytest.raises(
        RemoteError, match=r"s3://shards/sets/train/manifest.json.*gave up after 3 attempts"
    ):
        open_it(free, tmp_path, attempts=3)
