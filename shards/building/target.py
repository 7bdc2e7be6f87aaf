"""The folder a build writes to: claimed by one builder, for one set of options and sources.

DIR/build.json        what is being built: options, and a digest of the plan
DIR/report.jsonl      one line per source, when the build is done
DIR/manifest.json, DIR/shard-000000.tar, …     or DIR/train/… and DIR/val/… with a holdout
DIR/.build/           lock, plan, what is known of finished shards; in the end lock and plan

Where the target is a URL, all of it is made in a staging folder here: each shard goes up when it is
finished and is removed here, the manifest goes up last. A build that is interrupted goes on from
that folder; should it be lost, everything is made again, to the same bytes.

An array job has DIR/part-0002-of-0008 for the first two and .build, and its shards beside those of
the others: in the same folder, or in DIR/train/part-0002-of-0008 and DIR/val/part-0002-of-0008.
"""

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shards.building.array_part import Portion
from shards.building.jobs import BuiltShard, Layout, ShardJob
from shards.building.plan_diff import first_change
from shards.building.report import UnitReport, read_report, report_lines
from shards.building.worker_pool import TOOK_TOO_LONG
from shards.errors import BuildError
from shards.format.json_text import json_bytes, jsonl_sha256, plain_json
from shards.format.manifest import INDEX_SUFFIX, MANIFEST_NAME, ShardEntry
from shards.reading.remote_store import default_cache_folder
from shards.storage.local_files import write_atomically
from shards.storage.transfer import RemoteOptions
from shards.storage.upload import RemoteFolder
from shards.storage.urls import folder_or_url

BUILD_FORMAT = "gdt-build"
BUILD_NAME, REPORT_NAME, STATE_NAME = "build.json", "report.jsonl", ".build"
NEW_PLAN_NAME = "plan.jsonl"  # in .build, until the build is finished
PLAN_NAME = "plan.jsonl.gz"  # in a finished build's .build; see `Target.keep_plan`


