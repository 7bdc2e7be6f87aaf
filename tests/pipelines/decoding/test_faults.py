"""What goes wrong with one sample's bytes is its skip, by stage and cause; nothing else is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.decoding.backends.backend import MediaError
from pipelines.decoding.faults import sample_faults
from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.evaluation import evaluation_batches
from pipelines.skips import MismatchError, SkipError, SkipLog
from shards import Dataset, IndexedSample, ShardError

SEGMENT = SegmentOptions(seconds=0.5, num_frames=4, decoder="av")
CULPRIT = 3


def with_track(dataset: Dataset, kind: str, **changes: Any) -> Dataset:
    """The data set, with this changed in what the index says of a track of sample `CULPRIT`."""
    original = dataset.sample

    def sample(i: int) -> IndexedSample:
        found = original(i)
        return replace(found, **{kind: replace(getattr(found, kind), **changes)})

    changed = Dataset.open(dataset.path)
    changed.sample = lambda i: (sample if i == CULPRIT else original)(i)  # type: ignore[method-assign]
    return changed


def skip_of(dataset: Dataset, tmp_path: Path) -> str:
    """The one skip of the data set, all other samples of which come."""
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    batches = evaluation_batches(dataset, ("video", "audio"), SEGMENT, skip_log=skip_log)
    seen = torch.cat([batch.sample for batch in batches]).tolist()
    assert seen == [i for i in range(26) if i != CULPRIT]
    (line,) = (tmp_path / "skips.jsonl").read_text().splitlines()
    return line


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("audio", {"extradata": b"junk"}, '"open", "cause": "flac of 1 channels: its codec header'),
        ("audio", {"num_channels": 9999, "extradata": b""}, '"open", "cause": "flac of 9999 chan'),
        ("audio", {"codec": "nonsense"}, '"decode", "cause": "this PyAV has no decoder for \''),
        ("audio", {"time_base": 0}, '"decode", "cause": "an unexpected '),
    ],
)
def test_what_an_index_says_wrongly_of_a_sample_is_its_skip(
    small_dataset: Dataset, tmp_path: Path, kind: str, changes: dict[str, Any], text: str
) -> None:
    dataset = with_track(small_dataset, kind, **changes)
    assert f'"key": "clip-{CULPRIT:04d}", "stage": {text}' in skip_of(dataset, tmp_path)


def test_a_track_whose_frames_are_all_hidden_is_a_skip(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    track = small_dataset.sample(CULPRIT).video
    assert track is not None
    hidden = replace(track.packets, discard=np.ones_like(track.packets.discard))
    dataset = with_track(small_dataset, "video", packets=hidden)
    found = skip_of(dataset, tmp_path)
    assert '"stage": "index", "cause": "none of its 12 frames is to be shown"' in found


def test_audio_without_a_time_is_a_skip(
    small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As damaged AAC leaves its decoder."""
    from pipelines.decoding.backends import av as backend

    original = backend._decode
    checksums = small_dataset.sample(CULPRIT).audio.packets.crc32.tolist()  # type: ignore[union-attr]

    def timeless(context: Any, read: Any, track: Any, first: int, stop: int) -> Any:
        for frame in original(context, read, track, first, stop):
            if track.kind == "audio" and track.packets.crc32.tolist() == checksums:
                frame.pts = None
            yield frame

    monkeypatch.setattr(backend, "_decode", timeless)
    found = skip_of(Dataset.open(small_dataset.path), tmp_path)
    assert '"stage": "decode", "cause": "flac: a frame of audio has no time"' in found


SAMPLE = IndexedSample("clip", "shard-000000.tar", {}, None, None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MediaError("cover", "too short"), "shard-000000.tar: sample 'clip': cover: too short"),
        (ShardError("it ends early"), "sample 'clip': read: it ends early"),
        (OSError(5, "Input/output error"), "read: an unexpected OSError: .*Input/output error"),
        (KeyError("x"), r"decode: an unexpected KeyError: 'x' \(test_faults.py, line \d+\)"),
        (IndexError("out of\nbounds"), "decode: an unexpected IndexError: out of bounds"),
    ],
)
def test_every_error_of_a_sample_names_stage_and_cause(error: Exception, text: str) -> None:
    with pytest.raises(SkipError, match=text) as caught, sample_faults(SAMPLE):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        KeyboardInterrupt(),
        MismatchError("set segment.frame_size"),
        torch.OutOfMemoryError("CUDA out of memory"),
        SkipError(shard="s", key="k", stage="cover", cause="short"),
    ],
)
def test_what_is_not_the_samples_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, sample_faults(SAMPLE):
        raise error
    assert caught.value is error
