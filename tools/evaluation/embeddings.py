"""Embeds the clips of a data set: decoded once, by every encoder and layer that is asked for.

    evaluation_batches ─► RawBatch ─► DeviceTransform (no augmentation) ─► encoders ─► clip stores

What the stores hold already is not decoded again: a second evaluation, or one that goes on after a
kill, decodes what is missing. Legend: N clips, S segments of a clip (times its crops), D embedding.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gdt import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.transform import DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.skips import SkipCounts, SkipError, SkipLog
from shards import Samples
from tools.evaluation.clip_store import Clip, ClipStore
from tools.evaluation.encoders import Encoder, Layer
from tools.evaluation.errors import EvaluationError
from tools.runs.config import as_config_errors
from tools.runs.run import Run

STORES = "embeddings"  # folder of a run


@dataclass(frozen=True)
class EmbedOptions:
    """How clips are embedded.

    Attributes:
        places: in [0, 1] of what a clip allows: where each of its segments starts.
        crops: of each segment's frames, see pipelines/device/even_crops.py; each is a row.
        seconds: of each segment, where not the run's.
        batch_size: clips decoded and embedded together.
        threads: that decode.
        device: "cpu", "cuda", …
    """

    places: tuple[float, ...]
    crops: int = 1
    seconds: float | None = None
    batch_size: int = 16
    threads: int = 2
    device: torch.device | str = "cpu"


class _KeepingSkipLog(SkipLog):
    """Keeps the skipped samples' errors besides counting them."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[SkipError] = []

    def skip(self, skip_counts: SkipCounts, error: SkipError, *, epoch: int, step: int) -> None:
        self.errors.append(error)
        super().skip(skip_counts, error, epoch=epoch, step=step)


def embed_clips(
    run: Run,
    dataset: Samples,
    modalities: Sequence[str],
    encoders: Sequence[Encoder],
    layer: Layer,
    options: EmbedOptions,
    *,
    root: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, ClipStore]:
    """Embed every clip of a data set, as far as that was not done before.

    Args:
        run: whose inputs and config the encoders take.
        dataset: the clips.
        modalities: some of the plan's; what a clip has to have.
        encoders: each clip is decoded once for all of them.
        layer: what is kept of them.
        options: segments, batches, device.
        root: folder of the stores; RUN/embeddings by default.
        report: gets (clips done, clips in all).

    Returns:
        Encoder's name → its store, with every clip embedded or skipped.

    Raises:
        ConfigError: the clips or this machine do not have what the run's config asks for.
        TooManySkipsError: see `SkipLog`.
        EvaluationError: not one clip could be embedded, or a store cannot be used.
    """
    stores = {
        encoder.name: ClipStore(
            root or run.path / STORES,
            len(dataset),
            _facts(run, dataset, modalities, encoder, layer, options),
        )
        for encoder in encoders
    }
    missing = {name: store.pending() for name, store in stores.items()}
    wanted = np.array(sorted(set().union(*missing.values())), np.int64)
    if len(wanted):
        by_name = {encoder.name: encoder for encoder in encoders if missing[encoder.name]}
        for name in by_name:
            with stores[name].writing():
                pass  # refused before anything is decoded
        _embed(run, dataset, modalities, by_name, layer, options, stores, wanted, report)
    for store in stores.values():
        check_clips(store, dataset, modalities)
    return stores


def _embed(
    run: Run,
    dataset: Samples,
    modalities: Sequence[str],
    encoders: Mapping[str, Encoder],
    layer: Layer,
    options: EmbedOptions,
    stores: Mapping[str, ClipStore],
    wanted: npt.NDArray[np.int64],
    report: Callable[[int, int], None],
) -> None:
    from contextlib import ExitStack

    transform = device_transform(run, modalities, options.crops)
    skip_log = _KeepingSkipLog()
    with as_config_errors():
        batches = evaluation_batches(
            dataset,
            modalities,
            segment_options(run, options),
            segments_per_clip=len(options.places),
            batch_size=options.batch_size,
            threads=options.threads,
            skip_log=skip_log,
            isolate_seconds=run.config.data.isolation_limit_seconds,
            samples=wanted,
            places=np.array(options.places),
        )
    for encoder in encoders.values():
        encoder.method.to(options.device).eval()
    through = 0  # of `wanted`

    def settle_skips(before: int) -> None:
        """Write down skipped clips among wanted[through:before], which come in order."""
        nonlocal through
        for number in wanted[through:before].tolist():
            error = skip_log.errors.pop(0)
            for name in encoders:
                stores[name].skip(number, error)
        through = before

    with ExitStack() as held, torch.inference_mode():
        for name in encoders:
            held.enter_context(stores[name].writing())
        for raw in batches:
            batch = transform(raw.to(options.device))
            clips = _clips_of(raw.sample.numpy(), raw.keys, raw.start_seconds.numpy())
            shape = (len(clips), len(options.places) * options.crops, -1)
            for name, encoder in encoders.items():
                rows = {
                    modality: encoder.rows(layer, modality, batch.view(modality).values)
                    for modality in modalities
                }
                stores[name].add(clips, {m: r.reshape(shape) for m, r in rows.items()})
            for clip in clips:
                place = int(np.searchsorted(wanted, clip.number))
                settle_skips(place)
                through = place + 1
            report(through, len(wanted))
        settle_skips(len(wanted))


