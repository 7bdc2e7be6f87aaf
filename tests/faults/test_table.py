"""The table at the end of docs/faults.md names tests that there are."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs/faults.md").read_text(encoding="utf-8").partition("## Kinds,")[2]
NAMED = re.findall(r"\| `([\w/]+\.py)::(test_\w+)` \|", TABLE)
FOLDERS = (TESTS, TESTS / "faults", TESTS / "shards", TESTS / "tools")


def is_test(file: str, name: str) -> bool:
    """Whether a file of this name, in one of the folders, has a test of that name."""
    found = [folder / file for folder in FOLDERS if (folder / file).is_file()]
    return any(f"\ndef {name}(" in path.read_text(encoding="utf-8") for path in found)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_is_there(file: str, name: str) -> None:
    assert is_test(file, name)


def test_every_row_names_one() -> None:
    rows = [row for row in TABLE.splitlines() if row.startswith("| ") and "**" not in row]
    assert len(rows) == len(NAMED) + 1  # and the head
    assert len(NAMED) > 50
    assert not is_test("media/test_joined.py", "test_nothing")
