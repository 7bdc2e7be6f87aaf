"""Protocols: presets load, what they say is hashed, and wrong ones are one message."""

from pathlib import Path

import pytest

from tools.evaluation.errors import EvaluationError
from tools.evaluation.protocol import (
    gallery_digest,
    load_protocol,
    preset_names,
    protocol_text,
    read_gallery_list,
    with_segments,
)


def test_every_preset_loads_and_names_its_source() -> None:
    assert preset_names() == ["default", "cavmae", "coclr", "mteb", "paper", "selavi"]
    for name in preset_names():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert len(protocol.source) > 10
        assert protocol.digest in protocol.lines()[0]


def test_the_hash_is_of_what_numbers_depend_on(tmp_path: Path) -> None:
    default = load_protocol("default")
    path = tmp_path / "mine.toml"
    path.write_text(protocol_text("default").replace('name = "default"', 'name = "mine"'))
    assert load_protocol(str(path)).digest == default.digest
    path.write_text(protocol_text("default").replace("segments = 5", "segments = 4"))
    assert load_protocol(str(path)).digest != default.digest
    assert load_protocol("paper").digest == load_protocol("selavi").digest


def test_places_are_middles_or_ends(tmp_path: Path) -> None:
    path = tmp_path / "ends.toml"
    path.write_text(protocol_text("default").replace('"middles"', '"ends"'))
    assert load_protocol(str(path)).places == (0, 0.25, 0.5, 0.75, 1)
    assert load_protocol("default").places == pytest.approx((0.1, 0.3, 0.5, 0.7, 0.9))


def test_other_segments_are_said() -> None:
    selavi = load_protocol("selavi")
    assert with_segments(selavi, None) is selavi
    assert with_segments(selavi, 10) is selavi
    changed = with_segments(selavi, 2)
    assert changed.segments == 2
    assert changed.differs.startswith("10 segments a clip there; ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("segments = 5", "segmens = 5", "unknown key segmens; a protocol takes name, source"),
        ("segments = 5", "", "key segments is missing"),
        ("segments = 5", 'segments = "5"', 'segments = "5", must be a valid integer'),
        ("segments = 5", "segments = 0", "segments = 0, must be at least 1"),
        ('"cosine"', '"manhattan"', 'similarity = "manhattan", must be .*cosine'),
        ('"R@1"', '"recall@1"', "takes R@k, nDCG@k, mAP, MRR, median rank and mean rank"),
        ('"expected"', '"every tied"', r'levels must be \["instance"\]'),
        ('"default"', '"default', "not a TOML file"),
        ('["instance", "class"]', "[]", 'takes "instance", "class" or both'),
        ("segments = 5", "segments = 1\ndual_softmax = -1.0", "must be 0 .off. or greater"),
    ],
)
def test_a_wrong_protocol_is_one_message(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(protocol_text("default").replace(old, new, 1))
    with pytest.raises(EvaluationError, match=message):
        load_protocol(str(path))


def test_an_unknown_protocol_names_the_presets() -> None:
    with pytest.raises(EvaluationError, match="the presets are default, cavmae, coclr, mteb"):
        load_protocol("clip")
    with pytest.raises(EvaluationError, match="no protocol 'clip'"):
        protocol_text("clip")


def test_gallery_lists_hold_each_key_once(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("b\n\n a \n")
    assert read_gallery_list(path) == ("b", "a")
    assert gallery_digest(("b", "a")) == gallery_digest(("a", "b")) != gallery_digest(("a",))
    path.write_text("a\nb\na\n")
    with pytest.raises(EvaluationError, match="names 'a' twice"):
        read_gallery_list(path)
    path.write_text("\n")
    with pytest.raises(EvaluationError, match="names no clip"):
        read_gallery_list(path)
    with pytest.raises(EvaluationError, match="cannot be read as text"):
        read_gallery_list(tmp_path / "none.txt")
