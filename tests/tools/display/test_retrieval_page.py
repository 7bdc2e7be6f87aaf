"""The page: marks, ranks and scores in their places, text escaped, nothing from outside."""

import base64
import io
import re
from html.parser import HTMLParser

import av
import numpy as np
import numpy.typing as npt
import pytest

from tools.display.retrieval_cards import frames_picture, log_mel_picture, mp3_audio
from tools.display.retrieval_page import Card, Direction, Hit, Query, metric_text, retrieval_page

JPEG, MP3 = b"\xff\xd8\xff\xe0picture", b"ID3sound"
CHANCE = {"R@1": 0.05, "R@5": 0.25, "R@10": 0.5, "median rank": 10.5}
METRICS = {"R@1": 0.5, "R@5": 0.75, "R@10": 1.0, "median rank": 1.5}


class Page(HTMLParser):
    """Cards as (classes, text, sources), and every address in the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cards: list[tuple[str, list[str]]] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag == "figure":
            self.cards.append((named["class"], []))
        self.addresses += [named[name] for name in ("src", "href") if name in named]

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.cards:
            self.cards[-1][1].append(data)


def make_page(key: str = "clip", caption: str = "", title: str = "Retrieval") -> str:
    query = Card(key, caption, b"\x89PNG....", MP3)
    right = Hit(Card("right_one", "", JPEG), 2, 0.51, right=True)
    wrong = Hit(Card("wrong_one", "", JPEG), 1, 0.75, right=False)
    far = Hit(Card("far_one", "", JPEG), 7.5, 0.01, right=True)
    queries = [Query(query, [wrong, right], right), Query(query, [wrong], far)]
    directions = [Direction("audio", "video", METRICS, queries)]
    return retrieval_page(title, {"run": "runs/x & y"}, directions, CHANCE)


def test_right_hits_are_marked_and_far_answers_shown_with_their_rank() -> None:
    page = Page(make_page())
    styles = [style for style, _ in page.cards]
    assert styles == ["card", "card", "card right", "card", "card", "card right"]
    texts = [" ".join(words) for _, words in page.cards]
    assert "1" in texts[1]
    assert "0.750" in texts[1]
    assert "✓ right" not in texts[1]
    assert re.search(r"2 ✓ right 0\.510 right_one", texts[2])
    assert re.search(r"7\.5 ✓ right 0\.010 far_one", texts[5])


def test_table_stands_beside_chance() -> None:
    words = " ".join(Page(make_page()).words)
    assert "audio → video 50.0 % 75.0 % 100.0 % 1.5" in words
    assert "chance 5.0 % 25.0 % 50.0 % 10.5" in words


def test_page_needs_nothing_from_outside() -> None:
    page = Page(make_page())
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "http" not in make_page()
    assert f"data:audio/mpeg;base64,{base64.b64encode(MP3).decode()}" in page.addresses


def test_all_text_is_escaped() -> None:
    evil = "\"><script>alert(1)</script>'<b>&amp;"
    plain = Page(make_page(caption="plain"))
    page = Page(make_page(key=evil, caption=evil, title=evil))
    assert page.tags == plain.tags
    assert evil in page.words


def test_unknown_content_is_refused() -> None:
    card = Card("key", "", b"<svg onload=alert(1)>")
    direction = Direction("audio", "video", METRICS, [Query(card, [], Hit(card, 1, 1, True))])
    with pytest.raises(ValueError, match=r"begins with b'<svg'; expected JPEG, PNG or MP3"):
        retrieval_page("t", {}, [direction], CHANCE)


def test_metrics_are_written_in_per_cent_and_ranks_plain() -> None:
    assert metric_text("R@1", 0.1234) == "12.3 %"
    assert metric_text("median rank", 4) == "4.0"


def decode_picture(content: bytes) -> npt.NDArray[np.uint8]:
    with av.open(io.BytesIO(content), "r") as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
        return picture.astype(np.uint8)


def test_frames_picture_is_the_middle_frame_over_a_strip() -> None:
    frames = np.zeros((8, 64, 96, 3), np.uint8)
    frames[:4] = (200, 30, 30)
    frames[4:] = (30, 30, 200)
    content = frames_picture(frames)
    assert content.startswith(b"\xff\xd8\xff")
    picture = decode_picture(content).astype(int)
    assert picture.shape == (64 + 16, 96, 3)
    assert picture[32, 48].tolist() == pytest.approx([30, 30, 200], abs=12)
    assert picture[72, 12].tolist() == pytest.approx([200, 30, 30], abs=12)
    assert picture[72, 84].tolist() == pytest.approx([30, 30, 200], abs=12)


def test_log_mel_picture_has_low_frequencies_at_the_bottom() -> None:
    log_mel = np.full((40, 99), -10.0)
    log_mel[0] = 0.0
    content = log_mel_picture(log_mel)
    assert content.startswith(b"\x89PNG")
    picture = decode_picture(content).astype(int)
    assert picture.shape == (80, 198, 3)
    assert picture[-1].min() > picture[:-2].max()


def test_sound_is_playable_and_keeps_its_pitch() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000).astype(np.float32)
    with av.open(io.BytesIO(mp3_audio(tone, 24_000)), "r") as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.sample_rate == 24_000
        decoded = np.concatenate([f.to_ndarray()[0] for f in container.decode(stream)])
    assert len(decoded) == pytest.approx(24_000, abs=3000)
    spectrum = np.abs(np.fft.rfft(decoded[6000:18_000]))
    assert np.argmax(spectrum) * 24_000 / 12_000 == pytest.approx(1000, abs=5)
