"""Clip embeddings: computed by a run over a data set, saved with their keys, read back.

    evaluation_batches ─► RawBatch ─► DeviceTransform (no augmentation) ─► method.embed
    ─► mean of a clip's segments, scaled back to length 1 ─► embeddings.safetensors

Legend: N clips, D embedding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from pipelines.skips import SkipLog
    from shards import Samples
    from tools.runs.run import Run

_FORMAT, _VERSION = "gdt-clip-embeddings", "1"
_KEYS = "keys"
_SAMPLES = "samples"


class EmbeddingsError(Exception):
    """A file that holds no clip embeddings of this version."""


@dataclass(frozen=True)
class ClipEmbeddings:
    """One embedding of each modality for every clip.

    Args:
        keys: N keys of the clips.
        samples: int64 [N], their numbers in the data set.
        modalities: name → float32 [N, D], rows of length 1.
        facts: What they were computed from and with, for the record.
    """

    keys: tuple[str, ...]
    samples: npt.NDArray[np.int64]
    modalities: Mapping[str, npt.NDArray[np.float32]]
    facts: Mapping[str, str]

    def __post_init__(self) -> None:
        sizes = {name: len(rows) for name, rows in self.modalities.items()}
        for name, size in {_SAMPLES: len(self.samples), **sizes}.items():
            if size != len(self.keys):
                raise ValueError(
                    f"embeddings: {name} has {size} rows, and there are {len(self.keys)} keys; "
                    "every clip needs one of each"
                )

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(rows.shape)}" for name, rows in self.modalities.items())
        return f"ClipEmbeddings({len(self.keys)} clips, {shapes})"

    def save(self, path: Path) -> None:
        """Writes a safetensors file, atomically; the keys are text with one key a line."""
        from safetensors.numpy import save

        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        tensors: dict[str, npt.NDArray[Any]] = {
            f"embedding.{name}": rows for name, rows in self.modalities.items()
        }
        tensors[_SAMPLES] = self.samples
        tensors[_KEYS] = np.frombuffer("\n".join(self.keys).encode(), np.uint8)
        part.write_bytes(save(tensors, {"format": _FORMAT, "version": _VERSION, **self.facts}))
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "ClipEmbeddings":
        """Reads what `save` wrote.

        Raises:
            EmbeddingsError: It is something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise EmbeddingsError(f"{path}: cannot read clip embeddings: {error}") from error
        found = (facts.pop("format", None), facts.pop("version", None))
        if found != (_FORMAT, _VERSION):
            raise EmbeddingsError(
                f"{path}: its format and version are {found}, expected {(_FORMAT, _VERSION)}; "
                "write it again with `gdt evaluate retrieval`"
            )
        keys = tuple(tensors.pop(_KEYS).tobytes().decode().split("\n"))
        samples = tensors.pop(_SAMPLES)
        modalities = {name.removeprefix("embedding."): rows for name, rows in tensors.items()}
        return cls(keys, samples, modalities, facts)


def embed_clips(
    run: "Run",
    dataset: "Samples",
    *,
    segments_per_clip: int,
    batch_size: int = 16,
    threads: int = 2,
    device: "torch.device | str" = "cpu",
    layer: Literal["embedding", "features"] = "embedding",
    skip_log: "SkipLog | None" = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> ClipEmbeddings:
    """Embeds every clip of a data set once in each modality of the run's plan.

    Args:
        run: A loaded run; its method is moved to the device and stays there.
        dataset: The clips.
        segments_per_clip: So many evenly spaced segments of each clip are averaged.
        batch_size: Clips decoded and embedded together.
        threads: Decoding threads.
        device: "cpu", "cuda", …
        layer: What is averaged: the embedding that the loss compares, or the encoder's features
            before the projection head, scaled to length 1.
        skip_log: Where skipped clips go; they have no embedding.
        report: Gets (clips done, clips in all).

    Raises:
        ConfigError: The clips or this machine do not have what the run's config asks for.
        TooManySkipsError: See `SkipLog`.
        RunError: Not one clip could be embedded.
    """
    import torch
    import torch.nn.functional as F

    from pipelines.loading.evaluation import evaluation_batches
    from tools.evaluation.retrieval import average_segments
    from tools.runs.config import as_config_errors

    found: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in run.plan.modalities}
    rows: list[npt.NDArray[np.int64]] = []
    keys: dict[int, str] = {}
    method = run.method.to(device).eval()
    with as_config_errors():
        batches = evaluation_batches(
            dataset,
            run.plan.modalities,
            run.config.segment,
            segments_per_clip=segments_per_clip,
            batch_size=batch_size,
            threads=threads,
            skip_log=skip_log,
            isolate_seconds=run.config.data.isolation_limit_seconds,
        )
    with torch.inference_mode():
        for raw in batches:
            batch = run.device_transform(raw.to(device))
            for name, (values, _) in batch.modalities.items():
                if layer == "embedding":
                    rows_found = method.embed(name, values)
                else:
                    rows_found = F.normalize(method.features(name, values), dim=1)
                found[name].append(rows_found.cpu().numpy())
            rows.append(raw.sample.numpy())
            keys.update(zip(raw.sample.tolist(), raw.keys, strict=True))
            report(int(raw.sample.max()) + 1, len(dataset))
    if not rows:
        from tools.runs.run_folder import RunError

        raise RunError(
            f"{dataset.path}: not one of its {len(dataset)} clips can be decoded into what the "
            f"run's plan needs ({', '.join(run.plan.modalities)}); `gdt shards verify` checks them"
        )
    owners = np.concatenate(rows)
    modalities = {}
    samples = np.unique(owners)
    for name, parts in found.items():
        samples, modalities[name] = average_segments(np.concatenate(parts), owners)
    facts = {
        "data_set": dataset.fingerprint,
        "plan": run.plan.fingerprint(),
        "step": str(run.step),
        "segments_per_clip": str(segments_per_clip),
    }
    return ClipEmbeddings(tuple(keys[int(i)] for i in samples), samples, modalities, facts)
