"""`gdt evaluate sts`: do the cosines of two texts follow what people say of their meaning?

    pairs.tsv: text ⇥ text ⇥ score ─► tokens ─► embeddings ─► cosines ─► Spearman's correlation

As STS-B and its kin are scored (Gao et al. 2021, arXiv:2104.08821, §6): over all pairs together.
Beside the run stand its encoder before the first step, and the cosine of how often each token comes
in both texts, for which nothing is learned.

OUT/metrics.json is what is printed; OUT is RUN/evaluation/sts/… unless it is given.

Legend: N pairs, D embedding.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from shards.reading.text_file import TextFile
from tools.evaluation.encoders import Encoder, check_modalities, trained_encoder, untrained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import LEVEL
from tools.evaluation.result import CHANCE, Evaluation, Score, SplitFacts, check_out
from tools.runs.run import Run, choose_device, load_run

COUNTS = "tokens in common"
METRIC = "Spearman"
_RESAMPLES = 1000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StsRequest:
    """What to evaluate.

    Attributes:
        run: run folder, with the modality text.
        pairs: .tsv file: two texts and a number a line.
        untrained: also score the encoder as it was before its first step.
        out: folder of the results; see the module.
        batch_size: texts encoded together.
        device: "cpu", "cuda" or "auto".
    """

    run: Path
    pairs: Path
    untrained: bool = True
    out: Path | None = None
    batch_size: int = 64
    device: str = "auto"


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts, and how alike people find them.

    Attributes:
        first, second: [N].
        scores: [N], greater for more alike.
        fingerprint: of the file.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: Floats
    fingerprint: str


def read_pairs(path: Path) -> Pairs:
    """Read a .tsv file of pairs.

    Raises:
        EvaluationError: a line that is not two texts and a number, or fewer than three pairs, or
            pairs that all have one score.
        ShardError: it cannot be read.
    """
    file, rows = TextFile(path), []
    for number in range(len(file)):
        texts = file.metadata(number)["captions"]
        try:
            first, second, score = texts
            value = float(score)
        except ValueError as error:
            raise EvaluationError(
                f"{path}, {file.sample(number).key}: must be two texts and a number, with tabs "
                f"between; got {len(texts)} columns, the last {texts[-1][:40]!r}"
            ) from error
        if not (first and second and np.isfinite(value)):
            raise EvaluationError(
                f"{path}, {file.sample(number).key}: a text is missing, or {score!r} is no number"
            )
        rows.append((first, second, value))
    firsts, seconds, scores = zip(*rows, strict=True)
    if len(set(scores)) < 2 or len(rows) < 3:
        raise EvaluationError(
            f"{path} has {len(rows)} pairs and {len(set(scores))} different scores: a correlation "
            "needs three pairs, and two scores"
        )
    return Pairs(firsts, seconds, np.array(scores), file.fingerprint)


def evaluate_sts(request: StsRequest) -> tuple[Evaluation, Path]:
    """Score a run, and write what was found: the evaluation, and its folder.

    Raises:
        EvaluationError: a run without text, or a file that is no list of pairs.
        RunError: no run, or one without a checkpoint.
        ShardError: the file cannot be read.
    """
    device, run = choose_device(request.device), load_run(request.run)
    check_modalities(run, ("text",))
    pairs = read_pairs(request.pairs)
    encoders = [trained_encoder(run), *([untrained_encoder(run)] if request.untrained else [])]
    tokens = [_tokens(run, texts) for texts in (pairs.first, pairs.second)]
    found = {encoder.name: _cosines(encoder, tokens, request, device) for encoder in encoders}
    found[COUNTS] = count_cosines(*tokens)
    scores = [
        Score("text", name, METRIC, spearman(cosines, pairs.scores), *_interval(cosines, pairs))
        for name, cosines in found.items()
    ]
    result = Evaluation(
        task="sts",
        run={
            "path": str(request.run),
            "step": run.step,
            "weights": encoders[0].weights,
            "plan": run.plan.fingerprint(),
        },
        data={
            "test": SplitFacts(str(request.pairs), pairs.fingerprint, len(pairs.scores), {}),
        },
        settings={"encoders": [encoder.name for encoder in encoders]},
        interval="95 % bootstrap over the pairs",
        scores=[*scores, Score("text", CHANCE, METRIC, 0.0)],
    )
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.pairs.stem).strip("-")[:40] or "pairs"
    out = request.out or run.path / "evaluation" / "sts" / f"{name}-{result.identity}"
    check_out(out, result.identity)
    out.mkdir(parents=True, exist_ok=True)
    result.write(out)
    return result, out


def _tokens(run: Run, texts: tuple[str, ...]) -> torch.Tensor:
    tokens = run.device_transform.tokens
    assert tokens is not None  # the plan has text
    return tokens(texts)


def _cosines(
    encoder: Encoder, tokens: list[torch.Tensor], request: StsRequest, device: torch.device
) -> Floats:
    """Return the cosine of each pair, [N]."""
    encoder.method.to(device).eval()
    sides = []
    with torch.inference_mode():
        for rows in tokens:
            parts = rows.split(request.batch_size)
            embedded = [encoder.rows("embeddings", "text", part.to(device)) for part in parts]
            sides.append(np.concatenate(embedded).astype(np.float64))
    products: Floats = (sides[0] * sides[1]).sum(axis=1)
    return products


def count_cosines(first: torch.Tensor, second: torch.Tensor) -> Floats:
    """Return the cosine of how often each token comes in two texts, [N].

    Args:
        first: int64 [N, S]; 0 is the padding.
        second: the same.
    """
    size = int(max(first.max(), second.max())) + 1
    sides = []
    for tokens in (first, second):
        counts = torch.nn.functional.one_hot(tokens, size).sum(dim=1)[:, 1:].double()
        sides.append(torch.nn.functional.normalize(counts, dim=1))
    cosines: Floats = (sides[0] * sides[1]).sum(dim=1).numpy()
    return cosines


def spearman(values: Floats, scores: Floats) -> float:
    """Return Spearman's rank correlation; 0 where all values are one."""
    from scipy.stats import spearmanr

    if len(set(values.tolist())) < 2:
        return 0.0
    return float(spearmanr(values, scores).statistic)


def _interval(values: Floats, pairs: Pairs) -> tuple[float, float]:
    """Return the percentile interval of the correlation over resampled pairs."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(_RESAMPLES):
        rows = rng.integers(len(values), size=len(values))
        found.append(spearman(values[rows], pairs.scores[rows]))
    low, high = np.nanquantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
