"""The search index: a folder with one vector a clip and modality, and what the clips are.

    DIR/index.json       format, run (path, step, weights, modalities), how clips were embedded,
                         where they are
    DIR/{modality}.npy   float32 [N, D], rows of length 1, mapped when searched
    DIR/clips.npz        columns of N: key, name (source and time), label ("" for none),
                         start_seconds, number (in the data set, or in the list of files)
    DIR/{modality}.faiss with --faiss, FAISS's own file

Every file is plain arrays and JSON: `np.load` reads them elsewhere. Legend: N clips, D numbers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from shards.format.json_text import plain_json
from shards.storage.text_files import read_small
from tools.evaluation import approximate
from tools.evaluation.approximate import Approximate
from tools.evaluation.errors import EvaluationError
from tools.runs.plain_zip import refuse_packed

FORMAT = "gdt-search-index"
VERSION = 2
COLUMNS = ("key", "name", "label", "start_seconds", "number")

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hit:
    """A clip that was found.

    Attributes:
        row: in the index.
        rank: from 1.
        score: cosine similarity.
        key, name, label: of the clip; name is its source and time.
    """

    row: int
    rank: int
    score: float
    key: str
    name: str
    label: str


class SearchIndex:
    """An opened index.

    Args:
        path: its folder.
        exact: do not use FAISS's index, if there is one.

    Raises:
        EvaluationError: it is no index, or its files do not belong together.
    """

    def __init__(self, path: Path, *, exact: bool = False) -> None:
        self.path = path
        about = path / "index.json"
        try:
            self.facts: dict[str, Any] = plain_json(read_small(about))
            found = (self.facts["format"], self.facts["version"])
            if found != (FORMAT, VERSION):
                raise ValueError(f"format and version are {found}, expected {(FORMAT, VERSION)}")
            refuse_packed(path / "clips.npz")
            with np.load(path / "clips.npz", allow_pickle=False) as columns:
                self.columns = {name: columns[name] for name in COLUMNS}
            self.vectors: dict[str, Vectors] = {
                name: np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in self.facts["modalities"]
            }
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise EvaluationError(
                f"{path} is no search index: {error}. Make one with `gdt embed SHARDS --run R "
                f"--out {path}`"
            ) from error
        self._check()
        self._rows = {key: row for row, key in enumerate(self.columns["key"].tolist())}
        self._approximate: dict[str, Approximate] = {}
        for name, facts in self.facts["faiss"].items():
            if not exact:
                file = path / f"{name}.faiss"
                shape = self.vectors[name].shape
                self._approximate[name] = approximate.read(
                    file, facts["kind"], facts["recall_at_10"], shape
                )

    def __len__(self) -> int:
        return len(self.columns["key"])

    def __repr__(self) -> str:
        return f"SearchIndex({self.path}: {len(self)} clips, {', '.join(self.vectors)})"

    def row_of(self, key: str) -> int | None:
        """The row of a clip, by its key."""
        return self._rows.get(key)

    def how(self, modality: str) -> str:
        """How this modality is searched, and what is lost by it, in words."""
        found = self._approximate.get(modality)
        if found is None:
            return "exact"
        return f"FAISS {found.kind}, {found.lost()}"

    def nearest(
        self, query: Vectors, modality: str, k: int, leave_out: int | None = None
    ) -> list[Hit]:
        """The k clips whose vectors of a modality are nearest to a query [D].

        Args:
            query: of length 1.
            modality: which vectors are looked through.
            k: how many.
            leave_out: a row that is no answer: the query's own.

        Raises:
            EvaluationError: the index has no such modality, or vectors of another size.
        """
        self.check_modality(modality)
        vectors = self.vectors[modality]
        if query.shape != vectors.shape[1:]:
            raise EvaluationError(
                f"the query has {query.shape[-1]} numbers, and {self.path} has vectors of "
                f"{vectors.shape[1]}: was it made by another run?"
            )
        wanted = min(k + (leave_out is not None), len(self))
        if modality in self._approximate:
            rows, scores = (a[0] for a in self._approximate[modality].search(query[None], wanted))
        else:
            every = np.asarray(vectors @ query)
            rows = np.argpartition(-every, wanted - 1)[:wanted]
            rows = rows[np.lexsort((rows, -every[rows]))]
            scores = every[rows]
        pairs = [
            (row, score)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
            if row not in (leave_out, -1)
        ]
        return [self.hit(row, n + 1, score) for n, (row, score) in enumerate(pairs[:k])]

    def hit(self, row: int, rank: int, score: float) -> Hit:
        """A row as a hit."""
        key, name, label = (str(self.columns[c][row]) for c in ("key", "name", "label"))
        return Hit(row, rank, score, key, name, label)

    def check_modality(self, modality: str) -> None:
        """Refuse a modality that the index has no vectors of.

        Raises:
            EvaluationError: it has not.
        """
        if modality not in self.vectors:
            raise EvaluationError(
                f"{self.path} has no {modality} vectors; it has {', '.join(self.vectors)}"
            )

    def _check(self) -> None:
        for name, rows in self.vectors.items():
            if rows.ndim != 2 or len(rows) != len(self) or rows.dtype != np.float32:
                raise EvaluationError(
                    f"{self.path / name}.npy is {rows.dtype} {list(rows.shape)}, and clips.npz has "
                    f"{len(self)} clips: they are not of one index; run `gdt embed` again"
                )
            for first in range(0, len(rows), 65_536):
                if not np.isfinite(rows[first : first + 65_536]).all():
                    raise EvaluationError(
                        f"{self.path / name}.npy holds values that are not finite; did the "
                        "training diverge? Run `gdt embed` with an earlier checkpoint"
                    )
        keys, counts = np.unique(self.columns["key"], return_counts=True)
        if len(keys) != len(self):
            twice = keys[counts > 1][0]
            raise EvaluationError(f"{self.path}: the key {str(twice)!r} names two clips of it")


def write_index(
    out: Path,
    vectors: Mapping[str, Vectors],
    columns: Mapping[str, Any],
    facts: Mapping[str, Any],
    faiss: str,
) -> SearchIndex:
    """Write an index and open it.

    Args:
        out: its folder: a new one, or one that holds an index, which is replaced.
        vectors: modality → float32 [N, D], rows of length 1.
        columns: see `COLUMNS`.
        facts: what index.json says besides.
        faiss: "none", "auto", "flat", "ivf" or "hnsw".

    Raises:
        EvaluationError: the folder holds something else, or faiss cannot be had.
    """
    kind = approximate.chosen_kind(faiss, len(columns["key"]))
    if out.exists() and any(out.iterdir()) and not (out / "index.json").exists():
        raise EvaluationError(f"{out} is not empty and holds no search index; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    (out / "index.json").unlink(missing_ok=True)  # without it there is no index
    for stale in out.glob("*.faiss"):
        stale.unlink()
    built = {}
    for name, rows in vectors.items():
        np.save(out / f"{name}.npy", rows)
        if kind != "none":
            queries = next((v for other, v in vectors.items() if other != name), rows)
            index = approximate.build(rows, kind, queries)
            index.write(out / f"{name}.faiss")
            built[name] = {"kind": kind, "recall_at_10": index.recall}
    arrays: dict[str, Any] = {name: np.asarray(columns[name]) for name in COLUMNS}
    np.savez(out / "clips.npz", **arrays)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "clips": len(columns["key"]),
        "modalities": list(vectors),
        "faiss": built,
        **facts,
    }
    part = out / "index.json.part"
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(out / "index.json")
    return SearchIndex(out)
