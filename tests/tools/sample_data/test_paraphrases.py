"""Paraphrases: scores are shares of facts in common, and what is scored was not learned."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.evaluation.sts import read_pairs
from tools.sample_data.paraphrases import FACTS, ParaphrasesOptions, write_paraphrases

MEANING = {word: (n, v) for n, fact in enumerate(FACTS) for v, w in enumerate(fact) for word in w}


def facts_of(text: str) -> set[tuple[int, int]]:
    """Which value of each fact the words of a sentence say."""
    found = {MEANING[word] for word in text.split() if word in MEANING}
    assert len(found) == len(FACTS), text
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("paraphrases")
    write_paraphrases(found, ParaphrasesOptions(num_triples=300, num_pairs=60))
    return found


def test_a_score_is_the_share_of_facts_in_common(folder: Path) -> None:
    pairs = read_pairs(folder / "pairs.tsv")
    for first, second, score in zip(pairs.first, pairs.second, pairs.scores, strict=True):
        assert len(facts_of(first) & facts_of(second)) == round(score * len(FACTS))
    assert len(set(pairs.scores.tolist())) == 6
    same = [
        pair for pair in zip(pairs.first, pairs.second, pairs.scores, strict=True) if pair[2] == 1
    ]
    assert any(first != second for first, second, _ in same)


def test_a_triple_is_a_sentence_its_meaning_and_another(folder: Path) -> None:
    begins = set()
    for line in (folder / "triples.tsv").read_text().splitlines():
        facts, same, other = map(facts_of, line.split("\t"))
        assert facts == same
        assert len(facts & other) == len(FACTS) - 1
        begins.add(frozenset(facts))
    asked = {frozenset(facts_of(first)) for first in read_pairs(folder / "pairs.tsv").first}
    assert not begins & asked


def test_sentences_follow_from_the_seed(folder: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        asked = ["samples", "paraphrases", "--out", str(tmp_path / str(seed)), "--seed", str(seed)]
        found = CliRunner().invoke(app, [*asked, "--triples", "300", "--pairs", "60"])
        assert found.exit_code == 0, found.output
    files = [
        (where / "pairs.tsv").read_bytes() for where in (folder, tmp_path / "0", tmp_path / "1")
    ]
    assert files[0] == files[1] != files[2]
    refused = CliRunner().invoke(app, [*asked, "--pairs", "2"])
    assert refused.exit_code == 2
    assert "num_pairs is 2; allowed: 3 or more" in refused.output
