"""The Lee corpus: pairs as the matrix has them, passages, and folders that hold something else."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.evaluation.sts import read_pairs
from tools.sample_data.lee_corpus import LeeCorpusError, passages_of, write_lee_corpus


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three compared texts, one with a tab and a pound sign, and two to learn from."""
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "lee.cor").write_bytes("One text.\nTwo\ttexts of £3.\nThree texts.".encode("latin-1"))
    (folder / "lee_background.cor").write_text('One. Two. "Three." Four at 4 p.m. today.\nFive.\n')
    (folder / "similarities0-1.txt").write_text("1\t0.3\t0.25\n0\t1\t0.5\n0\t0\t1\n")
    return folder


def test_pairs_have_the_scores_above_the_diagonal(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = CliRunner().invoke(app, ["samples", "lee", "--out", str(out), "--source", str(source)])
    assert found.exit_code == 0, found.output
    assert "3 to learn from" in found.output
    pairs = read_pairs(out / "pairs.tsv")
    assert list(zip(pairs.first, pairs.second, pairs.scores.tolist(), strict=True)) == [
        ("One text.", "Two texts of £3.", 0.3),
        ("One text.", "Three texts.", 0.25),
        ("Two texts of £3.", "Three texts.", 0.5),
    ]
    passages = (out / "passages.tsv").read_text().splitlines()
    assert passages == ['One. Two. "Three."', "Four at 4 p.m. today.", "Five."]
    assert "Lee" in (out / "ATTRIBUTION.txt").read_text()


def test_a_passage_is_three_sentences() -> None:
    assert passages_of("A b? C d! E f. G h.") == ["A b? C d! E f.", "G h."]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("lee.cor", b"One.\nTwo.", "square of 2 rows, as lee.cor has 2 texts; got 3 rows"),
        ("similarities0-1.txt", b"1\tmuch\n", "must be numbers with tabs between"),
        ("lee_background.cor", b"a \xa3", "lee_background.cor: cannot be read as utf-8 text"),
        ("lee_background.cor", None, "lee_background.cor: cannot be read"),
    ],
)
def test_what_is_not_the_corpus_is_refused(
    source: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is None:
        (source / name).unlink()
    else:
        (source / name).write_bytes(content)
    with pytest.raises(LeeCorpusError, match=re.escape(message)):
        write_lee_corpus(tmp_path / "out", source)
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = CliRunner().invoke(app, ["samples", "lee", "--out", str(tmp_path)])
    assert found.exit_code == 2
    assert "pip install gensim" in found.output
