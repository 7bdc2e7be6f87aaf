"""From shards or media files to vectors: what an index keeps, and what a query is turned into."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipelines.loading.evaluation import evaluation_batches
from pipelines.skips import SkipCounts, SkipError, SkipLog
from shards import Samples, SourceError
from shards.reading.media_file import MediaFile
from tools.evaluation.embeddings import EmbedOptions, device_transform, embed_clips
from tools.evaluation.encoders import Encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.labels import clip_name
from tools.evaluation.split import Split, mean_of_segments, unit_rows
from tools.runs.config import as_config_errors
from tools.runs.run import Run

Vectors = npt.NDArray[np.float32]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Embedded:
    """What an index is written from.

    Attributes:
        vectors: modality → float32 [N, D].
        columns: see `tools.search.index.COLUMNS`.
        data: where the clips lie.
        skipped: cause → how many were left out.
    """

    vectors: Mapping[str, Vectors]
    columns: Mapping[str, Any]
    data: Mapping[str, Any]
    skipped: Mapping[str, int]


def embed_dataset(
    run: Run,
    encoder: Encoder,
    dataset: Samples,
    modalities: Sequence[str],
    options: EmbedOptions,
    report: Report,
) -> Embedded:
    """Embed a data set; what RUN/embeddings has is not decoded again."""
    stores = embed_clips(run, dataset, modalities, [encoder], "embeddings", options, report=report)
    split = Split(dataset, stores[encoder.name])
    numbers = split.numbers.tolist()
    metadata = [dataset.metadata(number) for number in numbers]
    columns = {
        "key": np.array(split.keys),
        "name": [clip_name(key, m) for key, m in zip(split.keys, metadata, strict=True)],
        "label": [str(m.get("label") or "") for m in metadata],
        "start_seconds": [float(m.get("start_seconds") or 0) for m in metadata],
        "number": split.numbers,
    }
    vectors = {name: split.means(name) for name in modalities}
    data = {"kind": "shards", "path": str(dataset.path), "fingerprint": dataset.fingerprint}
    return Embedded(vectors, columns, data, split.store.skip_causes())


def embed_files(
    run: Run,
    encoder: Encoder,
    files: Sequence[Path],
    modalities: Sequence[str],
    options: EmbedOptions,
    report: Report,
) -> Embedded:
    """Embed media files as they lie, each as one clip under its path; what cannot be is left out.

    Raises:
        EvaluationError: not one of them can be.
    """
    modalities = [name for name in modalities if name != "text"]  # a file has no caption
    kept: list[Path] = []
    rows: dict[str, list[Vectors]] = {name: [] for name in modalities}
    skipped: dict[str, int] = {}
    first = ""
    for done, file in enumerate(files):
        report(done, len(files))
        try:
            found = embed_media(run, encoder, open_media(file), modalities, options)
        except EvaluationError as error:
            cause = error.__cause__
            stage = cause.stage if isinstance(cause, SourceError | SkipError) else "cover"
            skipped[stage] = skipped.get(stage, 0) + 1
            first = first or str(error)
            continue
        kept.append(file)
        for name, vector in found.items():
            rows[name].append(vector)
    if not kept:
        raise EvaluationError(f"not one of {len(files)} files can be embedded. The first: {first}")
    columns = {
        "key": np.array([str(path) for path in kept]),
        "name": [path.name for path in kept],
        "label": [""] * len(kept),
        "start_seconds": [0.0] * len(kept),
        "number": np.arange(len(kept)),
    }
    data = {"kind": "files", "paths": [str(path.resolve()) for path in kept]}
    vectors = {name: np.stack(found) for name, found in rows.items()}
    return Embedded(vectors, columns, data, dict(sorted(skipped.items())))


def open_media(path: Path, data: bytes | None = None) -> MediaFile:
    """A media file by its path, or by its name and its bytes.

    Raises:
        EvaluationError: it cannot be read, or is no media.
    """
    try:
        return MediaFile.open(path) if data is None else MediaFile(path.name, data)
    except SourceError as error:
        raise EvaluationError(f"{path}: {error}") from error


def embed_media(
    run: Run, encoder: Encoder, media: MediaFile, modalities: Sequence[str], options: EmbedOptions
) -> dict[str, Vectors]:
    """One vector [D] of length 1 of each modality of a media file: the mean of its segments'.

    Raises:
        EvaluationError: it lacks what is needed, or cannot be decoded.
        ConfigError: this machine has not what the run's config asks for.
    """
    sample = media.sample(0)
    for name in modalities:
        if (sample.audio if name == "audio" else sample.video) is None:
            has = "sound" if sample.audio is not None else "pictures"
            raise EvaluationError(f"{media.path}: it has {has} alone, and is wanted as {name}")

    class Refuse(SkipLog):
        def skip(self, skip_counts: SkipCounts, error: SkipError, *, epoch: int, step: int) -> None:
            raise EvaluationError(f"{media.path}: {error.stage}: {error.cause}") from error

    with as_config_errors():
        batches = evaluation_batches(
            media,
            modalities,
            run.config.segment,
            segments_per_clip=len(options.places),
            batch_size=1,
            threads=1,
            skip_log=Refuse(),
            places=np.array(options.places),
        )
    encoder.method.to(options.device).eval()
    with torch.inference_mode():
        (raw,) = batches
        batch = device_transform(run, modalities)(raw.to(options.device))
        return {
            name: unit_rows(
                mean_of_segments(encoder.rows("embeddings", name, batch.view(name).values)[None])
            )[0]
            for name in modalities
        }
