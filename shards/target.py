"""The folder a build writes to: claimed by one builder, for one set of options and sources.

DIR/build.json        what is being built: options, and a digest of the plan
DIR/report.jsonl      one line per source, when the build is done
DIR/manifest.json, DIR/shard-000000.tar, …     or DIR/train/… and DIR/val/… with a holdout
DIR/.build/           lock, plan, what is known of finished shards; in the end the lock alone

An array job has DIR/part-0002-of-0008 for the first two and .build, and its shards beside those of
the others: in the same folder, or in DIR/train/part-0002-of-0008 and DIR/val/part-0002-of-0008.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shards.errors import BuildError
from shards.jobs import BuiltShard, Layout, ShardJob
from shards.manifest import MANIFEST_NAME
from shards.portion import Portion
from shards.sample import json_bytes
from shards.writer import INDEX_SUFFIX, ShardEntry, file_sha256, write_atomically

BUILD_NAME, REPORT_NAME, STATE_NAME = "build.json", "report.jsonl", ".build"


class Target:
    """A build's target folder, locked from construction to `close`.

    Raises:
        BuildError: it cannot be written, another builder holds it, or it holds something else.
    """

    def __init__(self, out: Path, portion: Portion | None = None) -> None:
        self.portion = portion
        self.layout = Layout(out, portion.folder if portion else "")
        path = self.path = self.layout.folder("")
        self.state = path / STATE_NAME
        if path.exists() and not path.is_dir():
            raise BuildError(f"Target {path} is a file; name a folder with --out.")
        self._made = not path.exists()
        foreign = sorted(p.name for p in path.iterdir())[:3] if path.is_dir() else []
        if foreign and not (self.state.is_dir() or (path / BUILD_NAME).is_file()):
            raise BuildError(
                f"Target {path} already holds other files ({', '.join(foreign)}, …); "
                "choose a new or empty folder with --out."
            )
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BuildError(
                f"Target {path} cannot be written: {error.strerror}. "
                "Choose another folder with --out, or change its permissions."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise BuildError(
                f"Another builder (process {holder}) is at work on {path}; wait until it ends, "
                "or choose another folder with --out."
            ) from error
        os.truncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the next builder in; a folder in which nothing was begun is removed again."""
        begun = (self.path / BUILD_NAME).exists() or (self.path / REPORT_NAME).exists()
        if not begun:
            shutil.rmtree(self.state)
            if self._made:
                self.path.rmdir()
        os.close(self._lock)

    def claim(self, options: dict[str, Any], plan_sha256: str, listing: dict[str, Any]) -> None:
        """Record what is built here, or check that it is what was begun here before.

        `listing` tells the list of all sources from another; portions of one list have the same.

        Raises:
            BuildError: other options or other sources were used here.
        """
        path = self.path / BUILD_NAME
        wanted = {"format": "gdt-build", "version": 1, "options": options, "plan": plan_sha256}
        if self.portion is not None:
            wanted |= {"part": [self.portion.number, self.portion.count]} | listing
        if not path.exists():
            write_atomically(path, json.dumps(wanted, indent=1, sort_keys=True).encode() + b"\n")
            return
        try:
            found = json.loads(path.read_bytes())
            old = dict(found["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(f"{path} is damaged ({error!r}); choose a new folder.") from error
        for name in sorted(options.keys() | old.keys()):
            if options.get(name) != old.get(name):
                raise BuildError(
                    f"Target {self.path} already holds another build: its {name} is "
                    f"{old.get(name)!r}, this build's is {options.get(name)!r}. "
                    "Choose another folder with --out, or remove that one."
                )
        if found.get("plan") != plan_sha256:
            raise BuildError(
                f"Target {self.path} already holds a build of other sources (or these have "
                "changed since). Choose another folder with --out, or remove that one."
            )

    def is_finished(self, parts: Iterable[str]) -> bool:
        """Whether report and manifests are there."""
        manifests = [self.layout.folder(part) / MANIFEST_NAME for part in parts]
        return all(path.exists() for path in [self.path / REPORT_NAME, *manifests])

    def keep(self, shard: BuiltShard) -> None:
        """Record a finished shard (or that nothing came of it), so that it is not made again."""
        content = {"entry": shard.entry and asdict(shard.entry), "lines": shard.lines}
        write_atomically(self._state_of(shard.job), json_bytes(content))

    def kept(self, job: ShardJob) -> BuiltShard | None:
        """What an earlier run made of this job, if it did and the files are there."""
        try:
            content = json.loads(self._state_of(job).read_bytes())
        except FileNotFoundError:
            return None
        entry = ShardEntry(**content["entry"]) if content["entry"] else None
        if entry is not None and not _is_there(self.layout.folder(job.part), entry):
            return None
        return BuiltShard(job, entry, tuple(content["lines"]))

    def unit_lines(self, part: str) -> Iterator[dict[str, Any]]:
        """The report lines of a part's units, in order."""
        for path in sorted(self.state.glob(f"{part or 'all'}-*.json")):
            yield from json.loads(path.read_bytes())["lines"]

    def clear_state(self) -> None:
        """Drop what is needed only until the build is finished."""
        for path in self.state.iterdir():
            if path.name != "lock":
                path.unlink()

    def _state_of(self, job: ShardJob) -> Path:
        return self.state / f"{job.part or 'all'}-{job.number:06d}.json"


def _is_there(folder: Path, entry: ShardEntry) -> bool:
    index = folder / (entry.name + INDEX_SUFFIX)
    try:
        same_size = (folder / entry.name).stat().st_size == entry.size
        return same_size and file_sha256(index) == entry.index_sha256
    except FileNotFoundError:
        return False
