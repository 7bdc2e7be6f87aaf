"""Make third-party WebDataset tars a data set: an index each and a manifest, no byte rewritten.

Each tar is read once, by a worker (see index_tar.py). What cannot be indexed is left out of the
index, counted and named in `index-report.jsonl`. The manifest is written last.
"""

import fcntl
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shards.building.target import BUILD_FORMAT, BUILD_NAME
from shards.building.target import REPORT_NAME as BUILD_REPORT_NAME
from shards.building.worker_pool import CRASHED, WorkerFailure, WorkerPool
from shards.errors import BuildError, ShardError, SourceError
from shards.format.index import ShardIndex
from shards.format.json_text import jsonl_bytes, plain_json
from shards.format.manifest import INDEX_SUFFIX, MANIFEST_NAME, Manifest, ShardEntry, read_manifest
from shards.maintenance.index_tar import IndexedTar, TarTask, index_task
from shards.maintenance.verify import PARTS
from shards.plural import plural
from shards.storage.local_files import write_atomically

REPORT_NAME = "index-report.jsonl"
MAX_FATAL = 100  # samples of one tar that may end their worker; then the tar is left out
MADE_BY = "gdt shards index 1"


@dataclass
class IndexSummary:
    """What came of all tars; `skipped` counts samples by cause, `skipped_tars` whole tars."""

    tars: int = 0
    samples: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_tars: Counter[str] = field(default_factory=Counter)


