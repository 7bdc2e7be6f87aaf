"""The losses of a run, RUN/logs/losses.csv: one line per logged step, over all attempts.

A resumed attempt cuts the file back to its checkpoint and goes on from there, so every step stands
in it once, and the file of a run that was killed ten times is that of one that never was.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_HEADER = "step,epoch,loss,learning_rate"


class LossRow(NamedTuple):
    """One logged step: zero-based over the whole run, and the loss before its update."""

    step: int
    epoch: int
    loss: float
    learning_rate: float

    def line(self) -> str:
        """The row as CSV; numbers in the shortest form that reads back to the same bits."""
        return f"{self.step},{self.epoch},{self.loss!r},{self.learning_rate!r}\n"


@dataclass(frozen=True)
class LossFile:
    """Writes `losses.csv`."""

    path: Path

    def cut(self, step: int) -> None:
        """Keep the rows before `step`: the others will be computed again. Makes the file."""
        kept = [row for row in read_loss_file(self.path) if row.step < step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(_HEADER + "\n" + "".join(row.line() for row in kept))
        partial.replace(self.path)

    def append(self, row: LossRow) -> None:
        """Add a row in one write: a kill leaves the file with or without it."""
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, row.line().encode())
        finally:
            os.close(descriptor)

    def flush_to_disk(self) -> None:
        """Return when all rows are on disk: no checkpoint should be newer than its losses."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_loss_file(path: Path) -> list[LossRow]:
    """The rows of a `losses.csv`, in the order of their steps; empty where there is none yet.

    Raises:
        ValueError: not such a file; names the line.
    """
    if not path.exists():
        return []
    header, *lines = path.read_text().splitlines(keepends=True) or [""]
    if header.strip() != _HEADER:
        raise ValueError(f"{path}: the first line must be {_HEADER!r}, got {header.strip()!r}")
    rows = []
    for number, line in enumerate(lines, start=2):
        if not line.endswith("\n"):  # the line that a full disk or a power cut left unfinished
            break
        try:
            step, epoch, loss, learning_rate = line.split(",")
            rows.append(LossRow(int(step), int(epoch), float(loss), float(learning_rate)))
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is not a row of losses: {line!r}") from error
    return rows


def read_losses(run: Path) -> list[LossRow]:
    """The losses of a run folder as one sequence, however many attempts it took."""
    return read_loss_file(run / "logs" / "losses.csv")
