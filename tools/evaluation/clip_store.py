"""Vectors of a data set's clips on disk: one a segment, memory-mapped, resumable after a kill.

    STORE/about.json      what the vectors are of and what made them; other facts, other store
    STORE/{modality}.npy  float32 [N, S, D]; rows of clips that are not there yet are zeros
    STORE/clips.jsonl     a line for each clip that is through, written after its vectors: number,
                          key and where its segments start, or why it was skipped

What has no line in clips.jsonl is embedded (again) the next time. A store may be deleted at any
time. Legend: N clips of the data set, S segments of a clip, D numbers.
"""

import fcntl
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.skips import SkipError
from shards.format.json_text import plain_json
from tools.evaluation.errors import EvaluationError

Vectors = npt.NDArray[np.float32]
_VERSION = 1


@dataclass(frozen=True)
class Clip:
    """A clip that was embedded: its number in the data set, its key, and its segments' starts."""

    number: int
    key: str
    starts: tuple[float, ...]


class ClipStore:
    """The vectors of one data set by one encoder and layer.

    Args:
        root: folder of all stores of a run; this one's name follows from `facts`.
        num_clips: N.
        facts: everything that the vectors depend on, as plain values.

    Raises:
        EvaluationError: what lies there under this name was made with other facts.
    """

    def __init__(self, root: Path, num_clips: int, facts: Mapping[str, Any]) -> None:
        self.facts = {"version": _VERSION, "clips": num_clips, **facts}
        text = json.dumps(self.facts, indent=2, sort_keys=True)
        name = "{encoder}-step{step}-{layer}-".format(**facts)
        self.path = root / (name + hashlib.sha256(text.encode()).hexdigest()[:12])
        self.num_clips = num_clips
        self.clips: dict[int, Clip] = {}
        self.skips: dict[int, dict[str, str]] = {}
        self._arrays: dict[str, Vectors] = {}
        self.path.mkdir(parents=True, exist_ok=True)
        about = self.path / "about.json"
        if about.exists():
            if _facts_in(about) != self.facts:
                raise EvaluationError(
                    f"{self.path} holds embeddings that were made otherwise ({about.name} differs "
                    "from what this run and data set give); delete the folder, it can be made again"
                )
            self._read_lines()
        else:
            _write_whole(about, text)

    def __repr__(self) -> str:
        return f"ClipStore({self.path.name}: {len(self.clips)} of {self.num_clips} clips)"

    def pending(self) -> set[int]:
        """Numbers of the clips that are neither embedded nor damaged.

        What could not be read is tried again: bytes that do not come may come next time.
        """
        damaged = {number for number, skip in self.skips.items() if skip["stage"] != "read"}
        return set(range(self.num_clips)) - self.clips.keys() - damaged

    def skip_causes(self) -> dict[str, int]:
        """Stage → number of clips skipped there."""
        return dict(sorted(Counter(skip["stage"] for skip in self.skips.values()).items()))

    def vectors(self, modality: str) -> Vectors:
        """The vectors of a modality, mapped: float32 [N, S, D]; see `clips` for what is there.

        Raises:
            EvaluationError: the file is not one of this store's.
        """
        if modality not in self._arrays:
            path = self._file(modality)
            try:
                array = np.lib.format.open_memmap(path, mode="r+")
            except (OSError, ValueError) as error:
                raise EvaluationError(
                    f"{path}: these embeddings cannot be read ({error}); delete {self.path}, it "
                    "can be made again"
                ) from error
            if array.ndim != 3 or len(array) != self.num_clips or array.dtype != np.float32:
                raise EvaluationError(
                    f"{path}: these embeddings are {array.dtype} {list(array.shape)}, and the data "
                    f"set has {self.num_clips} clips; delete {self.path}, it can be made again"
                )
            self._arrays[modality] = array
        return self._arrays[modality]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store for writing.

        Raises:
            EvaluationError: another process does.
        """
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EvaluationError(
                    f"another process is embedding the same clips into {self.path}: wait for it, "
                    "and this command will find them there"
                ) from None
            self._read_lines(mend=True)  # with what another process may have added
            yield

    def add(self, clips: list[Clip], rows: Mapping[str, Vectors]) -> None:
        """Write down embedded clips: for each modality float32 [len(clips), S, D]."""
        numbers = [clip.number for clip in clips]
        for modality, values in rows.items():
            array = self._array(modality, values.shape[1:])
            array[numbers] = values
            array.flush()  # type: ignore[attr-defined]
        self._append(
            {"number": clip.number, "key": clip.key, "starts": list(clip.starts)} for clip in clips
        )
        self.clips.update({clip.number: clip for clip in clips})
        for number in numbers:
            self.skips.pop(number, None)

    def skip(self, number: int, error: SkipError) -> None:
        """Write down a clip that cannot be had."""
        skip = {
            "shard": error.shard,
            "key": error.key,
            "stage": error.stage,
            "cause": error.cause,
        }
        self._append([{"number": number, "skipped": skip}])
        self.skips[number] = skip

    def _array(self, modality: str, shape: tuple[int, ...]) -> Vectors:
        path = self._file(modality)
        if not path.exists():
            part = path.with_suffix(".part")
            whole = (self.num_clips, *shape)
            np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=whole).flush()
            part.replace(path)
        return self.vectors(modality)

    def _file(self, modality: str) -> Path:
        return self.path / f"{modality}.npy"

    def _append(self, entries: Any) -> None:
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        with (self.path / "clips.jsonl").open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def _read_lines(self, *, mend: bool = False) -> None:
        path = self.path / "clips.jsonl"
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if mend and len(whole) < len(content):  # killed within a line
            os.truncate(path, len(whole))
        for line in whole.splitlines():
            entry = json.loads(line)
            number = entry["number"]
            if "skipped" in entry:
                self.skips[number] = entry["skipped"]
            else:
                self.clips[number] = Clip(number, entry["key"], tuple(entry["starts"]))
                self.skips.pop(number, None)


def _facts_in(about: Path) -> Any:
    """What is written there; nothing where it cannot be read."""
    with suppress(OSError, ValueError):
        return plain_json(about.read_bytes())
    return None


def _write_whole(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