class Target:
    """A build's target folder, locked from construction to `close`.

    Args:
        out: the folder, or its URL.
        portion: what an array job builds; in folders of its own.
        staging: where shards are made that go to a URL; in the user's cache folder by default.
        remote: attempts, waits and storage_options, where `out` is a URL.

    Raises:
        BuildError: it cannot be written, another builder holds it, or it holds something else.
    """

    def __init__(
        self,
        out: Path | str,
        portion: Portion | None = None,
        staging: Path | None = None,
        remote: RemoteOptions | None = None,
    ) -> None:
        self.portion = portion
        place = folder_or_url(out)
        self.remote = RemoteFolder(place, remote) if isinstance(place, str) else None
        here = place if isinstance(place, Path) else staging or _staging_folder(place)
        self.layout = Layout(here, portion.folder if portion else "", self.remote)
        self.path = self.layout.folder("")
        self.name = f"{self.path}"
        if self.remote is not None:
            self.name = f"{self.remote.location}/{self.layout.name('')}".rstrip("/")
        self.state = self.path / STATE_NAME
        self._made = not self.path.exists()
        self._lock = self._locked()
        try:
            if self.remote is not None:
                self._open_remote(self.remote)
        except BuildError:
            self.close()
            raise

    def _locked(self) -> int:
        path = self.path
        if path.exists() and not path.is_dir():
            raise BuildError(f"Target {path} is a file; name a folder with --out.")
        others = sorted(p.name for p in path.iterdir())[:3] if path.is_dir() else []
        if others and not (self.state.is_dir() or (path / BUILD_NAME).is_file()):
            raise _holds_others(f"{path}", others)
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BuildError(
                f"Target {path} cannot be written: {error.strerror}. "
                "Choose another folder with --out, or change its permissions."
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise BuildError(
                f"Another builder (process {holder}) is at work on {self.name}; wait until it "
                "ends, or choose another folder with --out."
            ) from error
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _open_remote(self, remote: RemoteFolder) -> None:
        """See that the URL is free or ours, and can be written, before any work is done."""
        found = remote.sizes(self.layout.name(""))
        others = sorted(found.keys() - {STATE_NAME})
        if others and not ({BUILD_NAME, STATE_NAME} & found.keys()):
            raise _holds_others(self.name, others[:3])
        holder = f"{os.uname().nodename} {os.getpid()}\n"
        remote.write(self.layout.name("", f"{STATE_NAME}/builder"), holder.encode())

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the next builder in; a folder in which nothing was begun is removed again."""
        begun = (self.path / BUILD_NAME).exists() or (self.path / REPORT_NAME).exists()
        if not begun:
            shutil.rmtree(self.state)
            with contextlib.suppress(OSError):  # it may hold what others put there
                if self._made or self.remote is not None:
                    self.path.rmdir()
        os.close(self._lock)

    def claim(
        self, options: dict[str, Any], plan: Path, made_by: str, listing: dict[str, Any]
    ) -> str:
        """Record what is built here, or check that it is what was begun here before.

        `listing` tells the list of all sources from another; portions of one list have the same.
        Returns `made_by` as it was when the build began.

        Raises:
            BuildError: other options or other sources were used here.
        """
        wanted = {"format": BUILD_FORMAT, "version": 1, "options": options}
        wanted["plan"] = jsonl_sha256(plan)
        wanted["made_by"] = made_by
        if self.portion is not None:
            wanted |= {"part": [self.portion.number, self.portion.count]} | listing
        data = json.dumps(wanted, indent=1, sort_keys=True).encode() + b"\n"
        path = self.path / BUILD_NAME
        here = path.read_bytes() if path.exists() else None
        name = self.layout.name("", BUILD_NAME)
        found = here if self.remote is None else self.remote.read(name)
        if found is not None:
            made_by = self._compare(found, wanted, plan)
        if self.remote is not None and here != data:  # what was staged is of another build
            for state in self.state.glob("*.json"):
                state.unlink()
            here = None
        if here is None:
            write_atomically(path, data)
        if self.remote is not None and found is None:
            self.remote.write(name, data)
        return made_by

    def _compare(self, data: bytes, wanted: dict[str, Any], plan: Path) -> str:
        """Refuse a target whose build.json is another's; returns what that was made by."""
        options = wanted["options"]
        try:
            found = plain_json(data)
            old = dict(found["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(
                f"{self.name}/{BUILD_NAME} is damaged ({error!r}); choose a new folder."
            ) from error
        for name in sorted(options.keys() | old.keys()):
            if options.get(name) != old.get(name):
                raise BuildError(
                    f"Target {self.name} already holds another build: its {name} is "
                    f"{old.get(name)!r}, this build's is {options.get(name)!r}. "
                    "Choose another folder with --out, or remove that one."
                )
        if found.get("plan") != wanted["plan"]:
            change, way_on = self._change(str(found.get("plan")), plan)
            change = f": {change}. {way_on}; or" if change else " (or they have changed). To"
            raise BuildError(
                f"Target {self.name} already holds a build of other sources{change} build anew: "
                "choose another folder with --out, or remove that one."
            )
        return str(found.get("made_by", wanted["made_by"]))

    def _change(self, plan_sha256: str, plan: Path) -> tuple[str, str]:
        """See `first_change`; "" where the plan of before is lost or damaged."""
        for name in (NEW_PLAN_NAME, PLAN_NAME):
            before = self.state / name
            with contextlib.suppress(OSError, EOFError, zlib.error):
                if jsonl_sha256(before) == plan_sha256:
                    return first_change(before, plan)
        return "", ""

    def is_finished(self, parts: Iterable[str]) -> bool:
        """Whether report and manifests are there."""
        files = [("", REPORT_NAME)] + [(part, MANIFEST_NAME) for part in parts]
        if self.remote is None:
            return all((self.layout.folder(part) / name).exists() for part, name in files)
        return all(name in self.remote.sizes(self.layout.name(part)) for part, name in files)

    def publish(self, part: str, name: str) -> None:
        """Send a finished file of a part's folder to where it belongs, if that is not here."""
        if self.remote is not None:
            self.remote.upload(self.layout.folder(part) / name, self.layout.name(part, name))

    def report(self) -> Iterator[dict[str, Any]]:
        """The lines of a finished build's report."""
        if self.remote is None:
            return read_report(self.path / REPORT_NAME)
        data = self.remote.read(self.layout.name("", REPORT_NAME)) or b""
        return report_lines(map(plain_json, data.splitlines()), f"{self.name}/{REPORT_NAME}")

    def withdraw(self) -> None:
        """Let go of the claim."""
        (self.path / BUILD_NAME).unlink()
        if self.remote is not None:
            self.remote.remove(self.layout.name("", BUILD_NAME))

    def sizes(self, part: str) -> dict[str, int]:
        """What is in a part's folder, by name."""
        if self.remote is not None:
            return self.remote.sizes(self.layout.name(part))
        with os.scandir(self.layout.folder(part)) as entries:
            return {entry.name: entry.stat().st_size for entry in entries}

    def keep(self, shard: BuiltShard, time_limit_seconds: float) -> None:
        """Record a finished shard (or that nothing came of it), so that it is not made again.

        Unless some of it was given up after the time limit, and the next run has a longer one.
        """
        entry = shard.entry and asdict(shard.entry)
        lines = [unit.to_json() for unit in shard.units]
        content = {"entry": entry, "lines": lines, "time_limit_seconds": time_limit_seconds}
        write_atomically(self._state_of(shard.job), json_bytes(content))

    def kept(
        self, job: ShardJob, sizes: Mapping[str, int], time_limit_seconds: float
    ) -> BuiltShard | None:
        """What an earlier run made of this job, if it did and its files are among `sizes`.

        What took too long for that run is done again, if this one gives it more time.
        """
        try:
            content = plain_json(self._state_of(job).read_bytes())
            units = tuple(UnitReport.from_json(line) for line in content["lines"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # not made, or not whole
            return None
        gave_up = any(f"worker: {TOOK_TOO_LONG}" in unit.skipped for unit in units)
        if gave_up and content.get("time_limit_seconds", 0) < time_limit_seconds:
            self._state_of(job).unlink()
            return None
        entry = ShardEntry(**content["entry"]) if content["entry"] else None
        if entry is not None:
            found = [sizes.get(entry.name), sizes.get(entry.name + INDEX_SUFFIX)]
            if found != [entry.size, entry.index_size]:
                return None
        return BuiltShard(job, entry, units)

    def unit_reports(self, part: str) -> Iterator[UnitReport]:
        """The reports of a part's units, in order."""
        for path in sorted(self.state.glob(f"{part or 'all'}-*.json")):
            yield from map(UnitReport.from_json, plain_json(path.read_bytes())["lines"])

    def keep_plan(self, plan: Path) -> None:
        """Keep a finished build's plan, for `repair` to make shards again from their sources.

        It names sources by their full paths; who gives the data set away may leave .build out.
        """
        if self.remote is None:
            kept = self.state / PLAN_NAME
            with plan.open("rb") as file, gzip.GzipFile(f"{kept}.tmp", "wb", mtime=0) as packed:
                shutil.copyfileobj(file, packed)
            Path(f"{kept}.tmp").rename(kept)

    def clear_state(self) -> None:
        """Drop what is needed only until the build is finished."""
        for path in self.state.iterdir():
            if path.name not in ("lock", PLAN_NAME):
                path.unlink()
        if self.remote is not None:
            for path in self.path.iterdir():
                if path.is_dir() and path != self.state:
                    shutil.rmtree(path)
                elif path.is_file():
                    path.unlink()

    def _state_of(self, job: ShardJob) -> Path:
        return self.state / f"{job.part or 'all'}-{job.number:06d}.json"


def _staging_folder(url: str) -> Path:
    name = hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]
    return default_cache_folder() / "staging" / name


def _holds_others(target: str, names: list[str]) -> BuildError:
    return BuildError(
        f"Target {target} already holds other files ({', '.join(names)}, …); "
        "choose a new or empty folder with --out."
    )
