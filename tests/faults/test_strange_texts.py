"""Keys, labels, captions, extensions and names that would steer a terminal, or are no text."""

import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.format.json_text import exact_json, third_party_json
from shards.maintenance.index_tars import index_tars
from shards.shown import shown_lines
from shards.sources.source import row_of
from tests.shards.small import clip_members
from tools.cli import app

ESCAPE = "\x1b[2J\x1b]0;owned\x07\u202e"
HALF = "\ud83d"
DEEP = "[" * 100_000 + "]" * 100_000


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.fixture(scope="module")
def film() -> bytes:
    return clip_members(1)["mp4"]


@pytest.fixture(scope="module")
def strange(film: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar with one good key among bad ones, its label, caption and an extension strange."""
    folder = tmp_path_factory.mktemp("strange") / f"set{ESCAPE}"
    about = {"label": f"dog{ESCAPE}\nerror: forged", "caption": f"a{HALF}b", f"x{ESCAPE}": 1e3}
    write_tar(
        folder / "a.tar",
        {
            "good.mp4": film,
            "good.json": json.dumps(about).encode(),
            f"good.{ESCAPE}": b"what",
            f"es{ESCAPE}cape.mp4": film,
            "line\nend.mp4": film,
            "line\u2028end.mp4": film,
            "para\u2029graph.mp4": film,
            "re\rturn.mp4": film,
            "next\x85line.mp4": film,
        },
    )
    return folder


def test_keys_with_line_ends_are_left_out_of_an_index(strange: Path) -> None:
    summary = index_tars([strange])
    assert summary.samples == 1
    assert summary.skipped == {"a key with control characters, or that is not text": 6}
    assert Dataset.open(strange).sample(0).key == "good"


@pytest.mark.parametrize(
    "command",
    [
        ["index"],
        ["stats"],
        ["stats", "--json"],
        ["inspect"],
        ["inspect", "--key", f"no{ESCAPE}"],
        ["verify"],
        ["repair"],
        ["dali-index"],
    ],
)
def test_no_command_lets_them_through(strange: Path, command: list[str]) -> None:
    index_tars([strange])
    done = CliRunner().invoke(app, ["shards", command[0], str(strange), *command[1:]])
    assert done.exit_code in (0, 1), done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit)
    said = done.output
    assert shown_lines(said) == said
    assert "\nerror: forged" not in said  # as a line of its own
    assert "owned" in said or command == ["stats", "--json"]


def test_texts_are_whole_wherever_they_are_read(strange: Path) -> None:
    """Half of a surrogate pair could be written to no page, table or tokenizer."""
    index_tars([strange])
    about = Dataset.open(strange).metadata(0)
    assert about["caption"] == "a\\ud83db"
    json.dumps(about, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": NaN, "b": [-Infinity, 1e999, -1e999, 1e3]}', {"a": None, "b": [None] * 3 + [1e3]}),
        (r'["\ud83d\ude00", "\ud83d", "\ude00x", {"\udfff": 1}]',
         ["\U0001f600", "\\ud83d", "\\ude00x", {"\\udfff": 1}]),
        (b'"\xed\xa0\x80"', "\\ud800"),
    ],
)  # fmt: skip
def test_json_of_others_is_made_whole(text: str | bytes, expected: Any) -> None:
    assert third_party_json(text) == expected


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 50_000, "9" * 5000, "[1, 2", "", '"\\x"'])
def test_json_that_cannot_be_read_is_one_kind_of_error(text: str) -> None:
    for read in (third_party_json, exact_json):
        with pytest.raises(ValueError, match=r"."):
            read(text)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_a_list_has_no_such_numbers(number: str) -> None:
    with pytest.raises(ValueError, match=f"{number} is not a number in json"):
        exact_json(f"[{number}]")


def test_rows_hold_whole_texts() -> None:
    row = row_of({"label": f"a{HALF}", "labels": [HALF], "more": {HALF: [HALF]}})
    whole = "\\ud83d"
    expected = {"label": f"a{whole}", "labels": [whole], "metadata": {"more": {whole: [whole]}}}
    assert row == expected


def test_a_build_of_them_is_of_plain_keys_and_whole_texts(film: bytes, tmp_path: Path) -> None:
    about = {"label": f"dog{HALF}", "caption": ESCAPE, "n": float("nan")}
    write_tar(
        tmp_path / "in" / f"a{ESCAPE}.tar",
        {
            "one.mp4": film,
            "one.json": json.dumps(about).encode(),
            "two\nlines.mp4": film,
            "deep.mp4": film,
            "deep.json": DEEP.encode(),
            f"odd.m{ESCAPE}p4": film,
        },
    )
    options = BuildOptions(clip_seconds=0.5, short_side=64, require=())
    summary = build([tmp_path / "in"], tmp_path / "out", options)
    assert (summary.sources, summary.made) == (4, 3)
    assert summary.skipped_sources == Counter({"json that cannot be read": 1})
    data_set = Dataset.open(tmp_path / "out")
    for i in range(len(data_set)):
        assert data_set.sample(i).key.isascii()
        assert data_set.sample(i).key.isprintable()
    labels = {data_set.metadata(i).get("label") for i in range(len(data_set))}
    assert labels == {"dog\\ud83d", None}
