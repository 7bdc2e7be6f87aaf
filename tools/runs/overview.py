"""What a run's folder tells without its checkpoint: how it stands, its losses, its scores."""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shards.format.json_text import plain_json
from shards.storage.text_files import read_small
from tools.runs.losses import LossFileError, LossRow, read_losses
from tools.runs.run_folder import RunError, RunFolder
from tools.runs.status import read_status
from tools.runs.validation_scores import WATCHED, ValidationScore, best_score, read_scores

_MEAN_OF = 20  # last losses: one step's is noisy
_METRICS = "gdt-metrics/1"  # tools/evaluation/result.py


@dataclass(frozen=True)
class RunOverview:
    """One line of `gdt runs`.

    Attributes:
        path: the folder.
        state: "running", "finished", "stopped", "failed", "killed"; "unknown" of an old run.
        step, num_steps: how far it came; None where it is not said.
        reason: why it stopped or failed.
        losses: all of them.
        validation: the watched scores, in the order of their steps.
        results: of `gdt evaluate`: task → the first score of the trained encoder, in words.
    """

    path: Path
    state: str
    step: int | None
    num_steps: int | None
    reason: str
    losses: tuple[LossRow, ...]
    validation: tuple[ValidationScore, ...]
    results: dict[str, str]

    @property
    def loss(self) -> float | None:
        """Mean of the last losses."""
        last = [row.loss for row in self.losses[-_MEAN_OF:]]
        return sum(last) / len(last) if last else None

    @property
    def best(self) -> ValidationScore | None:
        """The best validation."""
        return best_score(self.validation)


def overview(path: Path) -> RunOverview:
    """Look at a run.

    Raises:
        RunError: the folder holds none.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise RunError(
            f"{path} is not a run folder: there is no {folder.config.name} in it. Give the --out "
            "of `gdt pretrain`"
        )
    status = read_status(folder.status)
    try:
        losses = tuple(read_losses(path))
    except LossFileError:
        losses = ()
    state: str = "unknown" if status is None else status.state
    if is_held(folder):
        state = "running"
    elif state == "running":
        state = "killed"
    last = losses[-1].step + 1 if losses else None
    return RunOverview(
        path=path,
        state=state,
        step=last if status is None else max(status.step, last or 0),
        num_steps=None if status is None else status.num_steps,
        reason="" if status is None else status.reason,
        losses=losses,
        validation=tuple(s for s in read_scores(folder.validation) if s.metric == WATCHED),
        results=dict(_results(path)),
    )


def find_runs(root: Path) -> list[Path]:
    """The run folders at or below a folder, by name; a run's own folders are not searched."""
    if (root / "config.toml").exists():
        return [root]
    if not root.is_dir():
        return []
    below = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink()]
    return [run for path in below if not path.name.startswith(".") for run in find_runs(path)]


def is_held(folder: RunFolder) -> bool:
    """Whether a process trains in the folder."""
    try:
        lock = os.open(folder.lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _results(run: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(run.glob("evaluation/*/*/metrics.json")):
        try:
            content = plain_json(read_small(path))
            if content["schema"] != _METRICS:
                continue
            score = next(s for s in content["scores"] if s["encoder"] == "trained")
            name = f"{content['task']}, {Path(content['data']['test']['path']).name}"
            yield name, f"{score['of']} {score['metric']} {100 * score['value']:.1f} %"
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            continue  # half written, or another program's
