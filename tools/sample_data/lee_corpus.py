"""News texts, and how alike people find each two of fifty: the Lee corpus, out of gensim's files.

    OUT/passages.tsv      a passage of three sentences a line, of 300 texts: to learn from
    OUT/pairs.tsv         text, text, score, with tabs between: all 1,225 pairs of 50 other texts
    OUT/ATTRIBUTION.txt   whose they are

Lee, Pincombe and Welsh, "An empirical evaluation of models of text document similarity", Annual
Meeting of the Cognitive Science Society, 2005: texts of the Australian Broadcasting Corporation,
compared by students on a scale of 1 to 5. Nothing of gensim is run: its test data are read.
"""

import importlib.util
import itertools
import re
from pathlib import Path
from typing import Final

BACKGROUND: Final = "lee_background.cor"  # a text a line, UTF-8
TEXTS: Final = "lee.cor"  # a text a line, Latin-1
SIMILARITIES: Final = "similarities0-1.txt"  # a row a text; what is below the diagonal is 0
SENTENCES: Final = 3  # of a passage: about as long as one of the fifty texts
_SENTENCE_END: Final = re.compile(r'(?:(?<=[.!?])|(?<=[.!?]"))\s+(?=[A-Z"])')
_ATTRIBUTION: Final = (
    "Texts of the Australian Broadcasting Corporation, and how alike people find them:\n"
    "M. D. Lee, B. M. Pincombe, M. B. Welsh, An empirical evaluation of models of text document\n"
    "similarity, Annual Meeting of the Cognitive Science Society, 2005.\n"
    "Out of the test data of the Python package gensim (LGPL-2.1).\n"
)


class LeeCorpusError(Exception):
    """The corpus cannot be had, or is not what it should be; the message says why."""


def packaged_folder() -> Path:
    """Find the folder of gensim's test data.

    Raises:
        LeeCorpusError: gensim is not installed.
    """
    found = importlib.util.find_spec("gensim")
    places = () if found is None else found.submodule_search_locations or ()
    for place in places:
        return Path(place) / "test" / "test_data"
    raise LeeCorpusError(
        "the Lee corpus is read out of the package gensim, which is not installed: pip install "
        f"gensim, or give --source, a folder with {BACKGROUND}, {TEXTS} and {SIMILARITIES}"
    )


def write_lee_corpus(out: Path, source: Path | None = None) -> tuple[int, int]:
    """Write the corpus as this program reads texts.

    Args:
        out: the folder; it is made.
        source: folder of the three files; gensim's where None.

    Returns:
        How many passages and pairs there are.

    Raises:
        LeeCorpusError: a file is missing or is not of its form.
    """
    folder = packaged_folder() if source is None else source
    background = _lines(folder / BACKGROUND, "utf-8")
    texts = _lines(folder / TEXTS, "latin-1")
    scores = _scores(folder / SIMILARITIES, len(texts))
    passages = [passage for text in background for passage in passages_of(text)]
    pairs = [
        f"{texts[i]}\t{texts[j]}\t{scores[i][j]:g}"
        for i, j in itertools.combinations(range(len(texts)), 2)
    ]
    out.mkdir(parents=True, exist_ok=True)
    for name, lines in (("passages.tsv", passages), ("pairs.tsv", pairs)):
        (out / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (out / "ATTRIBUTION.txt").write_text(_ATTRIBUTION, encoding="utf-8")
    return len(passages), len(pairs)


def passages_of(text: str) -> list[str]:
    """Cut a text into passages of `SENTENCES` sentences; the last may be shorter."""
    sentences = _SENTENCE_END.split(text)
    starts = range(0, len(sentences), SENTENCES)
    return [" ".join(sentences[start : start + SENTENCES]) for start in starts]


def _lines(path: Path, encoding: str) -> list[str]:
    """Return the lines that are not blank, with a space for every tab and run of spaces."""
    try:
        lines = path.read_text(encoding=encoding).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LeeCorpusError(f"{path}: cannot be read as {encoding} text: {error}") from error
    return [" ".join(line.split()) for line in lines if line.strip()]


def _scores(path: Path, count: int) -> list[list[float]]:
    """Return the matrix of similarities, above the diagonal between 0 and 1."""
    try:
        rows = [[float(cell) for cell in line.split(" ")] for line in _lines(path, "ascii")]
    except ValueError as error:
        raise LeeCorpusError(f"{path}: must be numbers with tabs between: {error}") from error
    if [len(row) for row in rows] != [count] * count:
        raise LeeCorpusError(
            f"{path}: must be a square of {count} rows, as {TEXTS} has {count} texts; got "
            f"{len(rows)} rows"
        )
    return rows
