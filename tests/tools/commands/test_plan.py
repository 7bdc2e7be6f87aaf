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
