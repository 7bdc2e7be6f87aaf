"""Captions on their way from shards to token rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.options import Text, VideoAugment
from pipelines.device.tokens import Tokens, train_tokenizer
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.sampling.draws import uniform
from pipelines.skips import SkipLog
from shards import Dataset

SEGMENT = SegmentOptions(seconds=0.5, num_frames=3, decoder="av")
#: By sample: one in the json, several, one in a .txt member, none.
CAPTIONS = [("one",), ("first", "second", "third"), ("from a file",), ()] * 2


def plan_of(**factors: Any) -> Plan:
    tables: dict[str, Any] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video", "text"], "pairs": "cross"},
    }
    return Plan.from_tables(tables | factors)


SHIFTS = plan_of(
    time_shift={"relation": "invariant", "draws": 2},
    time_reversal={"relation": "invariant", "draws": 2},
)


@pytest.fixture(scope="module")
def dataset(
    corpus: Any, small_members: list[dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    samples = []
    for captions, members in zip(CAPTIONS, small_members, strict=False):
        sample = {"mp4": members["mp4"]}
        if captions == ("from a file",):
            sample["txt"] = b"from a file\n"
        elif captions:
            about = {"captions": captions} if len(captions) > 1 else {"caption": captions[0]}
            sample["json"] = json.dumps(about).encode()
        samples.append(sample)
    found: Dataset = corpus.write(tmp_path_factory.mktemp("captions"), samples)
    return found


def stream_of(dataset: Dataset, log: SkipLog | None = None, **options: Any) -> Stream:
    settings = StreamOptions(batch_size=8, **options)
    return Stream(dataset, SHIFTS, SEGMENT, settings, seed=3, skip_log=log)


def test_one_of_a_samples_captions_is_drawn_each_epoch(dataset: Dataset) -> None:
    stream = stream_of(dataset)
    seen = set()
    for epoch in range(8):
        (batch,) = stream
        assert batch.captions is not None
        assert len(batch.captions) == len(batch) == 6 * 2
        for sample, (caption,) in zip(batch.sample.tolist(), batch.captions, strict=True):
            place = float(uniform(3, epoch, sample, "caption"))
            assert caption == CAPTIONS[sample][int(place * len(CAPTIONS[sample]))]
            seen.add((sample, caption))
    assert {caption for sample, caption in seen if sample == 1} == {"first", "second", "third"}


def test_a_sample_without_caption_is_a_skip_that_names_it(dataset: Dataset, tmp_path: Path) -> None:
    log = SkipLog(tmp_path / "skips.jsonl")
    stream = stream_of(dataset, log)
    list(stream)
    assert stream.finished_epoch is not None
    assert (stream.finished_epoch.delivered, stream.finished_epoch.skipped) == (6, 2)
    lines = [json.loads(line) for line in (tmp_path / "skips.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == ["clip-0003", "clip-0007"]
    assert {line["stage"] for line in lines} == {"caption"}
    assert "it has no caption: neither `caption` nor `captions`" in lines[0]["cause"]


@pytest.mark.slow(seconds=10)
def test_workers_bring_the_same_captions(dataset: Dataset) -> None:
    here, isolated = (next(iter(stream_of(dataset, isolate=isolate))) for isolate in (False, True))
    assert here.captions == isolated.captions


def test_rows_of_text_are_the_plans_grid(dataset: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    train_tokenizer([text for captions in CAPTIONS for text in captions], 300, file)
    options = DeviceOptions(
        video_augment=VideoAugment(size=16), text=Text(str(file), max_tokens=12)
    )
    (raw,) = stream_of(dataset)
    batch = DeviceTransform(SHIFTS, options)(raw)
    text, video = batch.view("text"), batch.view("video")
    assert raw.captions is not None
    expected = Tokens(options.text)([text for (text,) in raw.captions]).repeat_interleave(2, 0)
    assert torch.equal(text.values, expected)
    modality = SHIFTS.names.index("modality")
    assert text.codes[:, modality].unique().tolist() == [1]
    others = [i for i in range(len(SHIFTS.names)) if i != modality]
    assert torch.equal(text.codes[:, others], video.codes[:, others])


def test_evaluation_takes_the_first_caption(dataset: Dataset) -> None:
    batches = evaluation_batches(
        dataset, ("video", "text"), SEGMENT, samples=np.array([2, 1]), segments_per_clip=2
    )
    (batch,) = batches
    assert batch.captions == (("from a file",),) * 2 + (("first",),) * 2


def test_captions_in_order_are_one_for_each_augmentation(dataset: Dataset, tmp_path: Path) -> None:
    """Without a picture decoded; a clip with fewer captions is skipped with both counts."""
    plan = plan_of(
        modality={"relation": "invariant", "values": ["text"]},
        augmentation={"relation": "invariant", "draws": 3},
    )
    segment = SegmentOptions(captions="in_order")
    log = SkipLog(tmp_path / "skips.jsonl")
    stream = Stream(dataset, plan, segment, StreamOptions(batch_size=8), seed=3, skip_log=log)
    (raw,) = stream
    assert raw.frames is raw.audio is None
    assert raw.captions == (CAPTIONS[1],) * 2
    causes = {json.loads(line)["cause"] for line in (tmp_path / "skips.jsonl").open()}
    in_order = "segment.captions = 'in_order' takes one for each of 3 draws of plan.augmentation"
    assert f"it has 1 caption, and {in_order}" in causes
    file = tmp_path / "tokenizer.json"
    train_tokenizer([text for captions in CAPTIONS for text in captions], 300, file)
    text = Text(str(file), max_tokens=12)
    rows = DeviceTransform(plan, DeviceOptions(text=text))(raw).view("text")
    assert torch.equal(rows.values, Tokens(text)(CAPTIONS[1]).repeat(2, 1))
    assert rows.codes[:, plan.names.index("augmentation")].tolist() == [0, 1, 2] * 2
    (batch,) = evaluation_batches(dataset, ("text",), segment, samples=np.array([2, 1]))
    assert batch.captions == (("from a file",), CAPTIONS[1])  # of which the first is taken
    with pytest.raises(ValueError, match=r"captions = 'all', must be one of one, in_order"):
        SegmentOptions(captions="all")
