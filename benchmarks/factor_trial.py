"""One model trained under a plan, and what it then tells apart: the trial of benchmarks/factors.py.

    clips, decoded once ─► transform ─► method ─► loss        as in a run, but for Lightning
    method ─► embeddings and features of 4 segments of each clip, forwards and backwards ─► scores

Everything but the decoded segments' being kept is the product's: plan, draws of the device
transform, encoders, loss.

Legend: N clips, P places of a clip, K time shifts, T frames, S audio samples, D features.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from gdt import Plan, named_plan, normalize
from models import Encoder, EncoderOptions, Method, RunFacts, Setting, build_method
from models.encoders.audio import AUDIO_SHAPE
from models.encoders.video import VIDEO_SHAPE
from models.methods.gdt import GDTOptions
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.options import AudioAugment, LogMel, VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.raw_batch import RawBatch
from shards import open_samples
from tools.evaluation.labels import labels_of

MODALITIES: Final = ("video", "audio")
NUM_SEGMENTS: Final = 4  # of a clip, evenly spaced, in every question
BATCH_SIZE: Final = 16
_PEAK_RATE: Final = 2e-3
_DEVICE: Final = DeviceOptions(
    VideoAugment(
        size=32, scales=(0.85, 1.0), center_scale=0.95, flip_probability=0.0, jitter_probability=0.0
    ),
    AudioAugment(frequency_masks=0, time_masks=0),
    log_mel=LogMel(num_mels=32, hop_samples=480),
)
Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
#: modality → [N, 4 segments, 2 directions, D]
Rows = Mapping[str, Floats]


@dataclass(frozen=True)
class Corpus:
    """Shards to learn from and shards to ask about, and what a segment of them is.

    Attributes:
        name: in tables.
        train, val: folders of shards, with labels.
        seconds, num_frames: of a segment.
        places: P, evenly spaced starts of segments that are decoded; 1 more than a multiple of 3,
            so that 4 evenly spaced ones are among them.
        places_apart: at least so far apart start two time shifts of a clip.
    """

    name: str
    train: Path
    val: Path
    seconds: float
    num_frames: int
    places: int
    places_apart: int


class Clips:
    """Segments of clips at P places each, decoded.

    Attributes:
        labels: [N], as numbers.
        places: P.
    """

    def __init__(self, batches: list[RawBatch], places: int, labels: Integers) -> None:
        self._like = batches[0]
        frames, audio = ([getattr(b, name) for b in batches] for name in ("frames", "audio"))
        self._frames = torch.cat(frames).unflatten(0, (-1, places))
        self._audio = torch.cat(audio).unflatten(0, (-1, places))
        self.places, self.labels = places, labels

    def __len__(self) -> int:
        """N."""
        return len(self._frames)

    @classmethod
    def decode(cls, corpus: Corpus, folder: Path) -> Self:
        """Decode a data set of a corpus."""
        dataset = open_samples(folder)
        options = SegmentOptions(seconds=corpus.seconds, num_frames=corpus.num_frames)
        places = np.linspace(0, 1, corpus.places)
        batches = evaluation_batches(
            dataset, MODALITIES, options, corpus.places, threads=1, places=places
        )
        names = labels_of(dataset)
        labels = np.unique(names, return_inverse=True)[1].astype(np.int64)
        return cls(list(batches), corpus.places, labels)

    def batch(self, numbers: Integers, places: Integers, epoch: int = 0, step: int = 0) -> RawBatch:
        """The segments of some clips [B] at places of each [B, K], as a loader would give them."""
        rows, num_shifts = numbers.repeat(places.shape[1]), places.shape[1]
        at = torch.from_numpy(rows), torch.from_numpy(places.ravel())
        return replace(
            self._like,
            frames=self._frames[at],
            audio=self._audio[at],
            sample=at[0],
            shift=torch.arange(num_shifts).repeat(len(numbers)),
            start_seconds=at[1].double(),
            keys=tuple(map(str, rows)),
            speed=None,
            data_epoch=None,
            epoch=epoch,
            step=step,
        )


class TinyEncoders(EncoderOptions):
    """Encoders of three strided convolutions: 64 features, 0.5 ms a row forwards and backwards."""

    def build(self, modality: str) -> Encoder:
        """A new encoder, its weights from torch's generator."""
        layers: list[nn.Module]
        if modality == "audio":
            layers = [nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.BatchNorm2d(16), nn.ReLU()]
            for narrow, wide in ((16, 32), (32, 64)):
                over_both = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
                layers += [over_both, nn.BatchNorm2d(wide), nn.ReLU()]
            return Encoder(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), 64, AUDIO_SHAPE)
        layers = [nn.Conv3d(3, 16, (3, 5, 5), (1, 4, 4), (1, 2, 2)), nn.BatchNorm3d(16), nn.ReLU()]
        for narrow, wide in ((16, 32), (32, 64)):
            over_all = nn.Conv3d(narrow, wide, 3, stride=2, padding=1)
            layers += [over_all, nn.BatchNorm3d(wide), nn.ReLU()]
        return Encoder(nn.Sequential(*layers), nn.AdaptiveAvgPool3d(1), 64, VIDEO_SHAPE)


