"""Blocks on a board: pushes, what is drawn, and episodes that are pure functions."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from tools.sample_data.blocks import (
    BlocksOptions,
    build_blocks,
    draw_episode,
    pushed,
    render,
)

BOARD = np.array([[0, 0], [0, 1], [2, 2], [4, 4], [3, 0]])


@pytest.mark.parametrize(
    ("action", "block", "goal"),
    [
        (2, 0, (1, 0)),  # down
        (1, 0, (0, 0)),  # right, where another block stands
        (3, 0, (0, 0)),  # left, beyond the edge
        (4 * 2 + 1, 2, (2, 3)),
        (4 * 3, 3, (3, 4)),
    ],
)
def test_a_push_moves_a_block_unless_something_is_in_its_way(
    action: int, block: int, goal: tuple[int, int]
) -> None:
    after = pushed(BOARD, action)
    assert tuple(after[block]) == goal
    others = [k for k in range(5) if k != block]
    assert np.array_equal(after[others], BOARD[others])


def test_every_block_is_seen_where_it_stands() -> None:
    frame = render(BOARD)
    assert frame.shape == (80, 80, 3)
    cells = frame.reshape(5, 16, 5, 16, 3).max(axis=(1, 3)).max(axis=2) > 100
    assert sorted(zip(*cells.nonzero(), strict=True)) == sorted(map(tuple, BOARD.tolist()))
    middles = {tuple(frame[16 * row + 8, 16 * column + 2]) for row, column in BOARD.tolist()}
    assert len(middles) == 5  # colours


def test_episodes_follow_from_their_actions(tmp_path: Path) -> None:
    boards, actions = draw_episode(3, "train", 1, 6)
    for before, action, after in zip(boards, actions.tolist(), boards[1:], strict=False):
        assert np.array_equal(pushed(before, action), after)
    again, _ = draw_episode(3, "train", 1, 6)
    assert np.array_equal(boards, again)
    assert not np.array_equal(boards, draw_episode(3, "val", 1, 6)[0])
    build_blocks(tmp_path, BlocksOptions(num_train=2, num_val=1, num_actions=6, seed=3))
    with (tmp_path / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows][1:] == ["train/train_00001.mp4", "val/val_00000.mp4"]
    assert rows[1]["actions"] == " ".join(map(str, actions.tolist()))
    with av.open(str(tmp_path / rows[1]["file"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 7
    for frame, board in zip(frames, boards, strict=True):
        assert np.abs(frame.astype(int) - render(board)).mean() < 16
    with pytest.raises(ValueError, match="blocks: num_actions is 0; allowed: 1 or more"):
        BlocksOptions(num_actions=0)
