"""The column "result here" of docs/methods.md, filled in row by row with what was measured."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TITLE: Final = "result here"


def fill_column(page: Path, results: Mapping[str, str]) -> None:
    """Put results into the rows of their methods, in every table of a page that has the column.

    Args:
        page: Markdown; its tables name a row's method by the first config in the column "config".
        results: config → the cell; other rows stay as they are.

    Raises:
        ValueError: the page has no row for one of them.
    """
    lines: list[str] = []
    header: list[str] = []
    missing = set(results)
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line[:1] == "|" else []
        if not header or not cells:
            header = cells if TITLE in cells else []
        elif (name := _config_of(cells[header.index("config")])) in results:
            cells[header.index(TITLE)] = results[name]
            line = f"| {' | '.join(cells)} |"
            missing.discard(name)
        lines.append(line)
    if missing:
        raise ValueError(
            f"{page} has no row with the config {', '.join(sorted(missing))} in a table with the "
            f"column {TITLE!r}: where to write?"
        )
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _config_of(cell: str) -> str:
    """The first name of a cell such as "`moco` (`head` is v1's or v2's)"; else nothing."""
    found = re.match(r"`(\w+)`", cell)
    return found[1] if found else ""
