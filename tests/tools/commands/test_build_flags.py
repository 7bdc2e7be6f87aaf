"""The flags of a build: all options of a build, their defaults, and what each chooses."""

from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from shards import BuildOptions
from tools.commands.build_flags import (
    AudioFlags,
    ClipFlags,
    TargetFlags,
    VideoFlags,
    WorkFlags,
    build_options,
)
from tools.commands.flag_groups import with_flag_groups


def options(**given: object) -> BuildOptions:
    kinds = (ClipFlags, VideoFlags, AudioFlags)
    names = [{f.name for f in fields(kind)} for kind in kinds]
    assert given.keys() <= set.union(*names)
    clips, video, audio = ({k: v for k, v in given.items() if k in own} for own in names)
    return build_options(ClipFlags(**clips), VideoFlags(**video), AudioFlags(**audio))  # type: ignore[arg-type]


def test_without_flags_the_options_are_those_of_the_library() -> None:
    assert options() == BuildOptions()


def test_every_option_of_a_build_has_a_flag() -> None:
    flags = {f.name for kind in (ClipFlags, VideoFlags, AudioFlags) for f in fields(kind)}
    flags = flags - {"sample_rate"} | {"sample_rate_hz"}
    assert flags == {f.name for f in fields(BuildOptions)} - {"seconds_per_unit"}


def test_texts_become_values() -> None:
    found = options(size="224X128", fps="29.97", require="audible,motion", sample_rate=16000)
    assert (found.width, found.height) == (224, 128)
    assert found.frame_rate == Fraction(30000, 1001)
    assert found.require == ("audible", "motion")
    assert found.sample_rate_hz == 16000
    assert options(require="none").require == ()
    assert options(profile="copy", size="source", fps="source").size == "source"
    with pytest.raises(typer.BadParameter, match="--size is '224'; write it as WIDTHxHEIGHT"):
        options(size="224")


def test_flags_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(typer.BadParameter, match="give --engine ray with it"):
        WorkFlags(address="head:6379").chosen()
    with pytest.raises(typer.BadParameter, match="--dali-index is for a whole build"):
        TargetFlags("out", part="1/2", dali_index=True).portion()
    assert WorkFlags(time_limit=7.0, workers=1).chosen().time_limit_seconds == 7.0


@dataclass(frozen=True)
class Pair:
    """Two numbers."""

    first: Annotated[int, typer.Option(help="The first.")]
    second_one: Annotated[int, typer.Option(min=0, help="The second.")] = 2


def test_a_group_is_taken_apart_and_put_together_again() -> None:
    app = typer.Typer()

    @app.command()
    @with_flag_groups
    def show(
        name: Annotated[str, typer.Argument()], pair: Pair, loud: Annotated[bool, "x"] = False
    ) -> None:
        """Show it."""
        typer.echo(f"{name} {pair} {loud}")

    def run(*given: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, given)
        return result.exit_code, result.output

    assert run("a", "--first", "1") == (0, "a Pair(first=1, second_one=2) False\n")
    assert run("--second-one", "3", "a", "--loud", "--first", "1") == (
        0,
        "a Pair(first=1, second_one=3) True\n",
    )
    assert run("a")[0] == 2
    assert run("a", "--first", "1", "--second-one", "-1")[0] == 2
    status, shown = run("--help")
    assert status == 0
    for text in ("Show it.", "Two numbers", "--second-one", "The second.", "[default: 2]"):
        assert text in shown
