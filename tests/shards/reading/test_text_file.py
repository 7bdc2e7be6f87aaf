"""A .tsv file as a data set: lines, texts between tabs, and what is refused."""

import pickle
from pathlib import Path

import pytest

from shards import ShardError, open_samples
from shards.reading.captions import captions_of
from shards.reading.text_file import TextFile


def test_lines_are_samples_and_tabs_part_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "nli.tsv"
    path.write_bytes("A dog runs.\tAn animal moves.\tNo.\r\n\n  \nEin Hündchen\n".encode())
    texts = open_samples(path)
    assert isinstance(texts, TextFile)
    assert len(texts) == 2
    assert captions_of(texts.metadata(0)) == ("A dog runs.", "An animal moves.", "No.")
    assert captions_of(texts.metadata(1)) == ("Ein Hündchen",)
    assert [texts.sample(i).key for i in range(2)] == ["line-1", "line-4"]
    assert texts.sample(0).video is texts.sample(0).audio is None
    again = pickle.loads(pickle.dumps(texts))
    assert again.metadata(1) == texts.metadata(1)
    assert repr(texts).endswith("nli.tsv: 2 lines)")
    other = tmp_path / "other.tsv"
    other.write_bytes(path.read_bytes() + b"more")
    assert open_samples(other).fingerprint != texts.fingerprint
    with pytest.raises(IndexError, match="has lines 0 to 1; asked for 2"):
        texts.sample(2)
    with pytest.raises(ShardError, match=r"line-1 of .* is a line of text, and has no .mp4"):
        texts.read_member(texts.sample(0), "mp4")


def test_what_is_no_text_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "latin.tsv").write_bytes("one\nzwei\nfünf\n".encode("latin-1"))
    with pytest.raises(ShardError, match=r"latin.tsv, line 3: not UTF-8 .* a text a line"):
        open_samples(tmp_path / "latin.tsv")
    (tmp_path / "blank.tsv").write_text("\n \n")
    with pytest.raises(ShardError, match=r"blank.tsv has no text: each line of it is blank"):
        open_samples(tmp_path / "blank.tsv")
