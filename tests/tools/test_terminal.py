"""Nothing that a command prints steers the terminal, and nobody prints past what sees to it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from shards.shown import shown_lines
from tests.shards.test_shown import STEERING
from tools.display.page_parts import Card, Media, card_html, escape
from tools.say import say
from tools.terminal import Terminal

TOOLS = Path(__file__).parents[2] / "tools"
PRINTERS = {"say.py", "terminal.py"}


@pytest.mark.parametrize(("text", "expected"), STEERING)
def test_lines_tables_and_pages_show_it_written_out(
    text: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    say(text)
    say(text, err=True)
    terminal = Terminal(width=100)
    terminal.say(text)
    terminal.print(text)
    table = Table(text, title=text)
    table.add_row(text)
    terminal.print(table)
    out, err = capsys.readouterr()
    assert err == f"{expected}\n"
    assert out.count(expected) == 6
    assert escape(text) == expected
    assert card_html(Card(text, text, text), "", Media()).count(expected) == 3


def test_nor_does_a_text_that_comes_ready_made(capsys: pytest.CaptureFixture[str]) -> None:
    for text, _ in STEERING:
        Terminal(width=100).print(Text(text))
        out = capsys.readouterr().out
        assert shown_lines(out) == out


def test_a_table_has_room_for_what_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "more")
    table.add_row("\x1b" * 5, "x")
    Terminal(width=100).print(table)
    rows = [line for line in capsys.readouterr().out.splitlines() if line]
    assert "\\u001b" * 5 in rows[3]
    assert len({len(row) for row in rows}) == 1


def test_brackets_in_names_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name")
    table.add_row("[red]dog[/] [/nonsense]")
    Terminal(width=100).print(table)
    assert "[red]dog[/] [/nonsense]" in capsys.readouterr().out


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    labels = {text: 1 for text, _ in STEERING}
    say(json.dumps(labels, ensure_ascii=False))
    assert json.loads(capsys.readouterr().out) == labels


def test_warnings_and_tracebacks_of_bugs_are_shown_so_too() -> None:
    script = (
        "from tools.say import guard_python; guard_python(); import warnings, threading\n"
        "warnings.warn('w\\x1b[31m')\n"
        "def fail(): raise RuntimeError('t\\x1b[31m')\n"
        "one = threading.Thread(target=fail); one.start(); one.join()\n"
        "raise RuntimeError('e\\x1b[31m')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert "\x1b" not in done.stderr
    for what in ("w", "RuntimeError: t", "RuntimeError: e"):
        assert f"{what}\\u001b[31m\n" in done.stderr


def prints(source: str) -> set[str]:
    """What of a module's code prints by itself."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("rich.console", "rich", "html"):
            found |= {alias.name for alias in node.names} & {"Console", "print", "escape"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "typer.echo", "typer.secho", "click.echo") or called.endswith(
                (".stdout.write", ".stderr.write")
            ):
                found.add(called)
    return found


def test_nobody_else_prints() -> None:
    past = {
        str(path.relative_to(TOOLS)): found
        for path in TOOLS.rglob("*.py")
        if path.name not in PRINTERS and (found := prints(path.read_text(encoding="utf-8")))
    }
    assert past == {"display/page_parts.py": {"escape"}}  # under the name of what pages use


def test_the_rule_can_fail() -> None:
    assert prints("import typer\ntyper.echo('a')\nprint(1)") == {"typer.echo", "print"}
    assert prints("from rich.console import Console") == {"Console"}
