"""The losses of a run, RUN/logs/losses.csv: one line per logged step, over all attempts.

A resumed attempt cuts the file back to its checkpoint and goes on from there, so every step stands
in it once, and the file of a run that was killed ten times is that of one that never was. What a
full disk or a bad one left of a row is no row: it is not written, or left out and said.
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

    def cut(self, step: int) -> list[str]:
        """Keep the rows before `step`: the others will be computed again. Makes the file.

        Returns:
            Lines that are no rows, as a bad disk leaves them; the file is now without them.
        """
        found, damaged = _parse(self.path)
        kept = [row for row in found if row.step < step]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(_HEADER + "\n" + "".join(row.line() for row in kept))
        partial.replace(self.path)
        return damaged

    def append(self, row: LossRow) -> None:
        """Add a row: a kill leaves the file with or without it, and so does a full disk.

        Raises:
            OSError: it cannot be written; the file is as it was.
        """
        content = row.line().encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            size = os.fstat(descriptor).st_size
            try:
                while content:  # a disk that is nearly full takes a part of it
                    content = content[os.write(descriptor, content) :]
            except OSError:
                os.truncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)

    def flush_to_disk(self) -> None:
        """Return when all rows are on disk: no checkpoint should be newer than its losses."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class LossFileError(ValueError):
    """A file of losses that is none, or damaged."""


def read_loss_file(path: Path) -> list[LossRow]:
    """The rows of a `losses.csv`, in the order of their steps; empty where there is none yet.

    Raises:
        LossFileError: not such a file; names the line.
    """
    rows, damaged = _parse(path)
    if damaged:
        raise LossFileError(
            f"{path}: {damaged[0]} is not a row of losses. `gdt pretrain … --resume` mends the file"
        )
    return rows


def _parse(path: Path) -> tuple[list[LossRow], list[str]]:
    """The rows, each step once, and the lines that are none; an unfinished last line is neither."""
    text = path.read_bytes().decode(errors="replace") if path.exists() else ""
    if not text:
        return [], []
    header, *lines = text.splitlines(keepends=True)
    if header.strip() != _HEADER:
        raise LossFileError(f"{path}: the first line must be {_HEADER!r}, got {header.strip()!r}")
    rows: dict[int, LossRow] = {}
    damaged = []
    for number, line in enumerate(lines, start=2):
        if not line.endswith("\n"):  # the line that a full disk or a power cut left unfinished
            break
        try:
            step, epoch, loss, learning_rate = line.split(",")
            row = LossRow(int(step), int(epoch), float(loss), float(learning_rate))
        except ValueError:
            damaged.append(f"line {number}, {line.rstrip()!r},")
        else:
            rows[row.step] = row
    return [rows[step] for step in sorted(rows)], damaged


def read_losses(run: Path) -> list[LossRow]:
    """The losses of a run folder as one sequence, however many attempts it took."""
    return read_loss_file(run / "logs" / "losses.csv")
