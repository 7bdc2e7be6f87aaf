"""A small HTTP server of a folder on this machine: byte ranges, a log of requests, faults to order.

For tests and benchmarks of reading from afar; nothing for the open network. Run as a program it
serves a folder and prints its port; its own figures are at /-/served.
"""

import argparse
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer.

    Attributes:
        reset_after: break the connection after this many bytes of the body, with a TCP reset.
        stop_after: end the body after this many bytes, and the connection in good order.
        stall_after: send this many bytes of the body, and no more until the client leaves.
        trickle_seconds: send a byte, wait this long, and so on.
        pace_bytes: send this many bytes a second, in ten parts.
        status: answer with this, and nothing else.
        retry_after: the header that goes with it.
        content_range: this in place of the right header.
        location: this header, with the status.
        shift: send the bytes this far after the right ones, under the right header.
        ignore_range: answer 200 with the whole file.
        etag: this in place of the right one.
        flip_byte: change this byte of the body.
        delay_seconds: before the answer.
    """

    reset_after: int | None = None
    stop_after: int | None = None
    stall_after: int | None = None
    trickle_seconds: float = 0.0
    pace_bytes: int = 0
    status: int | None = None
    retry_after: str | None = None
    content_range: str | None = None
    location: str | None = None
    shift: int = 0
    ignore_range: bool = False
    etag: str | None = None
    flip_byte: int | None = None
    delay_seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """A request as it came: file, first byte, last byte (None: to the end)."""

    name: str
    first: int
    last: int | None


Faults = Callable[[int, Request], Fault | None]
"""Number of the request and the request → what goes wrong with it."""


class RangeServer:
    """Serves `folder` while in a `with`; `faults` may be set at any time."""

    def __init__(
        self,
        folder: Path,
        latency_seconds: float = 0.0,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder, self.latency_seconds, self.faults = folder, latency_seconds, faults
        self.requests: list[Request] = []
        self._bytes_sent = 0
        self.most_at_once = self._at_once = 0
        self._lock = threading.Condition()
        self.left = threading.Event()
        server = self

        class Handler(_Handler):
            owner = server

        self._http = _Server((host, 0), Handler)
        self.host = host
        self.port: int = self._http.server_address[1]

    @property
    def url(self) -> str:
        """Of the folder."""
        return f"http://{self.host}:{self.port}"

    @property
    def bytes_sent(self) -> int:
        """Of all answers; those that are just about to end are waited for."""
        with self._lock:
            self._lock.wait_for(lambda: not self._at_once, timeout=1)
            return self._bytes_sent

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.left.set()
        self._http.shutdown()
        self._http.server_close()

    def note(self, request: Request) -> Fault:
        """Log a request; what goes wrong with it."""
        with self._lock:
            self.requests.append(request)
            number = len(self.requests) - 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        return (self.faults and self.faults(number, request)) or Fault()

    def done(self, num_bytes: int) -> None:
        """Count what an answer sent."""
        with self._lock:
            self._bytes_sent += num_bytes
            self._at_once -= 1
            self._lock.notify_all()

    def clear(self) -> None:
        """Forget the log."""
        with self._lock:
            self.requests.clear()
            self._bytes_sent = self.most_at_once = 0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    owner: RangeServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Requests are logged by the owner."""

    def do_GET(self) -> None:
        owner = self.owner
        name = unquote(self.path.lstrip("/"))
        if name == "-/served":
            figures = {"requests": len(owner.requests), "bytes": owner.bytes_sent}
            owner.clear()
            self._send(200, {}, json.dumps(figures).encode(), Fault())
            return
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        first = int(match[1]) if match else 0
        last = int(match[2]) if match and match[2] else None
        fault = owner.note(Request(name, first, last))
        sent = 0
        try:
            time.sleep(owner.latency_seconds + fault.delay_seconds)
            sent = self._answer(name, first, last, bool(match), fault)
        finally:
            self.wfile.flush()
            owner.done(sent)

    def _answer(self, name: str, first: int, last: int | None, ranged: bool, fault: Fault) -> int:
        path = self.owner.folder / name
        if fault.status is not None:
            said = {
                "Retry-After": fault.retry_after,
                "Location": fault.location,
                "Content-Range": fault.content_range,
            }
            headers = {name: text for name, text in said.items() if text}
            return self._send(fault.status, headers, b"", Fault())
        if not path.is_file():
            return self._send(404, {}, b"", Fault())
        size, time_ns = path.stat().st_size, path.stat().st_mtime_ns
        tag = f'"{hashlib.sha256(f"{size} {time_ns}".encode()).hexdigest()[:16]}"'
        headers = {"ETag": fault.etag or tag, "Accept-Ranges": "bytes"}
        if not ranged or fault.ignore_range:
            return self._send(200, headers, path.read_bytes(), fault)
        if first >= size:
            return self._send(416, {"Content-Range": f"bytes */{size}"}, b"", Fault())
        stop = min(size, size if last is None else last + 1)
        with path.open("rb") as file:
            file.seek(first + fault.shift)
            body = file.read(stop - first)
        headers["Content-Range"] = fault.content_range or f"bytes {first}-{stop - 1}/{size}"
        return self._send(206, headers, body, fault)

    def _send(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> int:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.flip_byte is not None:
            place = fault.flip_byte % len(body)
            body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        cuts = [
            c for c in (fault.reset_after, fault.stop_after, fault.stall_after) if c is not None
        ]
        if fault.trickle_seconds or fault.pace_bytes:
            part = fault.pace_bytes // 10 or 1
            for i in range(0, len(body), part):
                self.wfile.write(body[i : i + part])
                self.wfile.flush()
                time.sleep(fault.trickle_seconds or 0.1)
        elif not cuts:
            self.wfile.write(body)
        if not cuts:
            return len(body)
        cut = min(cuts[0], max(0, len(body) - 1))
        self.wfile.write(body[:cut])
        self.wfile.flush()
        self.close_connection = True
        if fault.stall_after is not None:
            self.owner.left.wait(60)
        if fault.reset_after is not None:
            # closing with the linger time at 0 sends RST, not FIN
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        return cut


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-seconds", type=float, default=0.0)
    given = parser.parse_args()
    with RangeServer(given.folder, given.latency_seconds) as server:
        print(server.port, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _main()
