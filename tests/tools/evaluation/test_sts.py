"""Similarity of texts: cosines against what people say, beside tokens in common."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pipelines.device.tokens import train_tokenizer
from tests.tools.evaluation.runs import TEXT_CONFIG, make_run
from tools.evaluation.errors import EvaluationError
from tools.evaluation.sts import COUNTS, StsRequest, count_cosines, evaluate_sts, read_pairs

PAIRS = [
    ("a red disc", "a red disc", 5.0),
    ("a red disc", "a red ring", 3.5),
    ("a red disc", "some blue square", 0.5),
    ("green lines", "a red ring", 0.0),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer([text for pair in PAIRS for text in pair[:2]], 300, tokenizer)
    return make_run(tmp_path / "run", TEXT_CONFIG.replace("TOKENIZER", str(tokenizer)))


def test_a_run_is_scored_beside_tokens_in_common(run: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{a}\t{b}\t{score}\n" for a, b, score in PAIRS))
    result, out = evaluate_sts(StsRequest(run=run, pairs=pairs))
    assert (out / "metrics.json").exists()
    assert {score.encoder for score in result.scores} == {"trained", "untrained", COUNTS, "chance"}
    assert result.value("text", "Spearman", COUNTS) == pytest.approx(0.8)
    assert -1 <= result.value("text", "Spearman") <= 1
    texts = read_pairs(pairs)
    assert texts.first[1] == "a red disc"
    assert texts.scores.tolist() == [5.0, 3.5, 0.5, 0.0]


def test_counts_are_compared_by_their_cosine() -> None:
    first = torch.tensor([[1, 5, 5, 2, 0], [1, 6, 2, 0, 0]])
    second = torch.tensor([[1, 5, 2, 0, 0], [3, 7, 4, 0, 0]])
    found = count_cosines(first, second)
    assert found[0] == pytest.approx((1 + 2 + 1) / np.sqrt(6 * 3))
    assert found[1] == 0
    assert spearmanr([1, 2, 3], [1, 4, 9]).statistic == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\n", r"line-1: must be two texts and a number, .* got 2 columns, the last 'b'"),
        ("a\tb\t1\na\tb\tlike\n", r"line-2: must be .* the last 'like'"),
        ("a\t\t1\n", r"line-1: a text is missing"),
        ("a\tb\t1\nc\td\t1\ne\tf\t1\n", r"has 3 pairs and 1 different scores"),
    ],
)
def test_what_are_no_pairs_is_refused_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "pairs.tsv").write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_pairs(tmp_path / "pairs.tsv")


def test_a_run_without_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("a\tb\t1\n")
    with pytest.raises(EvaluationError, match=r"has no encoder for 'text'"):
        evaluate_sts(StsRequest(run=make_run(tmp_path / "run"), pairs=tmp_path / "pairs.tsv"))
