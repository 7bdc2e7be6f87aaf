import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import gdt
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
    for command in ("samples", "shards", "configs", "plan", "pretrain", "evaluate", "bench"):
        assert command in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "no.toml"], "no.toml: cannot read this config"),
        (["pretrain", "gtd"], "no config is named 'gtd'"),
        (["pretrain", "gdt", "--set", "epochs"], "--set epochs: must be KEY=VALUE"),
        (["pretrain", "gdt", "--set", "seed.x=1"], "--set seed.x=1: seed is not a table"),
        (
            ["pretrain", "gdt", "--set", "method.tempratur=1"],
            "unknown key method.tempratur (did you mean temperature?); [method] takes name, ",
        ),
        (["pretrain", "gdt", "--set", "trainr.epochs=1"], "unknown key trainr (did you mean trai"),
        (["pretrain", "gdt", "--set", "data.mix.a.shard=x"], "data.mix.a.shard (did you mean sh"),
        (["pretrain", "gdt", "--set", "plan.sample.drws=x"], "sample.drws (did you mean draws?)"),
        (["plan", "show", "no.toml"], "no.toml: cannot read this config"),
        (["bench", "stream", "x", "--config", "gtd"], "no config is named 'gtd'"),
    ],
)
def test_some_mistakes_are_refused_before_torch_is_imported(
    arguments: list[str], message: str
) -> None:
    script = (
        "import sys\nfrom tools.cli import app\n"
        f"try:\n    app({arguments})\nexcept SystemExit as ended:\n    print(ended.code)\n"
        "print([name for name in ('torch', 'torchvision', 'av') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["2", "[]"]
    assert message in done.stderr


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, ("shards", "build") and the like."""
    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def command_of(words: Sequence[str]) -> tuple[Any, Any, list[str]]:
    """(command, its context, arguments) of a command line without `gdt`."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("gdt", list(words), resilient_parsing=True)
    rest = list(words)
    while hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.commands[name]
        context = typer.Context(command, parent=context, info_name=name)
    return command, context, rest


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_valid_examples(path: tuple[str, ...]) -> None:
    command, context, _ = command_of(path)
    examples = [line for line in command.epilog.split("\n\n") if line.startswith("gdt ")]
    assert examples
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        assert words[: len(path) + 1] == ["gdt", *path]
        command.make_context(path[-1], words[len(path) + 1 :], parent=context.parent)


def test_an_example_that_is_not_valid_would_be_noticed() -> None:
    command, context, _ = command_of(["configs", "show"])
    with pytest.raises(Exception, match="No such option"):
        command.make_context("show", ["gdt", "--colour"], parent=context.parent)


@pytest.mark.parametrize("path", [(), *commands()], ids=" ".join)
def test_flags_are_shown_as_flags(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    assert result.exit_code == 0
    assert "--help" in result.output
    assert "<bool>" not in result.output


def test_the_version_is_that_of_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output == f"gdt-stream {gdt.__version__}\n"


def test_every_error_that_teaches_exists() -> None:
    for name in USER_ERRORS:
        module, _, kind = name.rpartition(".")
        assert issubclass(getattr(__import__(module, fromlist=[kind]), kind), Exception)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["pretrain", "no.toml"], 2, "no.toml: cannot read this config: No such file"),
        (["pretrain", "TINY", "--set", "method.tempratur=1"], 2, "did you mean temperature?"),
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
        (["plan", "show", "no_plan"], 2, "no plan is named 'no_plan', there are cross_modal"),
        (["plan", "show", "v_shift", "--set", "seed=1"], 2, "v_shift is a plan and no config"),
        (["pretrain", "gtd"], 2, "no config is named 'gtd', there are "),
        (["pretrain", "no/gdt.toml"], 2, "`gdt` alone is the one that comes along"),
        (["pretrain", "gdt", "--set", "plan=gdt"], 2, "[plan]: no plan is named 'gdt', there are"),
        (["configs", "explain", "temperature"], 2, "Did you mean "),
        (["configs", "show", "gtd"], 2, "no config is named 'gtd'"),
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
