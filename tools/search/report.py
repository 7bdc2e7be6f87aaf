"""An answer for people: a table on the terminal, and a page that needs nothing else."""

from pathlib import Path

from tools.search.searcher import Answer, Searcher


def print_answer(answer: Answer) -> None:
    """Print the hits, best first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from tools.terminal import Terminal

    table = Table(box=SIMPLE_HEAD, title=words_of(answer), title_justify="left")
    for name in ("", "score", "clip", "label", "key"):
        table.add_column(name, justify="right" if name in ("", "score") else "left")
    for hit in answer.hits:
        table.add_row(str(hit.rank), f"{hit.score:.3f}", hit.name, hit.label, hit.key)
    Terminal().print(table)


def words_of(answer: Answer) -> str:
    """What was asked and how it was answered, in a line."""
    return f"{answer.query} as {answer.by}, among {answer.find}; {answer.how}"


def write_page(searcher: Searcher, answer: Answer, path: Path) -> None:
    """Write a page of the hits."""
    from tools.display.page_parts import Card
    from tools.display.search_page import answer_page
    from tools.search.previews import Previews

    previews = Previews(searcher.index, searcher.encoder().run)
    hits = []
    for hit in answer.hits:
        preview = previews.of(hit.row)
        card = Card(hit.name, hit.label, hit.key, preview.picture(answer.find), preview.sound)
        hits.append((card, hit.rank, hit.score))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(answer_page("Search", words_of(answer), hits), encoding="utf-8")
