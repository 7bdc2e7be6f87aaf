"""What strangers call things is shown, and steers nothing."""

import pickle

import pytest

from pipelines.skips import SkipError
from shards import ShardError
from shards.errors import BuildError, SourceError
from shards.shown import shown, shown_lines

#: A text that steers, and what it is shown as.
STEERING = [
    ("\x1b[2J\x1b]0;title\x07", "\\u001b[2J\\u001b]0;title\\u0007"),
    ("a\rb\bc\x00", "a\\u000db\\u0008c\\u0000"),
    ("\x9b31m\x7f\x85", "\\u009b31m\\u007f\\u0085"),
    ("evil\u202etxt.mp4", "evil\\u202etxt.mp4"),
    ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
    ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    ("caf\udce9", "caf\\udce9"),
]


@pytest.mark.parametrize(("text", "expected"), STEERING)
def test_what_steers_is_written_out(text: str, expected: str) -> None:
    assert shown(text) == shown_lines(text) == expected
    assert shown(expected) == expected
    expected.encode()


def test_only_texts_of_several_lines_keep_their_line_ends() -> None:
    assert shown("a\nb\tc") == "a\\u000ab\\u0009c"
    assert shown_lines("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize("text", ["räder & 猫", "👩‍👩‍👧 🏴󠁧󠁢󠁥󠁮󠁧󠁿", "नमस्ते", "a\\u001b", "مرحبا", ""])
def test_what_people_write_stays(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    "error",
    [
        ShardError("no \x1b[31m\nkey"),
        BuildError("no \x1b[31m\nkey"),
        SourceError("open", "no \x1b[31m\nkey"),
        SkipError(shard="no \x1b[31m\nkey", key="k", stage="decode", cause="c"),
    ],
)
def test_errors_are_one_line(error: Exception) -> None:
    for said in (str(error), str(pickle.loads(pickle.dumps(error)))):
        assert "no \\u001b[31m\\u000akey" in said
