"""`gdt evaluate world-model`: does a C-SWM run foretell where objects are, some steps ahead?

    clips ─► states of all frames ─► from the first, by n actions ─► foretold states of all clips

Of each clip the true state after n actions looks for its own among those foretold for all clips, by
squared distance: Hits@1 and mean reciprocal rank (Kipf et al. 2020, arXiv:1911.12247, §4.6). The
authors put its own first among equal ones; here it is last, and a model of one state has no hits.

OUT/metrics.json is what is printed; OUT is RUN/evaluation/world-model/… unless it is given.

Legend: N clips, T frames, K objects, D state of an object, n steps.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from models.methods import CSWM
from pipelines.loading.evaluation import evaluation_batches
from shards import Samples, open_samples
from tools.evaluation.actions import actions_if_any
from tools.evaluation.chance import expected
from tools.evaluation.encoders import Encoder, trained_encoder, untrained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.intervals import bootstrap
from tools.evaluation.result import CHANCE, Evaluation, Score, SplitFacts, check_out
from tools.runs.run import Run, choose_device, load_run

#: Beside the encoders: the trained one's states, as if no action did anything.
KEPT = "states kept"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class WorldModelRequest:
    """What to evaluate.

    Attributes:
        run: run folder.
        shards: data set of episodes that it was not trained on.
        steps: how many actions ahead.
        untrained: also score the model as it was before its first step.
        out: folder of the results; see the module.
        batch_size, threads: clips decoded together, and by how many.
        device: "cpu", "cuda" or "auto".
    """

    run: Path
    shards: str
    steps: tuple[int, ...] = (1, 5, 10)
    untrained: bool = True
    out: Path | None = None
    batch_size: int = 16
    threads: int = 2
    device: str = "auto"


def evaluate_world_model(request: WorldModelRequest) -> tuple[Evaluation, Path]:
    """Score a run, and write what was found: the evaluation, and its folder.

    Raises:
        EvaluationError: no C-SWM run, or clips without the actions that it needs.
        RunError: no run, or one without a checkpoint.
    """
    device, run = choose_device(request.device), load_run(request.run)
    if not isinstance(run.method, CSWM):
        raise EvaluationError(
            f"{request.run} is a run of {run.config.method.name}, and a world model is one of "
            "cswm: `gdt pretrain cswm` trains one"
        )
    dataset = open_samples(request.shards, run.config.data.remote)
    actions = _actions(run.method, dataset, run.config.segment.window_seconds, request.steps)
    encoders = [trained_encoder(run), *([untrained_encoder(run)] if request.untrained else [])]
    scores: list[Score] = []
    for encoder in encoders:
        states, numbers = states_of(run, encoder, dataset, request, device)
        model = encoder.method
        assert isinstance(model, CSWM)
        with torch.inference_mode():
            foretold = model.foretell(states[:, 0], actions[numbers].to(device)).double().cpu()
        after = states[:, 1:].double().cpu().numpy()
        for steps in request.steps:
            true, guessed = after[:, steps - 1], foretold[:, steps - 1].numpy()
            scores += _scores(encoder.name, steps, own_ranks(true, guessed))
        if encoder.name == "trained":
            kept = states[:, 0].double().cpu().numpy()
            for steps in request.steps:
                scores += _scores(KEPT, steps, own_ranks(after[:, steps - 1], kept))
    for steps in request.steps:
        for name, metric in (("Hits@1", "R@1"), ("MRR", "MRR")):
            value = expected(metric, len(numbers), 1)
            scores.append(Score(_of(steps), CHANCE, name, value))
    result = Evaluation(
        task="world-model",
        run={
            "path": str(request.run),
            "step": run.step,
            "weights": encoders[0].weights,
            "plan": run.plan.fingerprint(),
        },
        data={
            "test": SplitFacts(
                str(dataset.path),
                dataset.fingerprint,
                len(numbers),
                {"decode": len(dataset) - len(numbers)} if len(numbers) < len(dataset) else {},
            )
        },
        settings={
            "steps": list(request.steps),
            "encoders": [encoder.name for encoder in encoders],
            "ties": "last",
        },
        interval="95 % bootstrap over the clips",
        scores=scores,
    )
    out = request.out or run.path / "evaluation" / "world-model" / _folder(result)
    check_out(out, result.identity)
    out.mkdir(parents=True, exist_ok=True)
    result.write(out)
    return result, out


def _actions(method: CSWM, dataset: Samples, seconds: float, steps: Sequence[int]) -> torch.Tensor:
    """Return the actions of all clips, int64 [N, n], as many as the longest of `steps` needs."""
    most = max(steps)
    if method.options.actions == "none":
        return torch.zeros(len(dataset), most, dtype=torch.int64)
    actions = actions_if_any(dataset, seconds)
    if actions is None:
        raise EvaluationError(
            f"{dataset.path}: its samples have no `actions` in their json, and the run learned "
            "what actions do"
        )
    if actions.shape[1] < most:
        raise EvaluationError(
            f"{dataset.path}: its clips have {actions.shape[1]} actions, and {most} steps ahead "
            f"are asked for; --steps 1,{actions.shape[1]} can be had"
        )
    return torch.from_numpy(actions[:, :most])


def states_of(
    run: Run,
    encoder: Encoder,
    dataset: Samples,
    request: WorldModelRequest,
    device: torch.device,
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Return the states of the clips that can be decoded, [N, T, K, D], and their numbers [N].

    Raises:
        EvaluationError: none can be, or frames are too few for the steps.
    """
    model = encoder.method
    assert isinstance(model, CSWM)
    model.to(device).eval()
    batches = evaluation_batches(
        dataset,
        ("video",),
        run.config.segment,
        batch_size=request.batch_size,
        threads=request.threads,
        isolate_seconds=run.config.data.isolation_limit_seconds,
    )
    found, numbers = [], []
    with torch.inference_mode():
        for raw in batches:
            values = run.device_transform(raw.to(device)).view("video").values
            found.append(model.states(values))
            numbers.append(raw.sample.numpy())
    if not found:
        raise EvaluationError(f"{dataset.path}: not one of its clips can be decoded")
    states = torch.cat(found)
    if states.shape[1] <= max(request.steps):
        raise EvaluationError(
            f"the run's segments have {states.shape[1]} frames, and {max(request.steps)} steps "
            "ahead are asked for: ask for fewer with --steps"
        )
    return states, np.concatenate(numbers)