def _clips_of(
    samples: npt.NDArray[np.int64], keys: Sequence[str], starts: npt.NDArray[np.float64]
) -> list[Clip]:
    """The clips of a batch's rows, which come clip by clip."""
    numbers, first, counts = np.unique(samples, return_index=True, return_counts=True)
    return [
        Clip(int(n), keys[at], tuple(starts[at : at + count].round(6).tolist()))
        for n, at, count in zip(numbers, first.tolist(), counts.tolist(), strict=True)
    ]


def check_clips(store: ClipStore, dataset: Samples, modalities: Sequence[str]) -> None:
    """Refuse a store without clips, with a key twice, or with numbers that are not finite.

    Raises:
        EvaluationError: one of those.
    """
    if not store.clips:
        causes = ", ".join(f"{stage}: {count}" for stage, count in store.skip_causes().items())
        first = next(iter(store.skips.values()), {"key": "?", "cause": "it is empty"})
        raise EvaluationError(
            f"{dataset.path}: not one of its {store.num_clips} clips can be decoded into what is "
            f"needed ({', '.join(modalities)}); {causes or 'no samples'}. The first, "
            f"{first['key']!r}: {first['cause']}. `gdt shards verify` checks them; --modality "
            "asks for less of a clip"
        )
    seen: dict[str, int] = {}
    for clip in store.clips.values():
        if clip.key in seen:
            raise EvaluationError(
                f"{dataset.path}: the key {clip.key!r} names sample {seen[clip.key]} and sample "
                f"{clip.number}; a hit must be one clip. Give every sample a key of its own"
            )
        seen[clip.key] = clip.number
    for modality in modalities:
        array = store.vectors(modality)
        for first_row in range(0, len(array), 4096):
            block = array[first_row : first_row + 4096]
            wrong = np.flatnonzero(~np.isfinite(block).all(axis=(1, 2)))
            if len(wrong):
                number = first_row + int(wrong[0])
                raise EvaluationError(
                    f"{dataset.path}: the {modality} {store.facts['layer']} of clip "
                    f"{store.clips[number].key!r} hold values that are not finite "
                    f"({store.facts['encoder']} encoder, step {store.facts['step']}): did the "
                    "training diverge? Look at the losses of the run, take an earlier checkpoint"
                )


def device_transform(run: Run, modalities: Sequence[str], crops: int = 1) -> DeviceTransform:
    """The run's transform for evaluation, for some of its modalities, in so many crops."""
    if tuple(modalities) == tuple(run.plan.modalities) and crops == 1:
        return run.device_transform
    tables: dict[str, dict[str, Any]] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": list(modalities)},
        "augmentation": {"relation": "invariant", "draws": 2},  # a plan has a positive pair
    }
    options = run.device_transform.options
    plan, seed = Plan.from_tables(tables), run.config.seed
    return DeviceTransform(plan, options, seed, training=False, test_crops=crops)


def segment_options(run: Run, options: EmbedOptions) -> SegmentOptions:
    """The run's segments, of another length where that is asked for."""
    if options.seconds is None:
        return run.config.segment
    return replace(run.config.segment, seconds=options.seconds)


def _facts(
    run: Run,
    dataset: Samples,
    modalities: Sequence[str],
    encoder: Encoder,
    layer: Layer,
    options: EmbedOptions,
) -> dict[str, Any]:
    inputs = {
        "segment": asdict(segment_options(run, options)),
        "device": asdict(run.device_transform.options),
    }
    inputs["segment"].pop("decoder")  # how, not what
    text = json.dumps(inputs, sort_keys=True, default=str)
    return {
        "encoder": encoder.name,
        "step": encoder.step,
        "weights": encoder.weights,
        "layer": layer,
        "data_set": dataset.fingerprint,
        "modalities": list(modalities),
        "places": list(options.places),
        **({"crops": options.crops} if options.crops > 1 else {}),
        "inputs": hashlib.sha256(text.encode()).hexdigest()[:16],
    }
