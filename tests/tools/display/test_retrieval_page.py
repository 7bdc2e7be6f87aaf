"""The page: marks, ranks and scores in their places, text escaped, nothing from outside."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tools.display.page_parts import Card, Cell, Row, Table, data_uri
from tools.display.rank_histogram import bins_of, histogram_svg
from tools.display.retrieval_page import Direction, Hit, Query, retrieval_page

PICTURE, SOUND = b"RIFF....WEBP picture", b"ID3sound"
TABLE = Table(
    "The same clip",
    ["R@1", "median rank"],
    [
        Row("audio → video, 7 steps", [Cell("50.0 %", "25.0–75.0"), Cell("1.5")]),
        Row("chance", [Cell("5.0 %"), Cell("10.5")], is_faint=True),
    ],
)


class Page(HTMLParser):
    """Cards as (classes, text), every address, and the tags of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: list[tuple[str, list[str]]] = []
        self.addresses: list[str] = []
        self.shown: list[int] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "figure" and "class" in named:
            self.cards.append((named["class"], []))
        self.addresses += [named[name] for name in ("src", "href") if name in named]
        self.shown += [int(named["data-media"])] if "data-media" in named else []

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.cards:
            self.cards[-1][1].append(data)


def make_page(name: str = "talk.mp4 0:12.0", title: str = "Retrieval") -> str:
    query = Card(name, "disc", "key-1", PICTURE, SOUND)
    right = Hit(Card("right_one", "", "key-2", PICTURE), 2, 0.51, right=True)
    wrong = Hit(Card("wrong_one", "", "key-3", PICTURE), 1, 0.75, right=False)
    far = Hit(Card("far_one", "", "key-4", PICTURE), 7.5, 0.01, right=True)
    queries = [
        Query(query, "best", 2, [wrong, right], right),
        Query(query, "worst", 7.5, [wrong], far),
    ]
    histogram = histogram_svg(np.array([2.0, 7.5]), 20)
    direction = Direction("audio → video", histogram, b"\x89PNGmap", "160 clips", queries)
    return retrieval_page(title, {"run": "runs/x & y"}, [TABLE], [direction], ["cosine"], ["!"])


def test_right_hits_are_marked_and_far_answers_shown_with_their_rank() -> None:
    page = Page(make_page())
    styles = [style for style, _ in page.cards]
    assert styles == ["card", "card", "card right", "card", "card", "card right apart"]
    texts = [" ".join(words) for _, words in page.cards]
    assert "best, rank 2" in texts[0]
    assert "0.750" in texts[1]
    assert "✓ right" not in texts[1]
    assert re.search(r"2 ✓ right 0\.510 right_one", texts[2])
    assert re.search(r"7\.5 ✓ right 0\.010 far_one", texts[5])


def test_table_stands_beside_chance() -> None:
    words = " ".join(Page(make_page()).words)
    assert "audio → video, 7 steps 50.0 % 25.0–75.0 1.5" in words
    assert "chance 5.0 % 10.5" in words
    assert "talk.mp4 0:12.0 disc" in words


def test_page_needs_nothing_from_outside() -> None:
    page = Page(make_page())
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"iframe", "object"} & set(page.tags)
    assert "http" not in make_page()


def test_what_several_cards_show_is_there_once() -> None:
    text = make_page()
    stored = re.search(r'<script type="application/json" id="media">(.*?)</script>', text)
    assert stored is not None
    kept = [(kind, base64.b64decode(content)) for kind, content in json.loads(stored[1])]
    assert kept == [("image/webp", PICTURE), ("audio/mpeg", SOUND)]
    page = Page(text)
    assert (page.shown.count(0), page.shown.count(1)) == (6, 2)  # six cards, of two queries sound


def test_all_text_is_escaped() -> None:
    evil = "\"><script>alert(1)</script>'<b>&amp;"
    plain, page = Page(make_page()), Page(make_page(name=evil, title=evil))
    assert page.tags == plain.tags
    assert evil in page.words


def test_unknown_content_is_refused() -> None:
    with pytest.raises(ValueError, match=r"begins with b'<svg'; expected JPEG, PNG, WebP or MP3"):
        data_uri(b"<svg onload=alert(1)>")
    assert data_uri(None) == ""


def test_bins_hold_every_rank_once() -> None:
    for num_items in (1, 2, 5, 7, 64, 1000, 1545):
        ranks = [rank for a, b in bins_of(num_items) for rank in range(a, b + 1)]
        assert ranks == list(range(1, num_items + 1))
    assert bins_of(30) == [(1, 1), (2, 5), (6, 10), (11, 20), (21, 30)]


def test_the_histogram_says_shares_and_chance() -> None:
    svg = histogram_svg(np.array([1.0, 1.0, 3.5, 8.0]), 10)
    assert "rank 1: 50.0 % (chance 10.0 %)" in svg
    assert "rank 2–5: 25.0 % (chance 40.0 %)" in svg
    assert "rank 6–10: 25.0 % (chance 50.0 %)" in svg
