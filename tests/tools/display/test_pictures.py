"""Each picture is drawn as large as its content asks for; input that does not fit is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from shards.maintenance.stats import Stats
from tools.display.pictures import ContactRow, contact_sheet, loss_curve, matrices
from tools.display.stats_page import draw_stats


def _row(
    key: str = "clip_a", frame_count: int = 5, hue: tuple[int, int, int] = (0, 200, 0)
) -> ContactRow:
    frames = np.broadcast_to(np.array(hue, np.uint8), (frame_count, 24, 32, 3))
    return ContactRow(key, 2.0, 3.0, frames, np.zeros((40, 99)))


def test_contact_sheet_shows_every_row(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "sheet.png"
    contact_sheet([_row(), _row("clip_b", hue=(0, 0, 200))], out, title="two")
    picture = imread(out)[..., :3]
    height = picture.shape[0]

    def holds(part: Any, colour: tuple[int, int, int]) -> bool:
        return bool((np.abs(part - np.array(colour) / 255).max(-1) < 0.02).any())

    assert holds(picture[: height // 2], (0, 200, 0))
    assert holds(picture[height // 2 :], (0, 0, 200))
    assert not holds(picture[height // 2 :], (0, 200, 0))
    one = tmp_path / "one.png"
    contact_sheet([_row()], one)
    assert imread(one).shape[0] < height


def test_contact_sheet_without_one_of_the_modalities(tmp_path: Path) -> None:
    silent = ContactRow("silent", 0, 1, _row().frames)
    sound = ContactRow("sound", 0, 1, log_mel=np.zeros((40, 99)))
    contact_sheet([silent, sound], tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start_seconds": 1, "stop_seconds": 1}, r"'k': the segment \[1, 1\) s is empty"),
        ({"start_seconds": 0, "stop_seconds": 1}, "'k': nothing to draw; give frames or log_mel"),
        (
            {"start_seconds": 0, "stop_seconds": 1, "frames": np.zeros((3, 8, 8), np.uint8)},
            r"'k': frames have shape \(3, 8, 8\); expected \[T, H, W, 3\]",
        ),
        (
            {"start_seconds": 0, "stop_seconds": 1, "log_mel": np.zeros(8)},
            r"'k': log_mel has shape \(8,\); expected \[F, L\]",
        ),
    ],
)
def test_contact_row_checks_itself(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContactRow("k", **arguments)


def test_contact_row_prints_shapes() -> None:
    assert repr(_row()) == (
        "ContactRow('clip_a', [2.000, 3.000) s, frames=(5, 24, 32, 3), log_mel=(40, 99))"
    )


def test_empty_contact_sheet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no segments to draw"):
        contact_sheet([], tmp_path / "sheet.png")


@pytest.mark.parametrize("size", [1, 8, 96])
def test_matrices_of_any_size(tmp_path: Path, size: int) -> None:
    names = [f"s{i} video" for i in range(size)]
    out = tmp_path / "cw.png"
    matrices(np.eye(size), 1 - np.eye(size), names, names, out, title="a plan")
    height, width = imread(out).shape[:2]
    assert width > height > 100


def test_matrices_may_be_rectangular(tmp_path: Path) -> None:
    matrices(np.ones((2, 5)), np.ones((2, 5)), ["a", "b"], list("vwxyz"), tmp_path / "cw.png")


def test_matrices_need_a_name_for_each_row_and_column(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"c  contrast: shape \[2, 2\], but there are 2 row names"):
        matrices(np.eye(2), np.eye(2), ["a", "b"], ["a"], tmp_path / "cw.png")


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


def test_what_is_counted_has_whole_numbers_on_its_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps, and one sample with one label, have no half ones between them."""
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_args, **_kwargs: drawn.append(self))
    loss_curve([1, 2], [3.0, 2.0], tmp_path / "loss.png")
    found = Stats("set", samples=1, labels=Counter({"dog": 1}))
    found.clip_seconds, found.clip_bytes = np.ones(1), np.ones(1, np.int64)
    draw_stats(found, tmp_path / "stats.png")
    (loss,), (lengths, rates, labels) = (figure.axes for figure in drawn)
    for axis in (loss.xaxis, lengths.yaxis, rates.yaxis, labels.xaxis):
        assert all(float(tick).is_integer() for tick in axis.get_majorticklocs())
