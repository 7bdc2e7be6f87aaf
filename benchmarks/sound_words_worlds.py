"""What learns from sound, words and actions: CPC, CLIP and SigLIP, C-SWM, SimCSE; and baselines.

Each takes its own config on data of `gdt samples`, in fewer steps than the config has, so that all
of it is minutes on a CPU. Nothing was chosen by held-out scores but the steps, by those of one
seed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.groups import Group
from benchmarks.trials import Column, Setting
from models.methods.cpc import CPCOptions
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.log_mel import LogMelSpectrogram
from pipelines.device.options import LogMel
from pipelines.device.tokens import train_tokenizer
from pipelines.loading.evaluation import evaluation_batches
from shards import BuildOptions, open_samples
from shards.building.build import build
from shards.reading.captions import captions_of
from tools.evaluation.encoders import trained_encoder, untrained_encoder
from tools.evaluation.labels import labels_of
from tools.evaluation.protocol import load_protocol
from tools.evaluation.result import CHANCE, Evaluation, Score
from tools.evaluation.sts import COUNTS, METRIC, StsRequest, evaluate_sts
from tools.evaluation.tasks.labelled import accuracy
from tools.evaluation.tasks.linear_probe import LinearProbe, fit_and_answer
from tools.evaluation.tasks.retrieval import Retrieval
from tools.evaluation.world_model import KEPT, WorldModelRequest, evaluate_world_model
from tools.runs.run import load_run
from tools.sample_data.blocks import BlocksOptions, build_blocks
from tools.sample_data.digits import build_digits
from tools.sample_data.lee_corpus import write_lee_corpus
from tools.sample_data.paraphrases import ParaphrasesOptions, write_paraphrases
from tools.sample_data.synthetic import SyntheticOptions, build_corpus

SPEARMAN: Final = Column("Spearman", "sts", "text", METRIC, "text")
LOG_MEL, KNOWN = "log-mel, mean and deviation", "captions known by heart"
#: Of the linear probe: one for all, so that a score is one fit.
COST: Final = 0.1
#: Spectrograms of recordings of different levels.
LEVEL: Final = LogMel(top_db=40.0, normalize="clip")
_CPU: Final = ("trainer.epochs=1000", "trainer.accelerator=cpu")


@dataclass(frozen=True)
class LogMelProbe:
    """The linear probe of what was there before learning: each mel bin's mean and deviation.

    Attributes:
        train, test: data sets with labels.
    """

    train: Path
    test: Path
    name: str = "linear-probe"

    def settings(self) -> Mapping[str, Any]:
        """What it depends on, besides the data sets."""
        return {"log_mel": asdict(LEVEL), "cost": COST}

    def __call__(self, run: Path) -> Evaluation:
        """Score the sounds of any run: nothing of it is looked at."""
        (known, labels), (asked, truth) = (self._features(path) for path in (self.train, self.test))
        answers = fit_and_answer(known, labels, asked, (COST,))
        return _scored(self.name, [accuracy("audio", LOG_MEL, "accuracy", answers, truth)])

    def _features(self, path: Path) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
        """Features [N, 2F] and labels of the clips."""
        segment = SegmentOptions(seconds=1.0, sample_rate_hz=LEVEL.sample_rate_hz)
        dataset, spectrogram = open_samples(path), LogMelSpectrogram(LEVEL)
        rows, labels = [], labels_of(dataset)
        numbers: list[int] = []
        for raw in evaluation_batches(dataset, ("audio",), segment, batch_size=64, threads=1):
            assert raw.audio is not None
            levels = spectrogram(raw.audio)[:, 0]  # B × F × L
            rows.append(torch.cat([levels.mean(dim=2), levels.std(dim=2)], dim=1))
            numbers += raw.sample.tolist()
        return torch.cat(rows).numpy(), tuple(labels[number] for number in numbers)


@dataclass(frozen=True)
class NextMoments:
    """How often CPC finds the moments that come next, of held-out sounds.

    Attributes:
        clips: a data set.
    """

    clips: Path
    name: str = "next-moments"

    def settings(self) -> Mapping[str, Any]:
        """The data set."""
        return {"clips": open_samples(self.clips).fingerprint}

    def __call__(self, run: Path) -> Evaluation:
        """Score a run folder, on batches of 16 and negatives that are the same for all encoders."""
        loaded = load_run(run)
        dataset, segment = open_samples(self.clips), loaded.config.segment
        raws = list(evaluation_batches(dataset, ("audio",), segment, threads=1))
        scores = []
        for encoder in (trained_encoder(loaded), untrained_encoder(loaded)):
            torch.manual_seed(0)
            with torch.inference_mode():
                losses = [encoder.method(loaded.device_transform(raw)) for raw in raws]
            share = float(np.mean([float(loss.parts["accuracy"]) for loss in losses]))
            scores.append(Score("audio", encoder.name, "accuracy", share))
        assert isinstance(loaded.config.method, CPCOptions)
        chance = 1 / (1 + loaded.config.method.num_negatives)
        scores.append(Score("audio", CHANCE, "accuracy", chance))
        return Evaluation(self.name, {"step": loaded.step}, {}, {}, "", scores)


@dataclass(frozen=True)
class KnownCaptions:
    """What retrieval finds that knows each clip's caption: clips may have one in common.

    Attributes:
        clips: a data set.
    """

    clips: Path
    name: str = "retrieval"

    def settings(self) -> Mapping[str, Any]:
        """Nothing but the data set."""
        return {"known": True}

    def __call__(self, run: Path) -> Evaluation:
        """Score the captions: nothing of the run is looked at."""
        dataset = open_samples(self.clips)
        captions = [captions_of(dataset.metadata(number))[0] for number in range(len(dataset))]
        alike = np.array([Counter(captions)[caption] for caption in captions])
        return _scored(
            self.name,
            [
                Score(of, KNOWN, f"R@{k}", float(np.minimum(1, k / alike).mean()))
                for of in ("text → video", "video → text")
                for k in (1, 5)
            ],
        )


@dataclass(frozen=True)
class WorldModel:
    """What is foretold of held-out episodes.

    Attributes:
        episodes: a data set.
    """

    episodes: Path
    name: str = "world-model"

    def settings(self) -> Mapping[str, Any]:
        """The data set."""
        return {"episodes": open_samples(self.episodes).fingerprint}

    def __call__(self, run: Path) -> Evaluation:
        """Score a run folder."""
        request = WorldModelRequest(run=run, shards=str(self.episodes), threads=1, device="cpu")
        return evaluate_world_model(request)[0]


@dataclass(frozen=True)
class Similarity:
    """How well cosines follow what people say.

    Attributes:
        pairs: a file of two texts and a score a line.
    """

    pairs: Path
    name: str = "sts"

    def settings(self) -> Mapping[str, Any]:
        """The pairs."""
        return {"pairs": open_samples(self.pairs).fingerprint}

    def __call__(self, run: Path) -> Evaluation:
        """Score a run folder."""
        return evaluate_sts(StsRequest(run=run, pairs=self.pairs, device="cpu"))[0]


def _scored(task: str, scores: list[Score]) -> Evaluation:
    return Evaluation(task, {"step": 0}, {}, {}, "", scores)


def _shards(folder: Path, options: BuildOptions) -> tuple[Path, Path]:
    """Build folder/shards/train and /val of folder/train and /val, with labels.csv."""
    places = []
    for part in ("train", "val"):
        places.append(folder / "shards" / part)
        if not (places[-1] / "manifest.json").exists():
            build([folder / part], places[-1], options, labels=folder / "labels.csv")
    return places[0], places[1]


def sounds(folder: Path, num_train: int = 800, num_val: int = 200) -> Group:
    """CPC on spoken digits: which digit is it, of voices that were not heard."""
    if not (folder / "labels.csv").exists():
        build_digits(folder, num_train, num_val)
    train, val = _shards(folder, BuildOptions(clip_seconds=1.0, fps=10, size=(64, 64)))
    setting = Setting(
        name="cpc",
        config="cpc",
        overrides=(
            f"data.shards={train}",
            "method.num_negatives=32",
            "trainer.max_steps=240",
            "optimizer.warmup_epochs=0",
            "optimizer.warmup_steps=10",
            *_CPU,
        ),
        data={"train": train, "test": val},
        tasks=(LinearProbe((COST,)),),
        scorers=(LogMelProbe(train, val), NextMoments(val)),
    )
    columns = (
        Column("linear probe", "linear-probe", "audio", "accuracy"),
        Column("next moments found", "next-moments", "audio", "accuracy", "audio"),
    )
    title = "The digit that voices say that were not heard, and what they say next, among 32, %:"
    return Group("sounds", title, columns, (LOG_MEL, CHANCE), (setting,))


def words(folder: Path, num_train: int = 512, num_val: int = 96) -> Group:
    """CLIP and SigLIP: clips and their captions find each other."""
    if not (folder / "labels.csv").exists():
        build_corpus(folder, SyntheticOptions(num_train=num_train, num_val=num_val, seconds=1.0))
    train, val = _shards(folder, BuildOptions(clip_seconds=1.0, size=(64, 64)))
    tokenizer, dataset = folder / "tokenizer.json", open_samples(train)
    if not tokenizer.exists():
        captions = (captions_of(dataset.metadata(n))[0] for n in range(len(dataset)))
        train_tokenizer(captions, 300, tokenizer)
    settings = [
        Setting(
            name=name,
            config=name,
            overrides=(
                f"data.shards={train}",
                f"text.tokenizer={tokenizer}",
                "trainer.max_steps=120",
                *_CPU,
            ),
            data={"test": val},
            tasks=(Retrieval(load_protocol("default")),),
            scorers=(KnownCaptions(val),),
        )
        for name in ("clip", "siglip")
    ]
    columns = [
        Column(f"{metric}, {of}", "retrieval", of, metric, "same clip")
        for of in ("text → video", "video → text")
        for metric in ("R@1", "R@5")
    ]
    title = f"Held-out clips and their captions find each other among {num_val}, %:"
    return Group("words", title, tuple(columns), (KNOWN, CHANCE), tuple(settings))


def worlds(folder: Path, num_train: int = 256, num_val: int = 256) -> Group:
    """C-SWM on blocks that are pushed about."""
    if not (folder / "labels.csv").exists():
        build_blocks(folder, BlocksOptions(num_train=num_train, num_val=num_val))
    options = BuildOptions(clip_seconds=1.1, fps=10, size=(80, 80), require=())
    train, val = _shards(folder, options)
    setting = Setting(
        name="cswm",
        config="cswm",
        overrides=(f"data.shards={train}", "trainer.max_steps=1500", *_CPU),
        data={},
        tasks=(),
        scorers=(WorldModel(val),),
    )
    columns = [
        Column(f"{title}, {of}", "world-model", of, metric, of)
        for title, metric in (("H@1", "Hits@1"), ("MRR", "MRR"))
        for of in ("10 steps", "5 steps", "1 step")
    ]
    title = f"The state of an episode found among those foretold for {num_val}, some actions on, %:"
    return Group("worlds", title, tuple(columns), (KEPT, CHANCE), (setting,))


def paraphrases(folder: Path) -> Group:
    """SimCSE on sentences that say the same in other words."""
    if not (folder / "pairs.tsv").exists():
        write_paraphrases(folder, ParaphrasesOptions())
    setting = _simcse(
        "simcse_triples",
        folder,
        folder / "triples.tsv",
        "encoders.vocab_size=512",
        "text.max_tokens=24",
        "segment.captions=in_order",
        "plan.augmentation.draws=3",
        "method.layer_in_training_only=false",
        "optimizer.learning_rate=1e-3",
        "trainer.max_steps=150",
    )
    title = "Cosines of sentences against how many facts they share, correlation in %:"
    return Group("paraphrases", title, (SPEARMAN,), (COUNTS, CHANCE), (setting,))


def news(folder: Path, source: Path | None = None) -> Group:
    """SimCSE on news: passages to learn from, and texts that people compared.

    Raises:
        LeeCorpusError: the corpus is not there.
    """
    if not (folder / "pairs.tsv").exists():
        write_lee_corpus(folder, source)
    setting = _simcse(
        "simcse",
        folder,
        folder / "passages.tsv",
        "encoders.vocab_size=4096",
        "text.max_tokens=64",
        "trainer.max_steps=60",
    )
    title = "Cosines of texts against how alike people find them (Lee corpus), correlation in %:"
    return Group("news", title, (SPEARMAN,), (COUNTS, CHANCE), (setting,))


def _simcse(name: str, folder: Path, texts: Path, vocabulary: str, *overrides: str) -> Setting:
    """SimCSE on a file of texts, with a tokenizer of its words."""
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.exists():
        dataset = open_samples(texts)
        known = (t for n in range(len(dataset)) for t in captions_of(dataset.metadata(n)))
        train_tokenizer(known, int(vocabulary.partition("=")[2]), tokenizer)
    return Setting(
        name=name,
        config="simcse",
        overrides=(
            f"data.shards={texts}",
            "data.batch_size=32",
            f"text.tokenizer={tokenizer}",
            vocabulary,
            *overrides,
            *_CPU,
        ),
        data={},
        tasks=(),
        scorers=(Similarity(folder / "pairs.tsv"),),
    )
