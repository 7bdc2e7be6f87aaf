"""Build a search index: embed a data set or media files by a run, and write what was found."""

from collections.abc import Sequence
from pathlib import Path

from shards import ShardError, open_samples
from shards.storage.urls import is_url
from tools.display.progress_bar import progress_bar
from tools.evaluation.approximate import chosen_kind
from tools.evaluation.embeddings import EmbedOptions
from tools.evaluation.encoders import check_modalities, trained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.runner import evenly
from tools.runs.run import choose_device, load_run
from tools.search.encode import embed_dataset, embed_files
from tools.search.index import SearchIndex, write_index


def build_index(
    sources: Sequence[str],
    run_path: Path,
    out: Path,
    *,
    modalities: tuple[str, ...] = (),
    segments: int = 5,
    faiss: str = "auto",
    batch_size: int = 16,
    threads: int = 2,
    device: str = "auto",
) -> tuple[SearchIndex, dict[str, int]]:
    """Embed one data set, or several files; returns the index, and cause → how many were skipped.

    Raises:
        EvaluationError: the run, what is to be embedded and the options do not go together.
        RunError: no run, or one without a checkpoint.
        ShardError: no data set.
    """
    chosen_kind(faiss, 0)  # refused before anything is decoded
    run = load_run(run_path)
    names = check_modalities(run, modalities)
    encoder = trained_encoder(run)
    options = EmbedOptions(
        evenly(segments), batch_size=batch_size, threads=threads, device=choose_device(device)
    )
    files = _files(sources)
    with progress_bar("embedding clips") as progress:
        if files is None:
            dataset = open_samples(sources[0], run.config.data.remote)
            found = embed_dataset(run, encoder, dataset, names, options, progress)
        else:
            found = embed_files(run, encoder, files, names, options, progress)
    facts = {
        "run": {
            "path": str(run_path.resolve()),
            "step": run.step,
            "weights": encoder.weights,
            "modalities": list(run.plan.modalities),
        },
        "places": list(options.places),
        "data": dict(found.data),
        "skipped": dict(found.skipped),
    }
    index = write_index(out, found.vectors, found.columns, facts, faiss)
    return index, dict(found.skipped)


def _files(sources: Sequence[str]) -> list[Path] | None:
    """The media files that are named; None where it is a data set.

    Raises:
        EvaluationError: something else among several.
    """
    if len(sources) == 1 and (is_url(sources[0]) or not Path(sources[0]).is_file()):
        if not is_url(sources[0]) and not Path(sources[0]).is_dir():
            raise ShardError(f"{sources[0]}: there is no such data set and no such file.")
        return None
    wrong = [source for source in sources if not Path(source).is_file()]
    if wrong:
        raise EvaluationError(
            f"{wrong[0]} is no file: give one data set, or media files; a folder of films becomes "
            "a data set with `gdt shards build`"
        )
    twice = {source for source in sources if list(sources).count(source) > 1}
    if twice:
        raise EvaluationError(f"{sorted(twice)[0]} is named twice; a hit must be one clip")
    return [Path(source) for source in sources]
