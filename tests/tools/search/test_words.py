"""Words as a query, by a run with a text encoder; and what is not taken for words."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.device.tokens import train_tokenizer
from tests.tools.evaluation.runs import CONFIG, make_run
from tests.tools.search.test_search import gdt
from tests.tools.search.test_server import answer, ask, serving
from tools.evaluation.errors import EvaluationError
from tools.runs.run import load_run
from tools.search.build import build_index
from tools.search.index import SearchIndex
from tools.search.searcher import Searcher

WORDS = "a red disc rises"


@pytest.fixture(scope="module")
def reading(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SearchIndex:
    """An index of clips' pictures, by a run of video and text."""
    folder = tmp_path_factory.mktemp("reading")
    train_tokenizer([WORDS, "a blue square sinks"], 270, folder / "t.json")
    config = CONFIG.replace('["video", "audio"]', '["video", "text"]')
    config = config.replace("[encoders]", '[encoders]\ntext = "text_mini"\nvocab_size = 270')
    run = make_run(folder / "run", config + f'[text]\ntokenizer = "{folder / "t.json"}"\n')
    index, _ = build_index([str(corpus / "val")], run, folder / "index", modalities=("video",))
    return index


def test_words_find_what_their_embedding_is_nearest_to(reading: SearchIndex) -> None:
    found = Searcher(reading).answer(WORDS)
    assert (found.query, found.by, found.find) == (WORDS, "text", "video")
    run = load_run(Path(reading.facts["run"]["path"]))
    assert run.device_transform.tokens is not None
    with torch.inference_mode():
        vector = run.method.embed("text", run.device_transform.tokens([WORDS]))[0].numpy()
    scores = np.asarray(reading.vectors["video"]) @ vector
    assert [hit.row for hit in found.hits] == np.argsort(-scores).tolist()
    np.testing.assert_allclose([h.score for h in found.hits], np.sort(scores)[::-1], atol=1e-6)
    assert "as text, among video" in gdt("search", "--index", reading.path, WORDS, "-k", 2)


def test_what_looks_like_a_file_is_not_taken_for_words(reading: SearchIndex) -> None:
    searcher = Searcher(reading)
    for query in ("disc.wav", "sounds/disc", r"C:\disc.mp4"):
        with pytest.raises(EvaluationError, match=r"Words that look like a file are asked with"):
            searcher.answer(query)
    assert searcher.answer("disc.wav", by="text").by == "text"
    key = str(reading.columns["key"][0])
    assert searcher.answer(key).by == "video"  # a key of the index goes before words


def test_a_run_without_a_text_encoder_says_what_it_has(index: SearchIndex) -> None:
    searcher = Searcher(index)
    with pytest.raises(
        EvaluationError,
        match=r"'a dog barks' is no file, .* Words need a run with a text encoder: .*/run has "
        "video, audio",
    ):
        searcher.answer("a dog barks")
    with pytest.raises(EvaluationError, match="has no encoder for 'text': its plan has the"):
        searcher.answer("a dog barks", by="text")


def test_the_server_answers_words(reading: SearchIndex, index: SearchIndex) -> None:
    with serving(reading) as server:
        found = answer(server, "/search?text=a%20red%20disc%20rises&k=3")
        assert found["about"].startswith(f"{WORDS} as text, among video")
        assert [hit["row"] for hit in found["hits"]] == [
            hit.row for hit in Searcher(reading).answer(WORDS, k=3).hits
        ]
        assert b'data-text="yes"' in ask(server, "/")[1]
    with serving(index) as server:
        response, body = ask(server, "/search?text=disc")
        assert response.status == 422
        assert b"has no encoder for 'text'" in body
        assert b"data-text" not in ask(server, "/")[1]
