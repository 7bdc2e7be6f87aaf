"""The loss curve: drawn for any number of steps, whole numbers on the axis of steps."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tools.display.loss_curve import loss_curve


@pytest.mark.parametrize("count", [1, 2, 300])
def test_loss_curve(tmp_path: Path, count: int) -> None:
    losses = np.linspace(4, 1, count)
    losses[0] = np.nan if count > 2 else 4
    loss_curve(range(count), losses, tmp_path / "loss.png", chance=np.log(64))
    assert imread(tmp_path / "loss.png").shape[1] > 900


def test_loss_curve_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[3\] steps and \[2\] losses"):
        loss_curve([1, 2, 3], [1, 2], tmp_path / "loss.png")
    with pytest.raises(ValueError, match="at least 1"):
        loss_curve([], [], tmp_path / "loss.png")


def test_there_are_no_half_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_args, **_kwargs: drawn.append(self))
    loss_curve([1, 2], [3.0, 2.0], tmp_path / "loss.png")
    (axes,) = drawn[0].axes
    assert all(float(tick).is_integer() for tick in axes.xaxis.get_majorticklocs())
