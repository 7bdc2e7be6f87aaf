"""How a run stands, RUN/status.json: what its process last said of itself.

A run that says "running" and whose folder nobody holds was killed.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from shards.format.json_text import plain_json
from shards.storage.text_files import read_small

State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class RunStatus:
    """What a run says of itself.

    Attributes:
        state: "stopped": by a signal, or early, as its config asks.
        step: optimizer steps that were taken.
        num_steps: steps of the whole run.
        reason: why it stopped or failed; empty otherwise.
        updated: when this was written, in seconds since 1970.
    """

    state: State
    step: int
    num_steps: int
    reason: str = ""
    updated: float = field(default_factory=time.time)

    def save(self, path: Path) -> None:
        """Write it, atomically."""
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(dataclasses.asdict(self)) + "\n", encoding="utf-8")
        partial.replace(path)


def read_status(path: Path) -> RunStatus | None:
    """What was last written; None where nothing was, or nothing that can be read."""
    try:
        found = RunStatus(**plain_json(read_small(path)))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.state in get_args(State) else None
