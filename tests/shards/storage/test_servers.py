"""Servers that send nonsense, that send us elsewhere, or that hardly send at all: one message each.

All are real servers on this machine, reached as any other.
"""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from benchmarks.range_server import Fault, RangeServer
from shards import Dataset, RemoteError, RemoteOptions
from shards.storage import http_server
from shards.storage.transfer import RemoteFile, Transfer

BODY = bytes(range(256)) * 40
QUICK = RemoteOptions(attempts=2, backoff_seconds=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(BODY)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[RangeServer]:
    with RangeServer(folder) as server:
        yield server


def fetch(url: str, options: RemoteOptions = QUICK) -> bytes:
    return Transfer(url, options).fetch(RemoteFile(url), [(100, 5000)])[0].data


DIGITS = "9" * 5000


@pytest.mark.parametrize(
    "odd",
    [
        f"bytes 100-4999/{DIGITS}",
        f"bytes {DIGITS}-4999/10240",
        f"bytes 100-{DIGITS}/10240",
        "bytes -100-4999/10240",
        "bytes 100-4999/-1",
        "bytes 4999-100/10240",
        "bytes 100-4999/4999",
        "bytes 0x64-0x1387/0x2800",
        "bytes 100.0-4999.0/10240.0",
        "bytes 100-4999",
        "bytes */*",
        "lines 100-4999/10240",
        "bytes \u0661\u0660\u0660-4999/10240".encode().decode("latin-1"),
    ],
)
def test_an_odd_content_range_is_one_short_message(server: RangeServer, odd: str) -> None:
    server.faults = lambda *_: Fault(content_range=odd)
    with pytest.raises(RemoteError, match=r"gave up after 2 attempts .*Content-Range is") as failed:
        fetch(f"{server.url}/file")
    assert len(str(failed.value)) < 500


def test_an_end_of_5000_digits_is_one_message(server: RangeServer) -> None:
    """A 416 that says with such a number how long the file is."""
    server.faults = lambda *_: Fault(status=416, content_range=f"bytes */{DIGITS}")
    with pytest.raises(RemoteError, match="the file has fewer bytes"):
        fetch(f"{server.url}/file")


@pytest.mark.parametrize("header", ["-1", "1e400", DIGITS, "Mon, 01 Jan 0001 00:00:00 +2359"])
def test_an_odd_retry_after_does_not_end_the_attempts(server: RangeServer, header: str) -> None:
    faults = [Fault(status=503, retry_after=header)]
    server.faults = lambda *_: faults.pop() if faults else None
    options = RemoteOptions(backoff_seconds=0, max_backoff_seconds=0.01)
    assert fetch(f"{server.url}/file", options) == BODY[100:5000]


def test_s3_with_5000_digits_is_one_message(server: RangeServer, tmp_path: Path) -> None:
    pytest.importorskip("s3fs")
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "manifest.json").write_bytes(BODY)
    server.faults = lambda *_: Fault(content_range=f"bytes 0-9/{DIGITS}")
    keys = {"key": "a", "secret": "b", "endpoint_url": server.url}
    options = RemoteOptions(attempts=2, backoff_seconds=0, storage_options=keys)
    with pytest.raises(RemoteError, match=r"gave up after 2 attempts .*Content-Range is"):
        Dataset.open("s3://bucket", remote=options)


def test_a_manifest_at_a_byte_at_a_time_is_given_up(server: RangeServer, folder: Path) -> None:
    """Nobody says how long a manifest is; all of it would take half an hour."""
    (folder / "manifest.json").write_bytes(BODY)
    server.faults = lambda *_: Fault(trickle_seconds=0.2)
    options = RemoteOptions(attempts=2, backoff_seconds=0, timeout_seconds=0.5)
    began = time.monotonic()
    with pytest.raises(RemoteError, match="slower than 16384 bytes a second"):
        Dataset.open(server.url, remote=options)
    assert time.monotonic() - began < 10


def test_what_comes_fast_enough_may_take_long(server: RangeServer) -> None:
    """Three times the timeout, at a pace that is just above the least."""
    (server.folder / "file").write_bytes(bytes(60_000))
    server.faults = lambda *_: Fault(pace_bytes=20_000)
    options = RemoteOptions(attempts=1, timeout_seconds=0.8)
    file = RemoteFile(f"{server.url}/file")
    assert Transfer(server.url, options).fetch_file(file) == bytes(60_000)


class SlowFiles(MemoryFileSystem):  # type: ignore[misc]
    """A protocol whose files come in one piece, after a while."""

    protocol = "slowfiles"

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> Any:
        time.sleep(3 if end is None or end - (start or 0) > 1 << 20 else 0)
        return super().cat_file(path, start=start, end=end)


