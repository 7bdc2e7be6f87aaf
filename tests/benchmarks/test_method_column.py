"""Results go to the rows of their methods, and nothing else of the page changes."""

from pathlib import Path

import pytest

from benchmarks.method_column import fill_column

PAGE = """# Methods

| method | config | golden source | result here | paper |
|---|---|---|---|---|
| One | `one` (`head` is its) | - | 1 | 2 |
| Two, of one | `two`, `one` | - | - | 3 |
| Three | - | a/b | - | 4 |

| method | config |
| --- | --- |
| One | `one` |
"""


def test_a_result_goes_to_the_row_of_its_config(tmp_path: Path) -> None:
    page = tmp_path / "methods.md"
    page.write_text(PAGE)
    fill_column(page, {"one": "5.0 ± 0.1", "two": "6"})
    expected = PAGE.replace("| 1 | 2 |", "| 5.0 ± 0.1 | 2 |").replace("| - | 3 |", "| 6 | 3 |")
    assert page.read_text() == expected
    fill_column(page, {})
    assert page.read_text() == expected


def test_a_result_without_a_row_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "methods.md"
    page.write_text(PAGE)
    with pytest.raises(ValueError, match=r"no row with the config four in a table with the column"):
        fill_column(page, {"one": "5", "four": "1"})
    assert page.read_text() == PAGE
