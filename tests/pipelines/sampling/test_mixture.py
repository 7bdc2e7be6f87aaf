"""Mixed data sets: exact shares, each set's passes whole, and everything that one data set has."""

import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import StateError, Stream, StreamOptions
from pipelines.sampling.mixture import BLOCK, MixedOrder, Mixture, shares_of
from shards import Dataset

PLAN = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "time_shift": {"relation": "distinctive", "draws": 2},
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
)
SEGMENT = SegmentOptions(seconds=0.5, num_frames=4)


def all_visits(order: MixedOrder, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [order.visits(epoch, np.arange(order.epoch_length)) for epoch in range(epochs)]
    return np.concatenate([p.samples for p in parts]), np.concatenate([p.epochs for p in parts])


def test_every_block_holds_the_exact_shares_and_every_pass_is_a_permutation() -> None:
    order = MixedOrder(
        seed=5, sizes=(37, 900, 2500), shares=(150, 250, 600), epoch_length=3437, batch_size=7
    )
    samples, epochs = all_visits(order, 4)
    members = np.searchsorted([37, 937, 3437], samples, side="right")
    blocks = members[: len(members) // BLOCK * BLOCK].reshape(-1, BLOCK)
    for member, share in enumerate(order.shares):
        assert ((blocks == member).sum(axis=1) == share).all()
    for member, (first, size) in enumerate(((0, 37), (37, 900), (937, 2500))):
        own = samples[members == member] - first
        own_epochs = epochs[members == member]
        assert (own_epochs == np.arange(len(own)) // size).all()  # pass after pass, none mixed
        passes = own[: len(own) // size * size].reshape(-1, size)
        assert (np.sort(passes, axis=1) == np.arange(size)).all()
        if len(passes) > 1:
            assert (passes[0] != passes[1]).any()
    small = np.flatnonzero(members == 0)
    assert len(small) > 10 * 37  # the small one repeats while the large one is in its first pass
    assert epochs[members == 2].max() < 4


def test_a_place_is_computed_alone_as_it_is_among_others() -> None:
    order = MixedOrder(
        seed=0, sizes=(10, 10**9), shares=(1, 999), epoch_length=10**9 + 10, batch_size=1
    )
    places = np.array([0, 999, 1000, 123_456_789, 10**9])
    for epoch in (0, 3, 10**6):
        together = order.visits(epoch, places)
        for i, place in enumerate(places):
            alone = order.visits(epoch, place)
            assert (alone.samples[0], alone.epochs[0]) == (together.samples[i], together.epochs[i])
    with pytest.raises(ValueError, match=r"a place lies in \[0, 1000000010\)"):
        order.visits(0, 10**9 + 10)


@pytest.mark.parametrize(
    ("sizes", "shares", "batch_size"),
    [
        ((36, 500), (200, 800), 60),  # 12 of 36 at a time
        ((7, 40, 100), (100, 400, 500), 16),
        ((100, 6000), (20, 980), 1536),
        ((6, 9), (500, 500), 2),
    ],
)
def test_a_batch_within_which_a_pass_ends_holds_no_sample_twice(
    sizes: tuple[int, ...], shares: tuple[int, ...], batch_size: int
) -> None:
    repeats, ends = 0, 0
    length = sum(sizes) // batch_size * batch_size
    for seed in range(4):
        order = MixedOrder(seed, sizes, shares, length, batch_size)
        samples, epochs = all_visits(order, 12)
        members = np.searchsorted(np.cumsum(sizes), samples, side="right")
        for batch in range(0, len(samples), batch_size):
            of = slice(batch, batch + batch_size)
            for member, size in enumerate(sizes):
                mine = members[of] == member
                if mine.sum() <= size / 3:  # what is promised
                    repeats += mine.sum() - len(np.unique(samples[of][mine]))
                    ends += len(np.unique(epochs[of][mine])) == 2
        visits = epochs * sum(sizes) + samples
        assert len(np.unique(visits)) == len(visits), "every sample once in a pass"
    assert ends > 8
    assert repeats == 0


def test_an_epoch_of_a_mixture_is_whole_batches() -> None:
    with pytest.raises(ValueError, match="100 places is not one of whole batches of 16"):
        MixedOrder(0, (50, 50), (500, 500), 100, 16)


def test_shares_are_the_weights_by_largest_remainder() -> None:
    assert shares_of({"a": 0.7, "b": 0.3}) == {"a": 700, "b": 300}
    assert shares_of({"a": 1, "b": 1, "c": 1}) == {"a": 334, "b": 333, "c": 333}
    assert shares_of({"a": 2, "b": 1}) == shares_of({"a": 200, "b": 100}) == {"a": 667, "b": 333}
    assert shares_of({"only": 1e-9}) == {"only": 1000}
    assert shares_of({"a": 1e308, "b": 1e308}) == {"a": 500, "b": 500}


@pytest.mark.parametrize("weight", [0, -1.0, math.nan, math.inf, -math.inf])
def test_weights_that_are_none_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="of odd, must be a number greater than 0"):
        shares_of({"a": 1, "odd": weight})


def test_a_share_too_small_to_be_kept_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight = 0\.0001 of tiny is 0\.0001 of all weights"):
        shares_of({"big": 1, "tiny": 0.0001})


@pytest.fixture(scope="module")
def mixed(
    corpus: Any, small_members: list[dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Mixture:
    """Six clips that come as often as the twenty others."""
    folder = tmp_path_factory.mktemp("mixed")
    parts = {
        "many": corpus.write(folder / "many", small_members[6:26]),
        "few": corpus.write(folder / "few", small_members[:6]),
    }
    return Mixture(parts, {"many": 1, "few": 1})


def test_a_set_that_is_smaller_than_its_share_of_a_batch_is_refused(mixed: Mixture) -> None:
    mixed.order(0, 12)  # six of each
    with pytest.raises(
        ValueError, match=r"'few' has 6 samples, and of a batch of 13 some 6.5 place"
    ):
        mixed.order(0, 13)


def stream_of(dataset: Mixture, **changes: Any) -> Stream:
    options = StreamOptions(batch_size=8, threads=changes.pop("threads", 2), prefetch=1)
    settings: dict[str, Any] = {"plan": PLAN, "segment_options": SEGMENT, "seed": 3} | changes
    return Stream(dataset, stream_options=options, **settings)


def assert_equal(a: RawBatch, b: RawBatch) -> None:
    for name in ("frames", "audio", "sample", "shift", "start_seconds", "data_epoch"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert (a.keys, a.epoch, a.step) == (b.keys, b.epoch, b.step)


def test_a_mixture_reads_like_one_data_set(mixed: Mixture) -> None:
    assert len(mixed) == 26
    assert mixed.sample(0).shard == "few/shard-000000.tar"
    assert mixed.sample(6).shard == "many/shard-000000.tar"
    assert mixed.metadata(7) == {}
    with pytest.raises(IndexError, match="samples 0 to 25; asked for 26"):
        mixed.sample(26)
    for number, name, own in ((2, "few", 2), (11, "many", 5)):
        sample, part = mixed.sample(number), mixed.data_sets[name]
        member = sample.members["flac"]
        expected = part.read_member(part.sample(own), "flac")
        assert mixed.read_member(sample, "flac") == expected
        assert mixed.read(sample, member.offset, member.size) == expected
        assert mixed.reader(sample, [])(member.offset, member.size) == expected
    copy = pickle.loads(pickle.dumps(mixed))
    assert copy.fingerprint == mixed.fingerprint
    assert copy.read_member(copy.sample(11), "flac") == expected
    batches = list(evaluation_batches(mixed, PLAN.modalities, SEGMENT))
    assert torch.cat([b.sample for b in batches]).tolist() == list(range(26))


def test_its_stream_resumes_anywhere_bit_for_bit_with_other_threads(mixed: Mixture) -> None:
    unbroken, whole = [], stream_of(mixed)
    for _ in range(3):
        unbroken += list(whole)
    assert [(b.epoch, b.step) for b in unbroken] == [(e, s) for e in range(3) for s in range(3)]
    epochs = torch.cat([b.data_epoch for b in unbroken if b.data_epoch is not None])
    assert epochs.max() >= 4  # 72 places, half of them to six clips
    for stop in range(9):
        first = stream_of(mixed)
        for _ in range(stop):
            next(iter(first))
        second = stream_of(mixed, threads=1 + stop % 3)
        second.load_state_dict(first.state_dict())
        assert_equal(next(iter(second)), unbroken[stop])
        first.close()
        second.close()


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_the_same_global_batches(mixed: Mixture, num_ranks: int) -> None:
    whole = list(stream_of(mixed))
    shares = [list(stream_of(mixed, rank=r, num_ranks=num_ranks)) for r in range(num_ranks)]
    for step, expected in enumerate(whole):
        parts = [share[step] for share in shares]
        for name in ("frames", "audio", "sample", "shift", "start_seconds", "data_epoch"):
            got = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(got, getattr(expected, name))


def test_a_second_visit_in_one_epoch_has_draws_of_its_own(mixed: Mixture) -> None:
    batches = list(stream_of(mixed))
    visits: dict[int, list[tuple[int, float, torch.Tensor]]] = {}
    transform = DeviceTransform(PLAN, DeviceOptions(), seed=3)
    for batch in batches:
        assert batch.data_epoch is not None
        video = transform(batch).view("video").values
        for row in range(0, len(batch), 2):
            seen = visits.setdefault(int(batch.sample[row]), [])
            start = float(batch.start_seconds[row])
            seen.append((int(batch.data_epoch[row]), start, video[row]))
    twice = [seen for seen in visits.values() if len(seen) > 1]
    assert len(twice) == 6
    for (epoch, start, values), (other_epoch, other_start, other_values), *_ in twice:
        assert epoch != other_epoch
        assert start != other_start
        assert not torch.equal(values, other_values)


@pytest.mark.parametrize("weights", [{"many": 2, "few": 1}, {"many": 1, "few": 2.5}])
def test_changed_weights_are_refused_with_both_values(
    mixed: Mixture, weights: dict[str, float]
) -> None:
    other = Mixture(mixed.data_sets, weights)
    text = f"weights 'few=1.0, many=1.0' and this one 'few={float(weights['few'])}, many="
    with pytest.raises(StateError, match=text):
        stream_of(other).load_state_dict(stream_of(mixed).state_dict())


def test_another_data_set_of_the_mixture_is_refused(mixed: Mixture, small_dataset: Dataset) -> None:
    other = Mixture(mixed.data_sets | {"few": small_dataset}, mixed.weights)
    prefix = small_dataset.fingerprint[:8]
    with pytest.raises(StateError, match=f"dataset 'few=.*and this one 'few={prefix}"):
        stream_of(other).load_state_dict(stream_of(mixed).state_dict())


def test_mixtures_that_cannot_be_are_refused(small_dataset: Dataset) -> None:
    with pytest.raises(ValueError, match="data sets a with weights for b: the names must be"):
        Mixture({"a": small_dataset}, {"b": 1})
    with pytest.raises(ValueError, match="'a/b': a name of a mixture has no slash"):
        Mixture({"a/b": small_dataset}, {"a/b": 1})
    with pytest.raises(ValueError, match="at least one data set"):
        Mixture({}, {})


def test_sizes_that_differ_need_a_frame_size(corpus: Any, mixed: Mixture, tmp_path: Path) -> None:
    times = corpus.constant_rate(10, 1.2)
    clip = corpus.clip(times, corpus.noise(1.2), size=(176, 64))
    other = corpus.write(tmp_path, [corpus.members(clip)] * 8)
    parts = {"large": other, "small": mixed.data_sets["many"]}
    mixture = Mixture(parts, {"large": 1, "small": 1})
    with pytest.raises(ValueError, match=r"large has 176×64.*160×48.*set segment.frame_size"):
        stream_of(mixture)
    scaled = stream_of(mixture, segment_options=replace(SEGMENT, frame_size=(64, 32)))
    batch = next(iter(scaled))
    assert batch.frames is not None
    assert batch.frames.shape[-1] == 64 * 32 * 3 // 2
    scaled.close()


def test_colours_that_differ_need_the_decoder_that_converts(
    corpus: Any, mixed: Mixture, tmp_path: Path
) -> None:
    options = {"bf": "0", "g": "5", "color_range": "pc", "colorspace": "bt709"}
    clip = corpus.clip(corpus.constant_rate(10, 1.2), corpus.noise(1.2), codec_options=options)
    other = corpus.write(tmp_path, [corpus.members(clip)] * 8)
    mixture = Mixture({"a": mixed.data_sets["many"], "b": other}, {"a": 1, "b": 1})
    stream = stream_of(mixture)
    batches = list(stream)
    assert {(b.color_matrix, b.color_range) for b in batches} == {("bt601", "limited")}
    assert stream.skip_log.seen.skipped == 0
    pytest.importorskip("decord")
    with pytest.raises(ValueError, match="a has 160×48 bt601 limited and b has 160×48 bt709 full"):
        stream_of(mixture, segment_options=replace(SEGMENT, decoder="decord"))
