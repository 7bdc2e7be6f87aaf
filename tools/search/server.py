"""A small server for live search, of the standard library: a page, its script, and JSON.

    GET  /                         the page
    GET  /clips?words=…&k=…        clips whose name, label or key holds the words
    GET  /search?key=…&by=…&find=… what is nearest to a clip
    GET  /search?text=…&find=…     what is nearest to words, by a run with a text encoder
    POST /search?name=…&by=…&find=…  what is nearest to the media file in the body
    GET  /clips/ROW/picture|sound  the preview of a clip

It is made for one person on this machine: it listens at 127.0.0.1 unless told otherwise, answers
only requests that name it as their host, so that no web page can reach it under another name, takes
posts only from its own page, and reads bodies up to 256 MiB.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from shards.shown import shown
from tools.display.page_parts import media_type
from tools.display.search_page import SEARCH_SCRIPT, live_page
from tools.evaluation.errors import EvaluationError
from tools.search.encode import open_media
from tools.search.previews import Previews
from tools.search.report import words_of
from tools.search.searcher import Answer, Searcher

MAX_BODY_BYTES: Final = 256 << 20
_LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)


class RefusalError(Exception):
    """A request that is answered by a status and a message."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class SearchServer(ThreadingHTTPServer):
    """Serves one index."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], searcher: Searcher) -> None:
        super().__init__(address, _Handler)
        self.searcher = searcher
        run = searcher.encoder().run
        self.query_modalities = run.plan.modalities
        self.previews = Previews(searcher.index, run)
        self.decoding = threading.Lock()
        columns = (searcher.index.columns[name].tolist() for name in ("name", "label", "key"))
        self.texts = [" ".join(map(str, row)).lower() for row in zip(*columns, strict=True)]


def make_server(searcher: Searcher, host: str, port: int) -> SearchServer:
    """A server that listens; `serve_forever` answers.

    Raises:
        EvaluationError: the address cannot be had.
    """
    try:
        return SearchServer((host, port), searcher)
    except OSError as error:
        raise EvaluationError(
            f"--host {host} --port {port}: {error.strerror or error}; choose another, or --port 0"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    server: SearchServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gdt", ""
    # headers and body are sent one after the other: the second would wait 40 ms for an answer
    disable_nagle_algorithm = True
    timeout = 60

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer a question with a file in it."""
        self._answer(self._post)

    def log_message(self, *words: Any) -> None:
        """Say nothing of each request."""

    def _answer(self, respond: Callable[[], tuple[str, bytes]]) -> None:
        try:
            self._check_host()
            status = HTTPStatus.OK
            kind, body = respond()
        except RefusalError as refusal:
            status, kind, body = refusal.status, "application/json", _error(str(refusal))
            self.close_connection = True  # a body may be left unread
        except EvaluationError as error:
            status, kind, body = (
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "application/json",
                _error(str(error)),
            )
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _check_host(self) -> None:
        """Refuse a name that is not ours: a page elsewhere may have been led here by its DNS."""
        bound = str(self.server.server_address[0])
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if bound.startswith("127.") and name not in (*_LOOPBACK, bound):
            raise RefusalError(HTTPStatus.FORBIDDEN, f"this server is not {name!r}")
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            raise RefusalError(HTTPStatus.FORBIDDEN, "asked by another page")

    def _get(self) -> tuple[str, bytes]:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        searcher = self.server.searcher
        if url.path == "/":
            index = searcher.index
            about = f"{len(index)} clips of {index.path}, run {index.facts['run']['path']}"
            page = live_page(about, list(index.vectors), self.server.query_modalities)
            return "text/html; charset=utf-8", page.encode()
        if url.path == "/search.js":
            return "text/javascript; charset=utf-8", SEARCH_SCRIPT.encode()
        if url.path == "/clips":
            return "application/json", self._listed(asked.get("words", ""), _count(asked))
        if url.path == "/search":
            by, find, k = asked.get("by", ""), asked.get("find", ""), _count(asked)
            if "text" in asked:
                answer = searcher.by_words(asked["text"], find, k)
            else:
                answer = searcher.by_key(asked.get("key", ""), by, find, k)
            return "application/json", self._found(answer)
        return self._preview(url.path.split("/"))

    def _post(self) -> tuple[str, bytes]:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path != "/search":
            raise RefusalError(HTTPStatus.NOT_FOUND, f"there is no {url.path}")
        if self.headers.get("Origin") is None and self.headers.get("Sec-Fetch-Site") is not None:
            raise RefusalError(HTTPStatus.FORBIDDEN, "asked by another page")
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RefusalError(HTTPStatus.LENGTH_REQUIRED, "the body has no length")
        if int(length) > MAX_BODY_BYTES:
            too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise RefusalError(too_large, f"a file of more than {MAX_BODY_BYTES >> 20} MiB")
        data = self.rfile.read(int(length))
        media = open_media(Path(Path(asked.get("name", "file")).name or "file"), data)
        by, find = asked.get("by", ""), asked.get("find", "")
        return "application/json", self._found(
            self.server.searcher.by_media(media, by, find, _count(asked))
        )

    def _listed(self, words: str, k: int) -> bytes:
        index, wanted = self.server.searcher.index, words.lower().split()
        rows: list[int] = []
        for row, text in enumerate(self.server.texts):
            if all(word in text for word in wanted):
                rows.append(row)
                if len(rows) == k:
                    break
        about = f"clips that hold “{words}”" if wanted else "the first clips"
        hits = [self._entry(index.hit(row, 0, 0.0)) for row in rows]
        return json.dumps({"about": about, "hits": hits}).encode()

    def _found(self, answer: Answer) -> bytes:
        tables = {**answer.to_tables(), "about": words_of(answer)}
        tables["hits"] = [self._entry(hit) for hit in answer.hits]
        return json.dumps(tables).encode()

    def _entry(self, hit: Any) -> dict[str, Any]:
        texts = {"name": shown(hit.name), "label": shown(hit.label)}
        return {**asdict(hit), **texts, "has_sound": "audio" in self.server.query_modalities}

    def _preview(self, parts: list[str]) -> tuple[str, bytes]:
        known = len(parts) == 4 and parts[1] == "clips" and parts[3] in ("picture", "sound")
        if (
            not known
            or not parts[2].isdecimal()
            or int(parts[2]) >= len(self.server.searcher.index)
        ):
            raise RefusalError(HTTPStatus.NOT_FOUND, f"there is no {'/'.join(parts)}")
        with self.server.decoding:
            preview = self.server.previews.of(int(parts[2]))
        content = preview.sound if parts[3] == "sound" else preview.picture("video")
        if content is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, f"this clip has no {parts[3]}")
        return media_type(content), content


def _count(asked: dict[str, str]) -> int:
    text = asked.get("k", "10")
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise RefusalError(HTTPStatus.BAD_REQUEST, f"k = {text}: from 1 to 1000")
    return int(text)


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()
