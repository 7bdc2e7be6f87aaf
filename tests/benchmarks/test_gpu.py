"""The GPU benchmark on a machine without one, and what it does to its page."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_decode import Rate

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


def test_a_decoder_that_does_not_run_says_why_in_its_line() -> None:
    assert gpu._line(Rate("nvdec", "h264", 128, None, note="there is no GPU")) == (
        "| 128 | h264 | nvdec | there is no GPU |  |"
    )
    line = gpu._line(Rate("dali", "vp9", 256, 812.4, 53.41))
    assert line == "| 256 | vp9 | dali | 812 | 53.4 dB |"
    assert gpu._line(Rate("av", "h264", 128, 100.0, float("inf"))).endswith("| 100 | equal |")
