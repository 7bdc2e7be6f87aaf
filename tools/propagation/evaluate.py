"""`gdt evaluate propagate`: carry labels of a first frame through clips, and score what arrives.

    run ─► features of frames: trained, untrained; colours ─┐
    clips ─► labels of the first frame ─────────────────────┴─► propagate ─► scores, masks, picture

OUT/metrics.json             what is printed, see tools/evaluation/result.py
OUT/masks/NAME/00000.png …   what the trained encoder predicts, in DAVIS's layout
OUT/propagated.png           some clips with their masks

OUT is RUN/evaluation/propagate/{folder}-{identity} unless it is given.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tools.display.propagated_masks import MaskedFrames, propagated_picture
from tools.evaluation.encoders import Encoder, trained_encoder, untrained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.result import Evaluation, SplitFacts, check_out
from tools.propagation.clips import LabelledClip, read_clips
from tools.propagation.frame_features import (
    FrameFeatures,
    color_features,
    encoder_features,
    picture_modality,
    scaled,
)
from tools.propagation.propagate import propagated
from tools.propagation.recipe import Recipe
from tools.propagation.scores import SCORERS, Prediction, Scorer
from tools.runs.run import Run, choose_device, load_run
from tools.sample_data.moving_shapes import palette

STILL, COLOR = "first labels kept", "colour matching"
_FRAMES_SHOWN = 6


@dataclass(frozen=True, kw_only=True)
class PropagationRequest:
    """What to propagate.

    Attributes:
        run: run folder.
        clips: folder of labelled clips.
        layout: of `tools.propagation.clips.LAYOUTS`.
        split: list of clips.
        recipe: of the propagation.
        modality: whose encoder; the run's first of pictures where None.
        num_stages, map_stride: other maps of a ResNet, see `encoder_features`.
        untrained: also score the encoder as it was before its first step.
        colors: also score matching by colour, and labels that stay where they are.
        out: folder of the results; see the module.
        pictures: how many clips are drawn.
        device: "cpu", "cuda" or "auto".
    """

    run: Path
    clips: Path
    layout: str
    split: str
    recipe: Recipe
    modality: str | None = None
    num_stages: int | None = None
    map_stride: int | None = None
    untrained: bool = True
    colors: bool = True
    out: Path | None = None
    pictures: int = 3
    device: str = "auto"


@dataclass(frozen=True)
class Propagated:
    """An evaluation, its folder, and its picture, where there is something to draw."""

    result: Evaluation
    out: Path
    picture: Path | None


def evaluate_propagation(
    request: PropagationRequest, report: Callable[[int, int], None] = lambda done, total: None
) -> Propagated:
    """Propagate labels through all clips, and write what was found.

    Raises:
        EvaluationError: the run, the clips and the recipe do not go together.
        RunError: no run, or one without a checkpoint.
    """
    device, run = choose_device(request.device), load_run(request.run)
    modality = picture_modality(run, request.modality)
    clips = read_clips(request.clips, request.layout, request.split)
    encoders = [trained_encoder(run), *([untrained_encoder(run)] if request.untrained else [])]
    maps = {"num_stages": request.num_stages, "map_stride": request.map_stride}
    features = {
        encoder.name: encoder_features(run, encoder.method, modality, device, **maps)
        for encoder in encoders
    }
    result = _empty(request, run, encoders, modality, clips)
    out = request.out or run.path / "evaluation" / "propagate" / _folder(request, result)
    check_out(out, result.identity)
    scorers: dict[str, Scorer] = {name: SCORERS[request.layout]() for name in features}
    if request.colors:
        scorers |= {name: SCORERS[request.layout]() for name in (COLOR, STILL)}
    drawn: list[MaskedFrames] = []
    for number, clip in enumerate(clips):
        predictions = _propagate(clip, features, scorers, request.recipe)
        if request.layout != "jhmdb":
            write_masks(out / "masks" / clip.name, clip, predictions["trained"])
            if len(drawn) < request.pictures:
                drawn.append(_shown(clip, predictions))
        report(number + 1, len(clips))
    scores = [score for name, scorer in scorers.items() for score in scorer.scores(name)]
    result = replace(result, scores=scores)
    result.write(out)
    picture = out / "propagated.png" if drawn else None
    if picture is not None:
        propagated_picture(drawn, picture)
    return Propagated(result, out, picture)


def _propagate(
    clip: LabelledClip,
    features: Mapping[str, FrameFeatures],
    scorers: Mapping[str, Scorer],
    recipe: Recipe,
) -> dict[str, list[Prediction]]:
    """Return each way's predictions of a clip's frames, which its scorer takes.

    Raises:
        EvaluationError: frames cannot be read, differ in size, or are too small for the encoder.
    """
    frames = _scaled_frames(clip, recipe)
    size, seen = clip.frame(0).shape[:2], (frames[0].shape[1], frames[0].shape[2])
    ways = dict(features)
    try:
        cells = ways["trained"](frames[0]).shape[1:]
    except RuntimeError as error:  # a convolution, of less than it reaches over
        raise EvaluationError(
            f"{clip.frames[0]}: at {seen[1]}×{seen[0]} pixels it is too small for the encoder "
            f"({error}): raise --short-side"
        ) from error
    if COLOR in scorers:
        ways[COLOR] = color_features(*cells)
    predictions = {}
    for name, features_of in ways.items():
        scorer, maps = scorers[name], map(features_of, frames)
        first = next(maps)
        labels = scorer.first_labels(clip, (first.shape[1], first.shape[2]), recipe)
        soft = propagated(itertools.chain([first], maps), labels.to(first.device), recipe)
        next(soft)  # the first frame's labels are given
        found = [scorer.read(of_frame, seen, size, recipe) for of_frame in soft]
        predictions[name] = [scorer.given(clip), *found]
    if STILL in scorers:
        predictions[STILL] = [scorers[STILL].given(clip)] * len(frames)
    for name, of_frames in predictions.items():
        scorers[name].add(clip, of_frames)
    return predictions


def _scaled_frames(clip: LabelledClip, recipe: Recipe) -> list[Tensor]:
    frames = [scaled(clip.frame(number), recipe) for number in range(len(clip.frames))]
    first = frames[0].shape[1:]
    for path, frame in zip(clip.frames, frames, strict=True):
        if frame.shape[1:] != first:
            sizes = [f"{width}×{height}" for height, width in (frame.shape[1:], first)]
            raise EvaluationError(
                f"{path} is {sizes[0]} and {clip.frames[0]} is {sizes[1]}, both as they are "
                "scaled: the frames of a clip must have one size"
            )
    return frames


def write_masks(folder: Path, clip: LabelledClip, masks: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Write a clip's masks as PNGs with DAVIS's palette, named as its frames."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for frame, mask in zip(clip.frames, masks, strict=True):
        picture = Image.fromarray(mask.astype(np.uint8)).convert("P")
        picture.putpalette(palette())
        picture.save(folder / f"{frame.stem}.png")


def _shown(clip: LabelledClip, predictions: Mapping[str, Sequence[Prediction]]) -> MaskedFrames:
    places = np.linspace(0, len(clip.frames) - 1, _FRAMES_SHOWN).round().astype(int)
    numbers = list(dict.fromkeys(places.tolist()))
    rows = {name: [np.asarray(of[n]) for n in numbers] for name, of in predictions.items()}
    rows.pop(STILL, None)
    if clip.is_whole:
        rows = {"truth": [clip.mask(n) for n in numbers], **rows}
    return MaskedFrames(clip.name, numbers, [clip.frame(n) for n in numbers], rows)


def _empty(
    request: PropagationRequest,
    run: Run,
    encoders: Sequence[Encoder],
    modality: str,
    clips: Sequence[LabelledClip],
) -> Evaluation:
    """The evaluation, before it has scores: its identity is that of the question."""
    whole = [clip for clip in clips if clip.is_whole]
    left_out = []
    if len(whole) < len(clips):
        unscored = len(clips) - len(whole)
        why = "not every frame has a mask: propagated and drawn, not scored"
        left_out.append({"what": f"{unscored} of {len(clips)} clips", "why": why})
    return Evaluation(
        task="propagate",
        run={
            "path": str(request.run),
            "step": run.step,
            "weights": encoders[0].weights,
            "plan": run.plan.fingerprint(),
        },
        data={"test": SplitFacts(str(request.clips), _fingerprint(clips), len(clips), {})},
        settings={
            "layout": request.layout,
            "split": request.split,
            "modality": modality,
            "num_stages": request.num_stages,
            "map_stride": request.map_stride,
            "encoders": [encoder.name for encoder in encoders],
            "colors": request.colors,
            **asdict(request.recipe),
        },
        interval="95 % over objects, by bootstrap",
        scores=[],
        left_out=left_out,
    )


def _fingerprint(clips: Sequence[LabelledClip]) -> str:
    """Digest of the clips' files by name and size."""
    digest = hashlib.sha256()
    for clip in clips:
        for path in (*clip.frames, *clip.masks.values()):
            digest.update(f"{clip.name}/{path.name} {path.stat().st_size}\n".encode())
        if clip.joints is not None:
            digest.update(clip.joints.tobytes())
    return digest.hexdigest()[:16]


def _folder(request: PropagationRequest, result: Evaluation) -> str:
    return f"{request.clips.resolve().name}-{result.identity}"
