"""The GPU benchmark on a machine without one, and what it does to its page."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_decode import Case, Rate, decoding_rates

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    page = gpu.PAGE.read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == gpu.NO_GPU == 77
    assert "There is no NVIDIA GPU here" in done.stderr
    assert done.stdout == ""
    assert gpu.PAGE.read_text(encoding="utf-8") == page


def test_the_page_keeps_what_stands_around_the_figures(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    page.write_text(f"before\n{gpu.BEGIN}\nold\n{gpu.END}\nafter\n", encoding="utf-8")
    gpu._write(page, ["new", "lines"])
    assert page.read_text(encoding="utf-8") == (
        f"before\n{gpu.BEGIN}\nnew\nlines\n{gpu.END}\nafter\n"
    )
    assert gpu.PAGE.read_text(encoding="utf-8").count(gpu.BEGIN) == 1
    assert gpu._measured(page) == ["new", "lines", ""]  # to which --only adds
    gpu._write(page, ["Nothing yet. No machine with a GPU has run this."])
    assert gpu._measured(page) == []


def test_a_part_that_crashes_or_hangs_says_so_after_the_lines_it_had() -> None:
    said: list[str] = []
    crash = "import os, sys; print('| one |', flush=True); sys.stderr.write('why\\n\\n'); "
    crash += "sys.stderr.flush(); os.abort()"
    assert gpu._run_lines([sys.executable, "-c", crash], 60, said.append) == (
        "ended with status -6: why"
    )
    hang = "import time; print('| two |', flush=True); time.sleep(600)"
    assert gpu._run_lines([sys.executable, "-c", hang], 2, said.append) == (
        "stopped after 2 s; last: it said nothing"
    )
    assert gpu._run_lines([sys.executable, "-c", "print('| three |')"], 60, said.append) == ""
    assert said[-2:] == ["| two |", "| three |"]
    assert "| one |" in said


def test_unknown_parts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--cpu", "--only", "nvdec,mplayer"])
    assert "--only mplayer: parts are av, torchcodec, nvdec" in capsys.readouterr().err


def test_failed_tests_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [
        "tests/a.py::test_one PASSED",
        "FAILED tests/a.py::test_two - assert 1 == 2",
        "ERROR tests/b.py - ModuleNotFoundError",
        "=== 1 failed, 1 passed, 1 error in 3.21s ===",
    ]

    def run(command: list[str], limit: float, say: Callable[[str], None]) -> str:
        for line in shown:
            say(line)
        return "ended with status 1: it said nothing"

    monkeypatch.setattr(gpu, "_run_lines", run)
    said: list[str] = []
    assert gpu._run_tests(said.append) == 1
    assert said == [
        "Tests marked `gpu`: 1 failed, 1 passed, 1 error in 3.21s",
        "",
        "- FAILED tests/a.py::test_two - assert 1 == 2",
        "- ERROR tests/b.py - ModuleNotFoundError",
    ]


def test_a_row_that_fails_is_a_row(tmp_path: Path) -> None:
    rate = decoding_rates(tmp_path, Case("h264", 64), "av", "cpu", 1, 0.1)
    assert rate.segments_per_second is None
    assert rate.note.startswith("IndexFormatError: ")
    assert str(tmp_path) in rate.note


def test_a_decoder_that_does_not_run_says_why_in_its_line() -> None:
    assert gpu._line(Rate("nvdec", "h264", 128, None, note="there is no GPU")) == (
        "| 128 | h264 | nvdec | there is no GPU |  |"
    )
    line = gpu._line(Rate("dali", "vp9", 256, 812.4, 53.41))
    assert line == "| 256 | vp9 | dali | 812 | 53.4 dB |"
    assert gpu._line(Rate("av", "h264", 128, 100.0, float("inf"))).endswith("| 100 | equal |")
