"""The folder a build writes to: claimed by one builder, for one set of options and sources.

DIR/build.json        what is being built: options, and a digest of the plan
DIR/report.jsonl      one line per source, when the build is done
DIR/manifest.json, DIR/shard-000000.tar, …     or DIR/train/… and DIR/val/… with a holdout
DIR/.build/           lock, plan, shard reports; left with the lock alone when the build is done
"""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

from shards.errors import BuildError
from shards.writer import write_atomically

BUILD_NAME, REPORT_NAME, STATE_NAME = "build.json", "report.jsonl", ".build"


class Target:
    """A build's target folder, locked from construction to `close`.

    Raises:
        BuildError: it cannot be written, another builder holds it, or it holds something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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

    def part_folder(self, part: str) -> Path:
        """The data set folder of a part ("" is the target itself)."""
        return self.path / part if part else self.path

    def claim(self, options: dict[str, Any], plan_sha256: str) -> None:
        """Record what is built here, or check that it is what was begun here before.

        Raises:
            BuildError: other options or other sources were used here.
        """
        path = self.path / BUILD_NAME
        wanted = {"format": "gdt-build", "version": 1, "options": options, "plan": plan_sha256}
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