def new_method(plan: Plan, num_samples: int, seed: int, steps: int) -> Method:
    """The untrained model of a seed, the same under every plan."""
    torch.manual_seed(seed)
    facts = RunFacts(num_samples, BATCH_SIZE, num_samples // BATCH_SIZE, steps)
    options = GDTOptions("gdt", hidden_dim=128, embedding_dim=64)
    return build_method(options, Setting(plan, TinyEncoders(), facts))


def train(name: str, corpus: Corpus, clips: Clips, seed: int, steps: int) -> Method:
    """A model trained under a plan, in evaluation mode.

    Args:
        name: of a published plan.
        corpus: says how far apart time shifts are.
        clips: to train on.
        seed: of weights, order, places and augmentation.
        steps: of `BATCH_SIZE` clips.
    """
    plan = named_plan(name)
    method = new_method(plan, len(clips), seed, steps)
    transform = DeviceTransform(plan, _DEVICE, seed)
    optimizer = torch.optim.AdamW(method.parameters(), lr=_PEAK_RATE, weight_decay=1e-4)
    shifts = plan.draws("time_shift")
    for step, raw in enumerate(_batches(clips, shifts, corpus.places_apart, seed, steps)):
        warm, done = (step + 1) / (0.1 * steps), step / steps
        for group in optimizer.param_groups:
            group["lr"] = _PEAK_RATE * min(warm, 0.5 * (1 + math.cos(math.pi * done)))
        optimizer.zero_grad()
        method(transform(raw)).total.backward()
        optimizer.step()
    return method.eval()


def _batches(clips: Clips, shifts: int, apart: int, seed: int, steps: int) -> Iterator[RawBatch]:
    starts = np.array([(p,) for p in range(clips.places)])
    if shifts == 2:
        ordered = np.array(list(np.ndindex(clips.places, clips.places)))
        starts = ordered[np.abs(ordered[:, 0] - ordered[:, 1]) >= apart]
    per_epoch = len(clips) // BATCH_SIZE
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(clips))
        numbers = order[place * BATCH_SIZE :][:BATCH_SIZE]
        drawn = np.random.default_rng([seed, epoch, place]).integers(len(starts), size=BATCH_SIZE)
        yield clips.batch(numbers, starts[drawn], epoch, step)


