"""Run as a program: builds in forked children, each killed with SIGKILL at a seeded moment.

    python -m tests.faults.kill_chain VIDEOS FOLDER NUM_KILLS SEED

FOLDER/whole is built first, by a child that nobody kills; then FOLDER/chain-0 by children that are
killed, each going on where the last one stopped, and FOLDER/chain-1 where that is done, and so on.
After every kill, whatever lies under a final name must be the bytes of the unbroken build, and what
was finished must be the same file as before. Prints what was killed when.

A fork costs a hundredth of a new interpreter; the children's workers are forked too, into the
children's process groups, which are killed whole.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards import BuildOptions
from shards.building import worker_pool
from shards.building.build import build

OPTIONS = BuildOptions(
    clip_seconds=1.0, fps=10, size=(64, 48), clips_per_shard=2, seconds_per_unit=2.0, holdout=0.3,
    gap_seconds=0.0,
)  # fmt: skip
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


@dataclass(frozen=True)
class Moment:
    """When to kill: at a probed source, so long after encoding began, or before a file event."""

    phase: str
    at: float

    def arm(self, out: Path) -> Callable[[str, int, int | None], None]:
        """Get ready to die; returns the progress callback that the build must call."""
        events = 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal events
            if event not in FILE_EVENTS or str(out) not in str(arguments[0]):
                return
            events += 1
            if self.phase == "files" and events == self.at:
                die()
            path = Path(os.fsdecode(arguments[0]))
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes and path.suffix != ".tmp" and ".build" not in path.parts:
                raise AssertionError(f"{path} is written under its final name")

        sys.addaudithook(hook)
        signal.signal(signal.SIGALRM, lambda *_: die())

        def progress(stage: str, done: int, _total: int | None) -> None:
            if self.phase == "probe" and (stage, done) == ("probe", self.at):
                die()
            if self.phase == "encode" and (stage, done) == ("build", 0):
                signal.setitimer(signal.ITIMER_REAL, self.at)

        return progress


def die() -> None:
    os.killpg(0, signal.SIGKILL)


def run_child(videos: Path, out: Path, moment: Moment) -> bool:
    """Build in a child; whether it lived to the end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setsid()
            build([videos], out, OPTIONS, num_workers=2, progress=moment.arm(out))
            status = 0
        except BaseException:  # noqa: BLE001 - os._exit would not print it
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)  # its workers, who hold its lock: they were forked
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0, "the build failed"
    return True


def finals(out: Path) -> dict[str, str]:
    """SHA-256 of everything that lies under a name that a reader would take for a result."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and ".build" not in path.parts and path.suffix != ".tmp"
    }


def finished(out: Path) -> dict[str, int]:
    """The file numbers of the shards that the build has recorded as done."""
    states = [json.loads(path.read_bytes()) for path in (out / ".build").glob("*-*.json")]
    parts = [path.name.partition("-")[0] for path in (out / ".build").glob("*-*.json")]
    return {
        f"{part}/{state['entry']['name']}": (out / part / state["entry"]["name"]).stat().st_ino
        for part, state in zip(parts, states, strict=True)
        if state["entry"]
    }


def main(videos: Path, folder: Path, num_kills: int, seed: int) -> None:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: to see the workers end
    forking = multiprocessing.get_context("fork")
    worker_pool.multiprocessing.get_context = lambda _: forking  # type: ignore[attr-defined]
    dice = random.Random(seed)
    began = time.monotonic()
    assert run_child(videos, folder / "whole", Moment("never", 0))
    seconds = time.monotonic() - began
    whole = finals(folder / "whole")
    num_events = 8 * sum(name.endswith(".tar") for name in whole)

    killed: Counter[str] = Counter()
    kept = chains = 0
    before: dict[str, int] = {}
    while sum(killed.values()) < num_kills:
        phase = dice.choice(("probe", "encode", "encode", "files", "files", "files"))
        at = {
            "probe": dice.randint(1, len(list(videos.iterdir()))),
            "encode": dice.uniform(0.0, 0.7 * seconds),
            "files": dice.randint(1, num_events),
        }[phase]
        out = folder / f"chain-{chains}"
        lived = run_child(videos, out, Moment(phase, at))
        found = finals(out)
        wrong = {name for name, digest in found.items() if whole.get(name) != digest}
        assert not wrong, f"{wrong} after {phase} {at}"
        if lived:
            assert found == whole, f"missing {whole.keys() - found.keys()}"
            chains, before = chains + 1, {}
            continue
        killed[phase] += 1
        again = {n for n, number in before.items() if (out / n).stat().st_ino != number}
        assert not again, f"{again} were made again, after {phase} {at}"
        kept, before = kept + len(before), finished(out)
    assert run_child(videos, folder / f"chain-{chains}", Moment("never", 0))
    assert finals(folder / f"chain-{chains}") == whole
    print(json.dumps({"killed": killed, "kept": kept, "chains": chains + 1}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
