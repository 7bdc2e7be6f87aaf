"""Blocks on a board, pushed about: episodes of frames, and the action between each two of them.

    OUT/train/*.mp4, OUT/val/*.mp4     one frame a step; no sound
    OUT/labels.csv                     file, label (how many pushes moved a block), actions

Five blocks of different form and colour stand on a board of 5 × 5 places. An action is a block and
a direction; the block goes one place on, unless a block or the edge is in the way. So what happens
depends on all blocks: the grid world of Kipf et al., "Contrastive Learning of Structured World
Models", ICLR 2020, arXiv:1911.12247, §4.1, in pictures of our own. Every episode draws its board
and its actions from (seed, folder, number).

Legend: A actions of an episode of A + 1 frames, K blocks, S side of a frame.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.sample_data.moving_shapes import MovingShapesOptions, write_silent_video
from tools.sample_data.ranges import check

NUM_BLOCKS: Final = 5
PLACES: Final = 5  # in a row, and in a column
CELL: Final = 16  # pixels of a place
FRAMES_PER_SECOND: Final = 10
#: Row and column steps: up, right, down, left.
DIRECTIONS: Final = ((-1, 0), (0, 1), (1, 0), (0, -1))
#: Of a block: red, green, blue, yellow, violet.
_COLORS: Final = ((220, 50, 47), (64, 180, 70), (60, 110, 230), (240, 200, 40), (170, 80, 200))

Boards = npt.NDArray[np.int64]


@dataclass(frozen=True)
class BlocksOptions:
    """How many episodes, and how long.

    Raises:
        ValueError: a number out of range; the message says which and what is allowed.
    """

    num_train: int = 256
    num_val: int = 64
    num_actions: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check(
            "blocks",
            (self.num_train >= 0, "num_train", self.num_train, "0 or more"),
            (self.num_val >= 0, "num_val", self.num_val, "0 or more"),
            (self.num_actions >= 1, "num_actions", self.num_actions, "1 or more"),
            (self.seed >= 0, "seed", self.seed, "0 or more"),
        )


def draw_episode(seed: int, folder: str, number: int, num_actions: int) -> tuple[Boards, Boards]:
    """Places int64 [A + 1, K, 2] of the blocks, row and column; and the actions int64 [A].

    Action 4·k + d pushes block k in direction d.
    """
    rng = np.random.default_rng([seed, *folder.encode(), number])
    start = rng.permutation(PLACES**2)[:NUM_BLOCKS]
    actions = rng.integers(NUM_BLOCKS * len(DIRECTIONS), size=num_actions)
    boards = [np.stack(np.divmod(start, PLACES), axis=1)]
    for action in actions.tolist():
        boards.append(pushed(boards[-1], action))
    return np.stack(boards), actions


def pushed(board: Boards, action: int) -> Boards:
    """The places [K, 2] after an action."""
    block, direction = divmod(action, len(DIRECTIONS))
    goal = board[block] + DIRECTIONS[direction]
    is_taken = bool((board == goal).all(axis=1).any())
    if is_taken or goal.min() < 0 or goal.max() >= PLACES:
        return board
    after = board.copy()
    after[block] = goal
    return after


def render(board: Boards) -> npt.NDArray[np.uint8]:
    """A frame [S, S, 3] of blocks at places [K, 2]: each has a form and a colour of its own."""
    frame = np.full((PLACES * CELL, PLACES * CELL, 3), 20, np.uint8)
    for (row, column), shape, color in zip(board.tolist(), _forms(), _COLORS, strict=True):
        place = frame[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
        place[shape] = color
    return frame


def _forms() -> list[npt.NDArray[np.bool_]]:
    """Bool [CELL, CELL] each: disc, square, triangle, ring, cross."""
    y, x = np.mgrid[:CELL, :CELL] - (CELL - 1) / 2
    far = np.hypot(x, y)
    disc, square = far < 7.5, np.maximum(abs(x), abs(y)) < 6.5
    triangle = (y < 7) & (abs(x) < (y + 8) / 2)
    ring, cross = disc & (far > 3.5), (np.minimum(abs(x), abs(y)) < 2.6) & square
    return [disc, square, triangle, ring, cross]


def build_blocks(
    out: Path,
    options: BlocksOptions,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the episodes, and labels.csv.

    Args:
        out: the folder; it is made. Videos of the same names are written again.
        options: how many, how long; the seed.
        report: gets (episodes done, episodes in all).
    """
    form = MovingShapesOptions(size=PLACES * CELL, frames_per_second=FRAMES_PER_SECOND)
    jobs = [
        (folder, number)
        for folder, count in (("train", options.num_train), ("val", options.num_val))
        for number in range(count)
    ]
    for folder in ("train", "val"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for done, (folder, number) in enumerate(jobs, start=1):
        boards, actions = draw_episode(options.seed, folder, number, options.num_actions)
        name = f"{folder}/{folder}_{number:05d}.mp4"
        write_silent_video(out / name, np.stack([render(board) for board in boards]), form)
        moved = int((boards[1:] != boards[:-1]).any(axis=(1, 2)).sum())
        rows.append([name, moved, " ".join(map(str, actions.tolist()))])
        report(done, len(jobs))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "actions"])
        writer.writerows(rows)
