"""Batches of one group: every sample once, batches pure, resumable, and refusals by name."""

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.stream import StateError, Stream, StreamOptions
from pipelines.sampling.groups import GroupedOrder, groups_of
from pipelines.sampling.mixture import Mixture
from shards import Dataset

SIZES = (40, 25, 16, 3, 2, 1)
GROUPS = np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int64)


def test_every_sample_comes_once_and_a_batch_is_of_one_group() -> None:
    order, batch_size = GroupedOrder(5, GROUPS, 8), 8
    epochs = [order.visits(epoch, np.arange(len(GROUPS))).samples for epoch in range(20)]
    for samples in epochs:
        assert sorted(samples.tolist()) == list(range(len(GROUPS)))
        batches = GROUPS[samples[: len(GROUPS) // batch_size * batch_size]].reshape(-1, batch_size)
        mixed = sum(len(set(batch)) > 1 for batch in batches.tolist())
        assert mixed <= len(SIZES)  # where one group ends and the next begins
        inside = [len(set(GROUPS[samples][i : i + 2])) for i in range(len(samples) - 1)]
        assert sum(count > 1 for count in inside) <= 2 * len(SIZES) + len(batches)
    assert all((a != b).any() for a, b in pairwise(epochs))
    firsts = [int(GROUPS[samples[0]]) for samples in epochs]
    assert len(set(firsts)) > 2  # batches are shuffled, too
    halves = np.array([(GROUPS[samples[:48]] == 0).sum() for samples in epochs])
    assert halves.std() > 0


def test_a_place_is_a_pure_function() -> None:
    order = GroupedOrder(5, GROUPS, 8)
    whole = {epoch: order.visits(epoch, np.arange(80)).samples for epoch in (0, 1, 7, 2)}
    again = pickle.loads(pickle.dumps(order))
    for epoch, place in ((7, 3), (0, 79), (2, 0), (1, 40), (0, 1)):
        visits = again.visits(epoch, place)
        assert (visits.samples.tolist(), visits.epochs.tolist()) == ([whole[epoch][place]], [epoch])
    other = GroupedOrder(6, GROUPS, 8).visits(0, np.arange(80)).samples
    assert (other != whole[0]).any()


PLAN = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video"]},
        "augmentation": {"relation": "invariant", "draws": 2},
    }
)


@pytest.fixture(scope="module")
def spoken(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """12 clips of three speakers, which a labels file named."""
    members = corpus.members(corpus.clip(corpus.constant_rate(8, 0.5), None))
    samples = [
        members | {"json": json.dumps({"metadata": {"speaker": f"s{i % 3}"}}).encode()}
        for i in range(12)
    ]
    dataset: Dataset = corpus.write(tmp_path_factory.mktemp("spoken"), samples)
    return dataset


def stream_of(dataset: Any, **options: Any) -> Stream:
    segment = SegmentOptions(seconds=0.25, num_frames=1)
    return Stream(dataset, PLAN, segment, StreamOptions(batch_size=4, **options), seed=1)


def test_a_stream_keeps_to_one_speaker_and_resumes_exactly(spoken: Dataset) -> None:
    stream = stream_of(spoken, group_by="speaker")
    batches = [batch.sample.tolist() for _ in range(3) for batch in stream]
    stream.close()
    assert all(len({sample % 3 for sample in batch}) == 1 for batch in batches)
    assert sorted(sample for batch in batches[:3] for sample in batch) == list(range(12))
    for position in range(9):
        resumed = stream_of(spoken, group_by="speaker")
        resumed.seek(*divmod(position, 3))
        assert next(iter(resumed)).sample.tolist() == batches[position]
        resumed.close()
    with pytest.raises(StateError, match=r"saved stream has group_by None and this one 'speaker'"):
        stream.load_state_dict(stream_of(spoken).state_dict())


def test_what_cannot_be_grouped_is_refused_by_name(
    spoken: Dataset, corpus: Any, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"group_by = 'film': sample 'clip-0000' of .* has no such"
    ):
        stream_of(spoken, group_by="film")
    with pytest.raises(ValueError, match=r"group_by = 'speaker' with data.mix: .* shards merge"):
        stream_of(Mixture({"a": spoken, "b": spoken}, {"a": 1.0, "b": 1.0}), group_by="speaker")
    with pytest.raises(ValueError, match=r"group_by = '', must be a key"):
        StreamOptions(group_by="")
    members = corpus.members(corpus.clip(corpus.constant_rate(8, 0.5), None))
    damaged = corpus.write(tmp_path, [members | {"json": text} for text in (b'{"a": 1}', b"{")])
    assert groups_of(damaged, "a").tolist() == [0, 1]  # what is damaged is skipped in its turn
