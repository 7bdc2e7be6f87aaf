from pathlib import Path

from typer.testing import CliRunner

from tools.cli import app

GDT = Path(__file__).parents[3] / "configs" / "gdt.toml"


def test_the_factors_are_printed_and_the_matrices_drawn(tmp_path: Path) -> None:
    out = tmp_path / "new" / "plan.png"
    result = CliRunner().invoke(app, ["plan", "show", str(GDT), "--out", str(out)])
    assert result.exit_code == 0, result.output
    for word in ("time_shift", "modality", "cross", "video, audio", "time_reversal", "distinctive"):
        assert word in result.output
    # 3 samples × 2 shifts × 2 modalities × 2 reversals: each of the 24 has its one partner in the
    # other modality, among that modality's 12
    assert "3 samples × 8 transformations: 24 positive of 288 pairs" in result.output
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_plan_can_be_changed_on_the_command_line(tmp_path: Path) -> None:
    arguments = ["plan", "show", str(GDT), "--out", str(tmp_path / "p.png"), "--samples", "2"]
    overrides = ["--set", "plan.time_reversal.relation=invariant"]
    result = CliRunner().invoke(app, arguments + overrides)
    assert "2 samples × 8 transformations: 32 positive of 128 pairs" in result.output


def test_a_plan_has_a_name() -> None:
    listed = CliRunner().invoke(app, ["plan", "list"])
    assert "v_reversal_i_shift" in listed.output
    named = CliRunner().invoke(app, ["plan", "show", "v_reversal_i_shift", "--samples", "2"])
    # 2 samples × 8: each matches both shifts of its reversal in the other modality
    assert "2 samples × 8 transformations: 32 positive of 128 pairs" in named.output
    of_config = CliRunner().invoke(
        app, ["plan", "show", "gdt", "--set", "plan=v_reversal_i_shift", "--samples", "2"]
    )
    assert of_config.output.splitlines()[1:] == named.output.splitlines()[1:]


def test_c_and_w_are_printed_without_a_picture() -> None:
    printed = CliRunner().invoke(app, ["plan", "show", "simclr", "--samples", "2"]).output
    assert [line[-4:] for line in printed.splitlines() if "image" in line[:30]] == [
        " +··",
        "+ ··",
        "·· +",
        "··+ ",
    ]


def test_a_config_is_found_by_its_name() -> None:
    by_name, by_path = (
        CliRunner().invoke(app, ["plan", "show", config]).output for config in ("gdt", str(GDT))
    )
    assert by_name.splitlines()[1:] == by_path.splitlines()[1:]
