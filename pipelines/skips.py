"""Skip bad samples: count, name and log each; too many stop the run.

There are two outcomes of a fault. `SkipError` is the narrow one, raised where the cause lies in
one sample's bytes; everything else fails at once. Nothing is skipped without an entry here, and at
the end of every epoch delivered + skipped = total.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from shards.shown import shown

__all__ = [
    "MismatchError",
    "SkipCounts",
    "SkipError",
    "SkipLog",
    "TooManySkipsError",
    "count_skips",
]


class SkipError(Exception):
    """One sample cannot be had, and the run can go on without it.

    Attributes:
        shard, key: which sample.
        stage: where it failed: "open", "read", "checksum", "decode", "cover", "index",
            "caption".
        cause: what was wrong, with the numbers.
    """

    def __init__(self, *, shard: str, key: str, stage: str, cause: str) -> None:
        super().__init__(shown(f"{shard}: sample {key!r}: {stage}: {cause}"))
        self.shard, self.key, self.stage, self.cause = shard, key, stage, cause

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments do not pickle by default
        return _skip_error, (self.shard, self.key, self.stage, self.cause)


def _skip_error(shard: str, key: str, stage: str, cause: str) -> SkipError:
    return SkipError(shard=shard, key=key, stage=stage, cause=cause)


class MismatchError(ValueError):
    """An intact sample does not go with the options: nothing to skip, but to set right.

    The message says what does not go together, and what to set.
    """


class TooManySkipsError(RuntimeError):
    """So many samples were skipped that the run would not be what it claims to be."""


@dataclass
class SkipCounts:
    """What became of the samples of one epoch (so far, of one rank)."""

    delivered: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0

    @property
    def total(self) -> int:
        """Samples asked for."""
        return self.delivered + self.skipped


@dataclass
class SkipLog:
    """Log of skips, which stops the run when there are too many.

    Attributes:
        path: a file of JSON lines that is appended to (one line a skip: shard, key, stage, cause,
            epoch, step); None keeps counts only. Steps that are run again after a resume are
            there twice; `count_skips` counts them once.
        most_share: the share of samples that may be skipped, judged from `floor` samples on.
        floor: below this many samples only `most_in_a_row` is judged.
        most_in_a_row: a run of skips this long means that something other than samples is broken.
    """

    path: Path | None = None
    most_share: float = 0.01
    floor: int = 1000
    most_in_a_row: int = 50
    causes: dict[str, int] = field(default_factory=dict)
    seen: SkipCounts = field(default_factory=SkipCounts)

    def deliver(self, skip_counts: SkipCounts) -> None:
        """Count one delivered sample."""
        for a in (skip_counts, self.seen):
            a.delivered += 1
            a.skipped_in_a_row = 0

    def skip(self, skip_counts: SkipCounts, error: SkipError, *, epoch: int, step: int) -> None:
        """Count and write down one skipped sample.

        Raises:
            TooManySkipsError: this one is too many.
        """
        for a in (skip_counts, self.seen):
            a.skipped += 1
            a.skipped_in_a_row += 1
        self.causes[error.stage] = self.causes.get(error.stage, 0) + 1
        if self.path is not None:
            entry = {"epoch": epoch, "step": step, "shard": error.shard, "key": error.key}
            line = json.dumps({**entry, "stage": error.stage, "cause": error.cause})
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        self._judge(error)

    def _judge(self, error: SkipError) -> None:
        seen = self.seen
        share = seen.skipped / seen.total
        if seen.skipped_in_a_row >= self.most_in_a_row:
            what = f"{seen.skipped_in_a_row} samples in a row were skipped"
        elif seen.total >= self.floor and share > self.most_share:
            what = (
                f"{seen.skipped} of {seen.total} samples were skipped, which is {share:.1%} "
                f"and more than {self.most_share:.1%}"
            )
        else:
            return
        by_stage = ", ".join(f"{stage} {count}" for stage, count in sorted(self.causes.items()))
        where = f"every one is in {self.path}" if self.path else "give the run a skip log file"
        raise TooManySkipsError(
            f"{what} (by stage: {by_stage}); {where}; the last was {error}. "
            "`gdt shards verify` checks the shards"
        ) from error

    def summary(self) -> dict[str, object]:
        """Counts for a log or a report."""
        return {**asdict(self.seen), "causes": dict(self.causes)}


def count_skips(path: Path) -> int:
    """How many samples a skip log file names; what a resumed run skipped again counts once."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, KeyError, TypeError):  # a killed run may leave half a line
            entry = json.loads(line)
            found.add((entry["epoch"], entry["step"], entry["shard"], entry["key"]))
    return len(found)
