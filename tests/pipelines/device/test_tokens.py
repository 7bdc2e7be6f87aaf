"""Tokenizer files: what is written, what comes out of captions, what is refused."""

import json
from pathlib import Path

import pytest
import torch

from pipelines.device.options import Text
from pipelines.device.tokens import LEAST_VOCABULARY, Tokens, train_tokenizer

CAPTIONS = ["a red disc rises", "a red square sinks", "a blue disc sinks slowly"] * 4


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "made" / "tokenizer.json"
    assert LEAST_VOCABULARY < train_tokenizer(CAPTIONS, 400, path) <= 400
    return path


def test_captions_are_padded_and_cut_to_one_length(file: Path) -> None:
    tokens = Tokens(Text(str(file), max_tokens=8))
    table = json.loads(file.read_text())["model"]["vocab"]
    assert [table[name] for name in ("[PAD]", "[CLS]", "[EOS]")] == [0, 1, 2]
    rows = tokens(["A RED disc", "a red disc rises and sinks and rises and sinks"])
    assert (rows.shape, rows.dtype) == ((2, 8), torch.int64)
    words = [table[f"Ġ{word}"] for word in ("a", "red", "disc")]  # Ġ is a space
    assert rows[0].tolist() == [1, *words, 2, 0, 0, 0]
    assert rows[1, 0] == 1
    assert rows[1, -1] == 2  # the end is kept, what is before it is cut
    assert tokens.vocab_size == len(table)


def test_no_text_is_unknown(file: Path) -> None:
    rows = Tokens(Text(str(file), max_tokens=32))(["Größe 日本 🎬"])
    assert (rows[0] > 0).sum() > 10
    assert rows.max() < Tokens(Text(str(file))).vocab_size


def test_a_file_of_others_needs_padding_as_its_token_0(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    for first in ("<pad>", "!"):
        path = tmp_path / f"{len(first)}.json"
        Tokenizer(models.WordLevel({first: 0, "disc": 1}, unk_token=first)).save(str(path))
    assert Tokens(Text(str(tmp_path / "5.json"), max_tokens=3))(["disc"]).tolist() == [[1, 0, 0]]
    with pytest.raises(ValueError, match=r"token 0 is '!', and must be the padding, one of .PAD.*"):
        Tokens(Text(str(tmp_path / "1.json")))


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"set text\.tokenizer to a file that `gdt tokenizer"):
        Tokens(Text())
    with pytest.raises(ValueError, match=r"absent\.json': there is no such file"):
        Tokens(Text(str(tmp_path / "absent.json")))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is no tokenizer file"):
        Tokens(Text(str(tmp_path / "other.json")))
    with pytest.raises(ValueError, match="vocab_size = 100, must be at least 259"):
        train_tokenizer(CAPTIONS, 100, tmp_path / "small.json")
    with pytest.raises(ValueError, match="max_tokens = 2, must be at least 3"):
        Text(max_tokens=2)


def test_words_come_back_without_the_tokens_around_them(file: Path) -> None:
    tokens = Tokens(Text(str(file), max_tokens=12))
    (row,) = tokens(["A red  disc"]).tolist()
    assert (row[0], row[row.index(0) - 1]) == tokens.ends == (1, 2)
    assert tokens.words(row) == "a red disc"


def test_captions_without_an_end_cannot_be_written(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    bare = Tokenizer(models.WordLevel({"[PAD]": 0, "disc": 1}, unk_token="[PAD]"))
    bare.save(str(tmp_path / "bare.json"))
    with pytest.raises(ValueError, match="puts 0 tokens around captions"):
        _ = Tokens(Text(str(tmp_path / "bare.json"))).ends
