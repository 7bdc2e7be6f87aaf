"""c and w as a picture: any size, each name once per run of rows that share it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from gdt import named_plan
from tools.display.matrices import Bracket, brackets, draw_matrices, matrices


@pytest.mark.parametrize("size", [1, 8, 96])
def test_matrices_of_any_size(tmp_path: Path, size: int) -> None:
    names = [[f"{i}", "video"] for i in range(size)]
    out = tmp_path / "new" / "cw.png"
    factors = ["sample", "modality"]
    matrices(np.eye(size), 1 - np.eye(size), factors, names, names, out, title="a plan")
    height, width = imread(out).shape[:2]
    assert width > height > 100


def test_matrices_may_be_rectangular(tmp_path: Path) -> None:
    out, rows, columns = tmp_path / "cw.png", [[n] for n in "ab"], [[n] for n in "vwxyz"]
    matrices(np.ones((2, 5)), np.ones((2, 5)), ["sample"], rows, columns, out)
    height, width = imread(out).shape[:2]
    assert width > 2 * height


def test_matrices_need_a_name_for_each_row_and_column(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"c  contrast: shape \[2, 2\], but there are 2 row names"):
        matrices(np.eye(2), np.eye(2), ["s"], [["a"], ["b"]], [["a"]], tmp_path / "cw.png")


def test_rows_that_share_a_draw_share_a_bracket() -> None:
    names = [[s, t, m] for s in "01" for t in "01" for m in ("video", "audio")]
    levels = brackets(names, cell_inches=0.3)
    assert levels[0] == [Bracket(0, 4, "0"), Bracket(4, 8, "1")]
    assert levels[1] == [Bracket(2 * i, 2 * i + 2, f"{i % 2}") for i in range(4)]
    assert [bracket.name for bracket in levels[2]] == ["video", "audio"] * 4
    assert list(brackets(names, cell_inches=0.07)) == [0, 1]  # no room for a name in every row


def test_96_rows_have_few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_args, **_kwargs: drawn.append(self))
    plan = named_plan("v_reversal_v_shift")
    draw_matrices(plan, plan.codes(torch.arange(12)), Path("never-written.png"))
    texts = [text.get_text() for text in drawn[0].texts]
    assert {"sample", "time_shift", "11"} <= set(texts)
    assert len(texts) < 3 * (12 + 24) + 10  # rows once, columns twice; four titles, two factors