@torch.no_grad()
def rows_of(method: Method, clips: Clips) -> dict[str, Rows]:
    """Layer ("embeddings", "features") → what a model makes of every clip."""
    transform = DeviceTransform(method.plan, _DEVICE, training=False)
    places = np.linspace(0, clips.places - 1, NUM_SEGMENTS).astype(np.int64)
    found: dict[str, dict[str, list[Floats]]] = {
        layer: {modality: [] for modality in MODALITIES} for layer in ("embeddings", "features")
    }
    for first in range(0, len(clips), 16):
        numbers = np.arange(first, min(first + 16, len(clips)))
        batch = transform(clips.batch(numbers, np.tile(places, (len(numbers), 1))))
        for modality, time_axis in (("video", 2), ("audio", 3)):
            values = batch.view(modality).values
            both = torch.stack([values, values.flip(time_axis)], dim=1).flatten(0, 1)
            shape = (len(numbers), NUM_SEGMENTS, 2, -1)
            features = method.features(modality, both)
            embeddings = normalize(method.towers.heads[modality](features))
            for layer, rows in (("embeddings", embeddings), ("features", features)):
                found[layer][modality].append(rows.reshape(shape).numpy())
    return {
        layer: {modality: np.concatenate(rows) for modality, rows in of.items()}
        for layer, of in found.items()
    }


def own_direction(rows: Rows) -> float:
    """How often a row is nearer to its own direction in the other modality than to the reverse."""
    # similarities [N, segment, direction of video, direction of audio]
    alike = np.einsum("nsvd,nsad->nsva", rows["video"], rows["audio"])
    own, other = alike[..., [0, 1], [0, 1]], alike[..., [0, 1], [1, 0]]
    backwards = alike[..., [1, 0], [0, 1]]
    return float(np.mean([_wins(own, other), _wins(own, backwards)]))


def own_segment(rows: Rows) -> float:
    """How often, of the 4 segments of its clip, a row's own is nearest in the other modality."""
    alike = np.einsum("nvd,nad->nva", rows["video"][:, :, 0], rows["audio"][:, :, 0])
    own = np.diagonal(alike, axis1=1, axis2=2)
    hits = [own >= alike.max(axis=axis) for axis in (1, 2)]
    return float(np.mean(hits))


def _wins(first: Floats, second: Floats) -> float:
    return float(np.mean((first > second) + 0.5 * (first == second)))


def probe(train: Rows, val: Rows, known: Integers, asked: Integers) -> float:
    """Accuracy of a logistic regression, mean over the modalities.

    Args:
        train: rows to learn from.
        val: rows to be asked.
        known: the answer for each of `train`, [N, 4, 2] or what broadcasts to that; −1: left out.
        asked: likewise for `val`.
    """
    scores = []
    for modality in MODALITIES:
        sides = []
        for rows, answers in ((train[modality], known), (val[modality], asked)):
            answers = np.broadcast_to(answers, rows.shape[:-1])
            sides.append((rows[answers >= 0], answers[answers >= 0]))
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        scores.append(model.fit(*sides[0]).score(*sides[1]))
    return float(np.mean(scores))


#: question → the share that guessing gets right, of so many labels
CHANCE: Final[Mapping[str, Callable[[int], float]]] = {
    "own direction": lambda labels: 1 / 2,
    "reversed?": lambda labels: 1 / 2,
    "own segment": lambda labels: 1 / NUM_SEGMENTS,
    "which segment?": lambda labels: 1 / NUM_SEGMENTS,
    "label": lambda labels: 1 / labels,
}


def scores_of(method: Method, train: Clips, val: Clips) -> dict[str, dict[str, float]]:
    """Layer → question → share of right answers on `val`; probes learn on `train`."""
    known, asked = rows_of(method, train), rows_of(method, val)
    direction = np.array([[[0, 1]]])
    forwards = np.array([0, -1])
    segment = np.where(forwards == 0, np.arange(NUM_SEGMENTS)[:, None], -1)

    def label(clips: Clips) -> Integers:
        return np.where(forwards == 0, clips.labels[:, None, None], -1)

    scores = {
        layer: {
            "reversed?": probe(known[layer], asked[layer], direction, direction),
            "which segment?": probe(known[layer], asked[layer], segment, segment),
            "label": probe(known[layer], asked[layer], label(train), label(val)),
        }
        for layer in known
    }
    scores["embeddings"]["own direction"] = own_direction(asked["embeddings"])
    scores["embeddings"]["own segment"] = own_segment(asked["embeddings"])
    return scores
