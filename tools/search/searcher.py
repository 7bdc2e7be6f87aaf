"""Answers queries: a media file, the key of a clip, or words, by the run that the index is of.

A clip of the index is asked by the vector that is there: that needs no encoder, and no torch.
"""

import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tools.evaluation.errors import EvaluationError
from tools.search.index import Hit, SearchIndex

if TYPE_CHECKING:
    from shards.reading.media_file import MediaFile
    from tools.search.query_encoder import QueryEncoder

#: One word that ends as a file's name does, or a path: hardly what anyone looks for in words.
_LIKE_A_FILE: Final = re.compile(r"\S*[/\\]\S*|\S+\.\w{2,5}")


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
    """

    def __init__(self, index: SearchIndex, run: Path | None = None, device: str = "auto") -> None:
        self.index = index
        self._run_path = run or Path(index.facts["run"]["path"])
        self._device = device
        self._encoder: QueryEncoder | None = None
        self._lock = threading.Lock()

    def encoder(self) -> "QueryEncoder":
        """The encoders of the run, read when a query first needs them.

        Raises:
            RunError: there is no such run, or no such device.
            EvaluationError: the index was made with other weights.
        """
        if self._encoder is None:
            from tools.search.query_encoder import QueryEncoder

            self._encoder = QueryEncoder(self.index, self._run_path, self._device)
        return self._encoder

    def by_key(self, key: str, by: str = "", find: str = "", k: int = 10) -> Answer:
        """What is nearest to a clip of the index, itself left out.

        Raises:
            EvaluationError: no clip has the key, or there is no such modality.
        """
        row = self.index.row_of(key)
        if row is None:
            raise EvaluationError(
                f"{key!r} is no file, and no key of {self.index.path}; a key there is "
                f"{str(self.index.columns['key'][0])!r}"
            )
        by = by or next(iter(self.index.vectors))
        self.index.check_modality(by)
        find = self._find(find)
        vector = np.asarray(self.index.vectors[by][row])
        hits = self.index.nearest(vector, find, k, leave_out=row)
        return Answer(key, by, find, self.index.how(find), hits)

    def by_media(self, media: "MediaFile", by: str = "", find: str = "", k: int = 10) -> Answer:
        """What is nearest to a media file.

        Raises:
            EvaluationError: the run has no encoder for it, or it cannot be decoded.
        """
        find = self._find(find)
        with self._lock:
            by, vector = self.encoder().media(media, by)
        hits = self.index.nearest(vector, find, k)
        return Answer(str(media.path), by, find, self.index.how(find), hits)

    def by_words(self, words: str, find: str = "", k: int = 10) -> Answer:
        """What is nearest to words, taken as a caption.

        Raises:
            EvaluationError: the run has no encoder for text.
        """
        find = self._find(find)
        with self._lock:
            vector = self.encoder().words(words)
        hits = self.index.nearest(vector, find, k)
        return Answer(words, "text", find, self.index.how(find), hits)

    def answer(self, query: str, by: str = "", find: str = "", k: int = 10) -> Answer:
        """A clip of the index by its key, a file of that name, or words.

        Raises:
            EvaluationError: it is none of those, or what the other ones refuse.
        """
        if self.index.row_of(query) is not None and by != "text":
            return self.by_key(query, by, find, k)
        path = Path(query)
        if by != "text" and path.is_file():
            from tools.search.encode import open_media

            return self.by_media(open_media(path), by, find, k)
        if by == "text" or (by == "" and self._has_text() and not _LIKE_A_FILE.fullmatch(query)):
            return self.by_words(query, find, k)
        key = str(self.index.columns["key"][0])
        refusal = f"{query!r} is no file, and no key of {self.index.path}; a key there is {key!r}. "
        if self._has_text():
            raise EvaluationError(f"{refusal}Words that look like a file are asked with --by text")
        raise EvaluationError(
            f"{refusal}Words need a run with a text encoder: {self._run_path} has "
            f"{', '.join(self.index.facts['run']['modalities'])}"
        )

    def _has_text(self) -> bool:
        return "text" in self.index.facts["run"]["modalities"]

    def _find(self, find: str) -> str:
        """What is looked through: pictures where the index has them, unless told."""
        names = list(self.index.vectors)
        chosen = find or next((n for n in ("video", "image") if n in names), names[0])
        self.index.check_modality(chosen)
        return chosen