def test_other_protocols_are_asked_for_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that their pace can be seen too, also where nobody says how much there is."""
    fsspec.register_implementation("slowfiles", SlowFiles, clobber=True)
    data = bytes(3 << 20) + b"end"
    SlowFiles().pipe_file("slowfiles://big", data)
    options = RemoteOptions(attempts=1, timeout_seconds=1)
    transfer = Transfer("slowfiles://big", options)
    assert transfer.fetch_file(RemoteFile("slowfiles://big")) == data
    got = transfer.fetch(RemoteFile("slowfiles://big"), [(5, len(data))])
    assert got[0].data == data[5:]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://u:p@127.0.0.1/x", "data:,x"])
def test_a_redirect_to_another_protocol_is_refused_at_once(
    server: RangeServer, location: str
) -> None:
    server.faults = lambda *_: Fault(status=302, location=location)
    scheme = location.partition(":")[0]
    with pytest.raises(RemoteError, match=f"redirects to {scheme}:.*only http and https"):
        fetch(f"{server.url}/file")
    assert len(server.requests) == 1


def test_redirects_in_circles_end(server: RangeServer) -> None:
    server.faults = lambda *_: Fault(status=302, location="/file")
    with pytest.raises(RemoteError, match="TooManyRedirects"):
        fetch(f"{server.url}/file")


@pytest.fixture
def neighbour(folder: Path) -> Iterator[RangeServer]:
    """Another server; in these tests, only its address is taken for a private one."""
    with RangeServer(folder, host="127.0.0.2") as server:
        yield server


@pytest.fixture
def only_neighbour_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "is_inside", lambda address: address == "127.0.0.2")
    plain = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        known = {"neighbour.example": "127.0.0.2", "other.example": "127.0.0.1"}
        return plain(known.get(host, host), *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.usefixtures("only_neighbour_inside")
@pytest.mark.parametrize("host", ["127.0.0.2", "2130706434", "0x7f.2", "neighbour.example"])
def test_no_redirect_leads_into_a_private_network(
    server: RangeServer, neighbour: RangeServer, host: str
) -> None:
    server.faults = lambda *_: Fault(status=307, location=f"http://{host}:{neighbour.port}/file")
    with pytest.raises(
        RemoteError, match=rf"redirects to http://{re.escape(host)}.*private network \(127\.0\.0\.2"
    ):
        fetch(f"{server.url}/file")
    assert len(server.requests) == 1
    assert not neighbour.requests


@pytest.mark.usefixtures("only_neighbour_inside")
def test_nor_by_a_second_one(server: RangeServer, neighbour: RangeServer) -> None:
    locations = [f"http://127.0.0.2:{neighbour.port}/file", "/there"]
    server.faults = lambda *_: Fault(status=301, location=locations.pop())
    with pytest.raises(RemoteError, match="private network"):
        fetch(f"{server.url}/file")
    assert not neighbour.requests


@pytest.mark.usefixtures("only_neighbour_inside")
@pytest.mark.parametrize("first", ["127.0.0.2", "neighbour.example"])
def test_from_a_private_network_they_are_followed(
    server: RangeServer, neighbour: RangeServer, first: str
) -> None:
    with RangeServer(server.folder, host="127.0.0.2") as other:
        there = f"http://127.0.0.2:{other.port}/file"
        neighbour.faults = lambda *_: Fault(status=302, location=there)
        assert fetch(f"http://{first}:{neighbour.port}/file") == BODY[100:5000]


@pytest.mark.usefixtures("only_neighbour_inside")
def test_redirects_on_the_internet_are_followed(
    server: RangeServer, neighbour: RangeServer
) -> None:
    """Out of a private network too."""
    with RangeServer(server.folder) as other:
        there = f"http://other.example:{other.port}/file"
        for first in (server, neighbour):
            first.faults = lambda *_: Fault(status=308, location=there)
            assert fetch(f"{first.url}/file") == BODY[100:5000]


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("172.31.0.1", True),
        ("192.168.0.1", True),
        ("169.254.169.254", True),
        ("100.64.0.1", True),
        ("0.0.0.0", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("::1", True),
        ("::", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("93.184.216.34", False),
        ("2606:4700:4700::1111", False),
        ("::ffff:93.184.216.34", False),
        ("64:ff9b::5db8:d822", False),
    ],
)
def test_which_addresses_are_private(address: str, inside: bool) -> None:
    assert http_server.is_inside(address) is inside
