"""Writes checkpoints that survive a kill and a full disk: whole under their name, or not there.

A checkpoint is written aside, flushed to disk, then renamed; the one that was there becomes the
previous one. What reads them is tools/runs/checkpoints.py.
"""

import os
from pathlib import Path
from typing import IO, Any, cast

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from tools.runs.checkpoints import load_checkpoint
from tools.runs.run_folder import RunError, RunFolder


class AtomicCheckpointIO(CheckpointIO):
    """Writes and reads a run's checkpoint on a file system of this machine."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; the one that was there becomes the previous one.

        Raises:
            RunError: the disk is full, or cannot be written; what was there is as it was.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                _write(checkpoint, file)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise RunError(
                f"{path} cannot be written: {error.strerror}. "
                + ("The checkpoint before it is kept: " if path.exists() else "")
                + "make room (trainer.checkpoint_every_steps saves less often) and go on with "
                "--resume"
            ) from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if path.exists():
            path.replace(path.with_name(RunFolder.PREVIOUS))
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the renames themselves
        finally:
            os.close(folder)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are ever unpickled."""
        return load_checkpoint(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def _write(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """Write to the disk itself; torch hides what kept it from writing, and this finds it again."""
    faults: list[OSError] = []

    class Watched:
        def write(self, content: Any) -> int:
            try:
                return file.write(content)
            except OSError as error:
                faults.append(error)
                raise

        def flush(self) -> None:
            file.flush()

    try:
        torch.save(checkpoint, cast(IO[bytes], Watched()))
        file.flush()
        os.fsync(file.fileno())
    except RuntimeError as error:
        if faults:
            raise faults[0] from error
        raise
