"""What a clip of an index looks and sounds like: small pictures and sounds, decoded on demand."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.decoding.segment_reader import SegmentReader
from pipelines.skips import SkipError
from shards import Samples, ShardError, open_samples
from tools.display.retrieval_cards import Preview, preview_of
from tools.evaluation.errors import EvaluationError
from tools.runs.run import Run
from tools.search.encode import open_media
from tools.search.index import SearchIndex


class Previews:
    """Previews of an index's clips, from where it says that they lie.

    Args:
        index: whose clips.
        run: whose segments are shown.
    """

    def __init__(self, index: SearchIndex, run: Run) -> None:
        self._index, self._run = index, run
        self._readers: dict[Any, SegmentReader] = {}
        self.of = lru_cache(maxsize=256)(self._of)

    def _of(self, row: int) -> Preview:
        """The preview of a row.

        Raises:
            EvaluationError: the clip is not there any more, or is another.
        """
        number = int(self._index.columns["number"][row])
        data = self._index.facts["data"]
        try:
            if data["kind"] == "files":
                dataset: Samples = open_media(Path(data["paths"][number]))
                return preview_of(
                    self._reader(dataset, dataset.sample(0)), 0, self._run.config.log_mel
                )
            return preview_of(self._data_set(data), number, self._run.config.log_mel)
        except (SkipError, ShardError, ValueError) as error:
            raise EvaluationError(f"{self._index.columns['name'][row]}: {error}") from error

    def _data_set(self, data: dict[str, Any]) -> SegmentReader:
        if None not in self._readers:
            dataset = open_samples(data["path"], self._run.config.data.remote)
            if dataset.fingerprint != data["fingerprint"]:
                raise EvaluationError(
                    f"{data['path']} is not the data set any more that {self._index.path} is of; "
                    "run `gdt embed` again"
                )
            self._readers[None] = self._reader(dataset, dataset.sample(0))
        return self._readers[None]

    def _reader(self, dataset: Samples, sample: Any) -> SegmentReader:
        names = self._run.plan.modalities
        return SegmentReader(
            dataset,
            self._run.config.segment,
            video=sample.video is not None,
            audio=sample.audio is not None and "audio" in names,
        )