def own_ranks(
    true: Floats, foretold: Floats, ties: Literal["first", "last"] = "last"
) -> npt.NDArray[np.int64]:
    """Return how many foretold states stand before a true one's own, [N].

    Args:
        true: [N, K, D].
        foretold: [N, K, D], in the same order.
        ties: where its own stands among equally near ones; "first" is the authors'.
    """
    ranks = []
    for number, state in enumerate(true):
        distances = np.square(foretold - state).sum(axis=(1, 2))
        own = distances[number]
        before = (distances < own) if ties == "first" else (distances <= own)
        ranks.append(int(before.sum()) - (ties == "last"))
    return np.array(ranks, np.int64)


def _scores(name: str, steps: int, ranks: npt.NDArray[np.int64]) -> list[Score]:
    shares = {"Hits@1": (ranks == 0).astype(float), "MRR": 1 / (1 + ranks)}
    return [
        Score(_of(steps), name, metric, float(values.mean()), *bootstrap(values))
        for metric, values in shares.items()
    ]


def _of(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def _folder(result: Evaluation) -> str:
    path = result.data["test"].path.rstrip("/")
    name = re.sub(r"[^A-Za-z0-9]+", "-", path.rsplit("/", 1)[-1]).strip("-")[:40] or "clips"
    return f"{name}-{result.identity}"
