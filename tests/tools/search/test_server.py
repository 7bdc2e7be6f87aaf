"""The server: its answers, what it refuses, and its page in a real browser."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.tools.browser import CUT, PHONE, SCREEN, chromium, errors, is_dark
from tools.evaluation.errors import EvaluationError
from tools.search.index import SearchIndex
from tools.search.searcher import Searcher
from tools.search.server import MAX_BODY_BYTES, SearchServer, make_server


@contextmanager
def serving(index: SearchIndex) -> Iterator[SearchServer]:
    made = make_server(Searcher(index), "127.0.0.1", 0)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def server(index: SearchIndex) -> Iterator[SearchServer]:
    with serving(index) as made:
        yield made


def ask(
    server: SearchServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request(method, path, body, headers)
    response = connection.getresponse()
    return response, response.read()


def answer(server: SearchServer, path: str, **request: Any) -> dict[str, Any]:
    response, body = ask(server, path, **request)
    assert response.status == 200, body
    found: dict[str, Any] = json.loads(body)
    return found


def test_clips_are_listed_found_and_shown(
    server: SearchServer, index: SearchIndex, tone: Path
) -> None:
    listed = answer(server, "/clips?words=VAL_00003")
    assert [hit["name"] for hit in listed["hits"]] == ["val_00003.mp4 0:00.0"]
    assert len(answer(server, "/clips?k=4")["hits"]) == 4
    key = listed["hits"][0]["key"]
    found = answer(server, f"/search?key={key}&by=audio&find=audio&k=3")
    assert len(found["hits"]) == 3
    assert key not in [hit["key"] for hit in found["hits"]]
    assert "as audio, among audio; exact" in found["about"]
    by_file = answer(server, "/search?name=tone.wav&k=2", method="POST", body=tone.read_bytes())
    assert "tone.wav as audio, among video" in by_file["about"]
    same = Searcher(index).answer(str(tone), k=2)
    assert [hit["row"] for hit in by_file["hits"]] == [hit.row for hit in same.hits]
    for kind, media_type in (("picture", "image/webp"), ("sound", "audio/mpeg")):
        response, body = ask(server, f"/clips/0/{kind}")
        assert response.headers["Content-Type"] == media_type
        assert len(body) > 200


@pytest.mark.parametrize(
    ("path", "request_", "status", "message"),
    [
        ("/nothing", {}, 404, "there is no /nothing"),
        ("/clips/99/picture", {}, 404, "there is no"),
        ("/clips/../picture", {}, 404, "there is no"),
        ("/search?key=none", {}, 422, "no key of"),
        ("/search?key=none&k=0", {}, 400, "k = 0: from 1 to 1000"),
        ("/search?name=a.mp4", {"method": "POST", "body": b"hello"}, 422, "not media: a text file"),
        ("/clips", {"method": "POST", "body": b""}, 404, "there is no /clips"),
        ("/", {"Host": "evil.example"}, 403, "this server is not 'evil.example'"),
        ("/search?key=a", {"Origin": "http://evil.example"}, 403, "asked by another page"),
        (
            "/search",
            {"method": "POST", "Content-Length": str(MAX_BODY_BYTES + 1)},
            413,
            "more than 256 MiB",
        ),
    ],
)
def test_what_it_does_not_answer_is_said(
    server: SearchServer, path: str, request_: dict[str, Any], status: int, message: str
) -> None:
    response, body = ask(server, path, **request_)
    assert response.status == status
    assert message in json.loads(body)["error"]


def test_an_address_that_is_taken_is_one_message(server: SearchServer) -> None:
    port = int(server.server_address[1])
    with pytest.raises(EvaluationError, match="choose another, or --port 0"):
        make_server(server.searcher, "127.0.0.1", port)


@pytest.mark.slow(seconds=15)
def test_live_search_in_a_real_browser(server: SearchServer, tmp_path: Path, tone: Path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    for size in (PHONE, SCREEN):
        with chromium(tmp_path / f"profile-{size[0]}", size) as browser:
            browser.get(f"http://127.0.0.1:{server.server_address[1]}/")

            def wait(words: str, count: int, browser: Any = browser) -> None:
                def done(_: Any) -> bool:
                    status = browser.find_element(By.ID, "status").text
                    return words in status and f"· {count} clips" in status

                WebDriverWait(browser, 30).until(done, f"{words}, {count}")
                assert len(browser.find_elements(By.CSS_SELECTOR, "#hits figure")) == count

            wait("the first clips", 6)
            browser.find_element(By.ID, "words").send_keys("val_00002")
            wait("val_00002", 1)
            browser.find_element(By.CSS_SELECTOR, "#hits button").click()
            wait("among video; exact", 5)
            browser.find_element(By.ID, "file").send_keys(str(tone))
            wait("tone.wav as audio, among video", 6)

            def pictures_are_there(shown: Any) -> bool:
                script = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
                return bool(shown.execute_script(script))

            WebDriverWait(browser, 30).until(pictures_are_there)
            assert browser.execute_script(CUT) == []
            assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
            assert is_dark(browser, "dark")
            assert not is_dark(browser, "light")
            assert errors(browser) == []
