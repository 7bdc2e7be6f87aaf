"""Contact sheets show every row as large as its content asks for, and refuse what does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from tools.display.contact_sheet import ContactRow, contact_sheet


def holds(part: Any, colour: tuple[int, ...]) -> bool:
    return bool((np.abs(part - np.array(colour) / 255).max(-1) < 0.02).any())


def _row(
    name: str = "clip_a", frame_count: int = 5, hue: tuple[int, int, int] = (0, 200, 0)
) -> ContactRow:
    frames = np.broadcast_to(np.array(hue, np.uint8), (frame_count, 24, 32, 3))
    return ContactRow(name, 2.0, 3.0, frames, np.zeros((40, 99)))


def test_contact_sheet_shows_every_row(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "sheet.png"
    contact_sheet([_row(), _row("clip_b", hue=(0, 0, 200))], out, title="two")
    picture = imread(out)[..., :3]
    height = picture.shape[0]

    assert holds(picture[: height // 2], (0, 200, 0))
    assert holds(picture[height // 2 :], (0, 0, 200))
    assert not holds(picture[height // 2 :], (0, 200, 0))
    one = tmp_path / "one.png"
    contact_sheet([_row()], one)
    assert imread(one).shape[0] < height


def test_contact_sheet_without_one_of_the_modalities(tmp_path: Path) -> None:
    """What is missing takes no room, and what is there is drawn."""
    silent = ContactRow("silent", 0, 1, _row().frames)
    sound = ContactRow("sound", 0, 1, log_mel=np.linspace(0, 1, 40 * 99).reshape(40, 99))
    heights = {}
    for name, rows in {"both": [_row()], "silent": [silent], "sound": [sound]}.items():
        contact_sheet(rows, tmp_path / f"{name}.png")
        heights[name] = imread(tmp_path / f"{name}.png").shape[0]
    assert heights["both"] > max(heights["silent"], heights["sound"])
    assert holds(imread(tmp_path / "silent.png")[..., :3], (0, 200, 0))
    magma = tuple(round(255 * part) for part in colormaps["magma"](0.5)[:3])
    assert holds(imread(tmp_path / "sound.png")[..., :3], magma)
    assert not holds(imread(tmp_path / "sound.png")[..., :3], (0, 200, 0))


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
