"""Answers queries: a media file, the key of a clip, or words, by the run that the index is of."""

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.reading.media_file import MediaFile
from tools.evaluation.embeddings import EmbedOptions
from tools.evaluation.encoders import Encoder, trained_encoder
from tools.evaluation.errors import EvaluationError
from tools.runs.run import Run, choose_device, load_run
from tools.search.encode import embed_media, open_media
from tools.search.index import Hit, SearchIndex


@dataclass(frozen=True)
class Answer:
    """What was found for a query.

    Attributes:
        query: what was asked.
        by: the modality that the query was taken as.
        find: the modality that was looked through.
        how: exact, or what of the exact answer is lost.
        hits: best first.
    """

    query: str
    by: str
    find: str
    how: str
    hits: Sequence[Hit]

    def to_tables(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Searcher:
    """An index and the encoders of its run. May be asked by several threads; one encodes at a time.

    Args:
        index: what is searched.
        run: folder of its run; the one the index names by default.
        device: "cpu", "cuda" or "auto".

    Raises:
        RunError: there is no such run.
        EvaluationError: the index was made with other weights.
    """

    def __init__(self, index: SearchIndex, run: Path | None = None, device: str = "auto") -> None:
        self.index = index
        self._run_path = run or Path(index.facts["run"]["path"])
        self._device = choose_device(device)
        self._loaded: tuple[Run, Encoder] | None = None
        self._lock = threading.Lock()

    def load(self) -> tuple[Run, Encoder]:
        """The run and its encoder, read when a query first needs them."""
        if self._loaded is None:
            run = load_run(self._run_path)
            encoder = trained_encoder(run)
            made = self.index.facts["run"]
            if encoder.weights != made["weights"]:
                raise EvaluationError(
                    f"{self.index.path} was made with other weights (step {made['step']}) than "
                    f"{self._run_path} has now (step {run.step}): their vectors cannot be "
                    "compared. Run `gdt embed` again, or name that run with --run"
                )
            self._loaded = run, encoder
        return self._loaded

    def by_key(self, key: str, by: str = "", find: str = "", k: int = 10) -> Answer:
        """What is nearest to a clip of the index, itself left out.

        Raises:
            EvaluationError: no clip has the key, or there is no such modality.
        """
        row = self.index.row_of(key)
        if row is None:
            raise EvaluationError(
                f"{key!r} is no file, and no key of {self.index.path}; a key there is "
                f"{str(self.index.columns['key'][0])!r}. Words need a run with a text encoder"
            )
        by = by or next(iter(self.index.vectors))
        self.index.check_modality(by)
        find = self._find(find)
        vector = np.asarray(self.index.vectors[by][row])
        hits = self.index.nearest(vector, find, k, leave_out=row)
        return Answer(key, by, find, self.index.how(find), hits)

    def by_media(self, media: MediaFile, by: str = "", find: str = "", k: int = 10) -> Answer:
        """What is nearest to a media file.

        Raises:
            EvaluationError: the run has no encoder for it, or it cannot be decoded.
        """
        with self._lock:
            run, encoder = self.load()
            by = by or self._modality_of(media, run)
            if by not in run.plan.modalities:
                raise EvaluationError(
                    f"{run.path} has no encoder for {by!r}: its plan has the modalities "
                    f"{', '.join(run.plan.modalities)}"
                )
            find = self._find(find)
            options = EmbedOptions(tuple(self.index.facts["places"]), device=self._device)
            vector = embed_media(run, encoder, media, [by], options)[by]
        hits = self.index.nearest(vector, find, k)
        return Answer(str(media.path), by, find, self.index.how(find), hits)

    def answer(self, query: str, by: str = "", find: str = "", k: int = 10) -> Answer:
        """A file where there is one of that name, else a clip of the index by its key.

        Raises:
            EvaluationError: it is neither, or what the other two refuse.
        """
        path = Path(query)
        if self.index.row_of(query) is None and path.is_file():
            return self.by_media(open_media(path), by, find, k)
        return self.by_key(query, by, find, k)

    def _find(self, find: str) -> str:
        """What is looked through: pictures where the index has them, unless told."""
        names = list(self.index.vectors)
        chosen = find or next((n for n in ("video", "image") if n in names), names[0])
        self.index.check_modality(chosen)
        return chosen

    def _modality_of(self, media: MediaFile, run: Run) -> str:
        """What a file is taken as: a still as image where there is an encoder for it."""
        sample = media.sample(0)
        known = run.plan.modalities
        wanted = ["audio"] if sample.video is None else ["video", "image", "audio"]
        if sample.video is not None and sample.video.is_still:
            wanted = ["image", "video"]
        if sample.audio is None and "audio" in wanted:
            wanted.remove("audio")
        for modality in wanted:
            if modality in known:
                return modality
        raise EvaluationError(
            f"{media.path} could be asked as {' or '.join(wanted) or 'nothing'}, and "
            f"{run.path} has encoders for {', '.join(known)} alone"
        )
