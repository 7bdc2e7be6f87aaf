"""`gdt caption`: what a run that writes captions says of each clip, beside the captions it has.

    clips ─► values of the run's other modality ─► CoCa or contrastive captioning ─► words

OUT is JSON lines, a clip each, in the order of the data set:

    {"key": "val_00007", "caption": "a small ring rises slowly", "given": ["a small ring rises"]}
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from models.methods import CoCa, ContrastiveCaptioning
from pipelines.loading.evaluation import evaluation_batches
from shards import open_samples
from shards.reading.captions import captions_of
from tools.evaluation.embeddings import device_transform
from tools.evaluation.errors import EvaluationError
from tools.runs.run import choose_device, load_run


@dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """What to write captions of.

    Attributes:
        run: run folder of a method that writes captions.
        shards: data set; its clips need no captions.
        out: file to write.
        batch_size, threads: clips decoded together, and by how many.
        device: "cpu", "cuda" or "auto".
    """

    run: Path
    shards: str
    out: Path
    batch_size: int = 16
    threads: int = 2
    device: str = "auto"


@dataclass(frozen=True)
class Captioned:
    """A clip, what is written of it, and what its metadata have."""

    key: str
    caption: str
    given: tuple[str, ...]

    @property
    def is_given(self) -> bool:
        """Whether it is one of the given ones, whatever their case."""
        return self.caption.casefold() in [" ".join(text.split()).casefold() for text in self.given]


def write_captions(
    request: CaptionRequest, report: Callable[[int, int], None] = lambda done, total: None
) -> list[Captioned]:
    """Write a caption of the middle segment of each clip that can be decoded.

    Raises:
        EvaluationError: a run that writes none, or whose tokenizer does not end them; or not one
            clip that can be decoded.
        RunError: no run, or one without a checkpoint.
    """
    device, run = choose_device(request.device), load_run(request.run)
    method, tokens = run.method, run.device_transform.tokens
    if not isinstance(method, CoCa | ContrastiveCaptioning) or tokens is None:
        raise EvaluationError(
            f"{request.run} is a run of {run.config.method.name}, which writes no captions; coca "
            "and contrastive_captioning do"
        )
    try:
        ends = tokens.ends
    except ValueError as error:
        raise EvaluationError(f"{request.run}: {error}") from error
    (modality,) = (name for name in run.plan.modalities if name != "text")
    dataset, transform = open_samples(request.shards), device_transform(run, (modality,))
    batches = evaluation_batches(
        dataset,
        (modality,),
        run.config.segment,
        batch_size=request.batch_size,
        threads=request.threads,
        isolate_seconds=run.config.data.isolation_limit_seconds,
    )
    method.to(device).eval()
    found: list[Captioned] = []
    with torch.inference_mode():
        for raw in batches:
            values = transform(raw.to(device)).view(modality).values
            rows = method.caption(values, *ends, run.config.text.max_tokens)
            for key, number, row in zip(raw.keys, raw.sample.tolist(), rows.tolist(), strict=True):
                given = captions_of(dataset.metadata(number))
                found.append(Captioned(key, tokens.words(row), given))
            report(len(found), len(dataset))
    if not found:
        raise EvaluationError(f"{dataset.path}: not one of its clips can be decoded")
    request.out.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(asdict(clip), ensure_ascii=False) for clip in found]
    request.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return found
