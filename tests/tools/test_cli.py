import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tools.cli import USER_ERRORS, app

DALI_ISOLATED = ("--set", "segment.decoder=dali", "--set", "data.isolate=true")
HEAVY = ("torch", "lightning", "av", "matplotlib", "numpy", "pydantic", "webdataset")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom tools.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stderr.strip() == "[]"
    for command in ("samples", "shards", "plan", "pretrain", "evaluate"):
        assert command in result.stdout


def test_every_error_that_teaches_exists() -> None:
    for name in USER_ERRORS:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(__import__(module, fromlist=[kind]), kind), Exception)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["pretrain", "no.toml"], 2, "no.toml: cannot read this config: No such file"),
        (["pretrain", "TINY", "--set", "model.tempratur=1"], 2, "did you mean temperature?"),
        (["pretrain", "TINY", "--out", "RUN", "--resume"], 1, "holds no run to resume"),
        (["pretrain", "TINY", "--out", "RUN", "--set", "data.shards=no"], 1, "no"),
        (
            ["pretrain", "TINY", "--out", "RUN", "--set", "data.batch_size=99"],
            1,
            "lower data.batch",
        ),
        (
            ["pretrain", "TINY", "--out", "RUN", *DALI_ISOLATED],
            2,
            "the config asks for what cannot be had: data.isolate: decoder = 'dali' decodes whole",
        ),
        (["pretrain", "TINY", "--out", "RUN", "--set", "segment.decoder=films"], 2, "is unknown"),
        (["plan", "show", "no.toml", "--out", "x.png"], 2, "no.toml: cannot read"),
    ],
)
def test_a_mistake_ends_as_one_message(
    tiny_config: Path, tmp_path: Path, arguments: list[str], status: int, message: str
) -> None:
    names = {"TINY": str(tiny_config), "RUN": str(tmp_path / "run")}
    result = CliRunner().invoke(app, [names.get(word, word) for word in arguments])
    assert result.exit_code == status
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.output


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tiny_config: Path) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("tools.runs.config.load_config", broken)
    result = CliRunner().invoke(app, ["pretrain", str(tiny_config)])
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_message_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, tiny_config: Path) -> None:
    from tools.runs.config import ConfigError

    def refuse(*arguments: object) -> None:
        raise ConfigError("[plan] is [bold]not[/bold] markup, and a very long line " + "x" * 200)

    monkeypatch.setattr("tools.runs.config.load_config", refuse)
    result = CliRunner().invoke(app, ["pretrain", str(tiny_config)])
    assert "[plan] is [bold]not[/bold] markup, and a very long line " + "x" * 200 in result.stderr
    assert isinstance(app, typer.Typer)