def index_tars(
    given: Sequence[Path],
    *,
    num_workers: int = 1,
    time_limit_seconds: float = 3600.0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> IndexSummary:
    """Write an index beside each tar and a manifest of them all into their folder.

    Args:
        given: tars of one folder, or the folder: then all of its *.tar.
        num_workers: worker processes, each with a tar of its own.
        time_limit_seconds: a tar that takes longer is left out.
        progress: called with tars done and tars in all.

    Raises:
        BuildError: there is nothing to index, or it is a data set already, or a build that has
            not finished; or two samples of different tars have one key.
    """
    tars = _tars(given)
    folder = tars[0].parent
    _refuse_built(folder)
    with _locked(folder), WorkerPool(num_workers, time_limit_seconds) as pool:
        try:
            return _index(folder, tars, pool, progress)
        except OSError as error:
            raise BuildError(
                f"Indexing in {folder} stopped: {error.strerror} ({error.filename or 'writing'}). "
                "Put that right, then run the same command again."
            ) from error


def _index(
    folder: Path, tars: list[Path], pool: WorkerPool, progress: Callable[[int, int], None]
) -> IndexSummary:
    summary, lines = IndexSummary(), []
    entries: list[ShardEntry] = []
    hashes: list[bytes] = []
    (folder / MANIFEST_NAME).unlink(missing_ok=True)  # indexes are about to change
    for number, (path, found) in enumerate(_indexed(tars, pool), start=1):
        summary.tars += 1
        try:
            if isinstance(found, WorkerFailure):
                raise found.error
            if found.num_samples:
                entries.append(_write_index(path, found))
                hashes.append(found.key_hashes)
        except SourceError as error:
            summary.skipped_tars[error.cause] += 1
            lines.append({"tar": path.name, "samples": 0, "skip": str(error)})
        else:
            summary.samples += found.num_samples
            summary.skipped.update(found.skipped)
            line = {"tar": path.name, "samples": found.num_samples, "skipped": found.skipped}
            lines.append(line | {"details": list(found.details)})
        progress(number, len(tars))
    write_atomically(folder / REPORT_NAME, jsonl_bytes(lines))
    if not entries:
        causes = (summary.skipped_tars + summary.skipped).most_common(5)
        raise BuildError(
            f"No sample of {plural(len(tars), 'tar')} in {folder} can be indexed: "
            + "; ".join(f"{n} × {cause}" for cause, n in causes)
            + f". {folder / REPORT_NAME} has a line for each tar."
        )
    _refuse_twins(entries, hashes, folder)
    about = {"made_by": MADE_BY, "samples_left_out": dict(summary.skipped)}
    Manifest(tuple(entries), about).write(folder)
    return summary


def _indexed(
    tars: list[Path], pool: WorkerPool
) -> Iterator[tuple[Path, IndexedTar | WorkerFailure]]:
    """What came of each tar; one that ends its worker is read again without the sample that did."""
    with tempfile.TemporaryDirectory(prefix="gdt-index-") as traces:
        tasks = (TarTask(path, Path(traces) / f"{n}") for n, path in enumerate(tars))
        for task, found in pool.map(index_task, tasks):
            rest = task
            while isinstance(found, WorkerFailure) and found.error.cause == CRASHED:
                fewer = rest.without_last(found.error)
                if fewer is None or len(fewer.fatal) > MAX_FATAL:
                    break
                rest = fewer
                ((_, found),) = pool.map(index_task, [rest])
            yield task.path, found


def _write_index(path: Path, found: IndexedTar) -> ShardEntry:
    index_path = path.with_name(path.name + INDEX_SUFFIX)
    write_atomically(index_path, found.index)
    try:
        ShardIndex(index_path)
    except ShardError as error:  # said now, not in training
        index_path.unlink()
        raise SourceError("index", "its index cannot be read again", str(error)) from error
    return ShardEntry(
        name=path.name,
        size=found.size,
        sha256=found.sha256,
        num_samples=found.num_samples,
        index_size=len(found.index),
        index_sha256=hashlib.sha256(found.index).hexdigest(),
    )


def _tars(given: Sequence[Path]) -> list[Path]:
    found: set[Path] = set()
    for path in given:
        if path.is_dir():
            found.update(p.absolute() for p in path.glob("*.tar") if p.is_file())
        elif path.is_file():
            found.add(path.absolute())
        else:
            raise BuildError(f"Tar {path} does not exist; check the path.")
    folders = sorted({str(path.parent) for path in found})
    if not folders:
        raise BuildError("There is no tar to index; name tars, or a folder with *.tar in it.")
    if len(folders) > 1:
        raise BuildError(
            f"The tars lie in {len(folders)} folders ({folders[0]}, {folders[1]}, …), and a data "
            "set is one folder; index each of them by itself."
        )
    return sorted(found)


def _refuse_built(folder: Path) -> None:
    if not (folder / MANIFEST_NAME).exists():
        _refuse_unfinished(folder)
        return
    made_by = read_manifest(folder).build.get("made_by")
    if made_by != MADE_BY:
        raise BuildError(
            f"{folder} is a data set already (made by {made_by}); it has its indexes. To index its "
            "tars anew, copy or link them into a folder of their own."
        )


def _refuse_unfinished(folder: Path) -> None:
    """Refuse the shards of a build that has no manifest: with one they would pass for all of it."""
    above = folder.parent
    homes = [folder]  # of a build, of its train and val, and of those of an array's job
    homes += [above] if folder.name in PARTS else []
    homes += [above.parent / folder.name] if above.name in PARTS else []
    for home in homes:
        if not _is_build(home):
            continue
        if (home / BUILD_REPORT_NAME).exists():
            cause = f"has lost its manifest: run `gdt shards repair {home}`"
        else:
            cause = "has not finished: run its `gdt shards build` again, and it goes on"
        raise BuildError(
            f"The tars in {folder} are of a build that {cause}. To use them as they are, copy or "
            "link them into a folder of their own."
        )


def _is_build(home: Path) -> bool:
    """Whether a folder is that of a build: other programs write files of this name too."""
    try:
        about = plain_json((home / BUILD_NAME).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("format") == BUILD_FORMAT


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise BuildError(f"{folder} is being indexed by another process; wait for it.") from error
    try:
        yield
    finally:
        os.close(lock)


def _refuse_twins(entries: list[ShardEntry], hashes: list[bytes], folder: Path) -> None:
    keys = np.frombuffer(b"".join(hashes), np.uint64)
    order = np.argsort(keys, kind="stable")
    twins = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(twins):
        return
    stops = np.cumsum([entry.num_samples for entry in entries])
    named = []
    for n in order[twins[0] : twins[0] + 2]:
        shard = int(np.searchsorted(stops, n, side="right"))
        index = ShardIndex(folder / (entries[shard].name + INDEX_SUFFIX))
        named.append((entries[shard].name, index.key(int(n) - int(stops[shard]) + len(index))))
    (first, key), (second, _) = named
    twice = f"{plural(len(twins), 'key')} in all {'is' if len(twins) == 1 else 'are'} used twice"
    raise BuildError(
        f"{first} and {second} both have a sample {key!r}, and {twice}; keys are unique in a data "
        "set. Move tars with equal keys to folders of their own."
    )
