"""The stream on every decoder of a GPU: order, resume, faults and memory as on the CPU.

Without a GPU the same is asked of what these decoders do on a CPU.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdt.plan import Plan
from pipelines.decoding.backends.choice import make_backend
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.overlap import Overlap
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.skips import SkipLog
from tests.pipelines.coded_clips import coded_clip

HAS_GPU = torch.cuda.is_available()
PLAN = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "time_shift": {"relation": "distinctive", "draws": 2},
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
)


def _torchcodec_is_missing() -> bool:
    try:
        make_backend("torchcodec")
    except ImportError:
        return True
    return False


on_gpu = [pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")]
has_dali = pytest.mark.skipif(not find_spec("nvidia.dali"), reason="needs NVIDIA DALI")
has_torchcodec = pytest.mark.skipif(_torchcodec_is_missing(), reason="needs torchcodec and FFmpeg")
DECODERS = [
    pytest.param("torchcodec", marks=has_torchcodec),
    pytest.param("dali", marks=[*(on_gpu if HAS_GPU else []), has_dali]),
    pytest.param("nvdec", marks=[*on_gpu, has_torchcodec]),
    pytest.param("hybrid", marks=[*on_gpu, has_torchcodec]),
]


@pytest.fixture(scope="module")
def members(corpus: Any) -> list[dict[str, bytes]]:
    """Twelve clips of 3 s, VP9, each with a sound of its own."""
    video = coded_clip("vp9")
    sounds = [
        corpus.members(corpus.clip(corpus.constant_rate(5, 3.0), corpus.noise(3.0, seed=i)))["flac"]
        for i in range(12)
    ]
    return [{"mp4": video, "flac": sound} for sound in sounds]


def stream_of(dataset: Any, decoder: str, **skip_log: Any) -> Stream:
    return Stream(
        dataset,
        PLAN,
        SegmentOptions(num_frames=8, decoder=decoder),
        StreamOptions(batch_size=3, threads=2),
        seed=4,
        skip_log=SkipLog(**skip_log),
    )


def described(batch: Any) -> Any:
    return batch.epoch, batch.step, batch.keys, batch.start_seconds.tolist(), batch.shift.tolist()


@pytest.mark.parametrize("decoder", DECODERS)
def test_order_and_resume_are_those_of_the_cpu(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path, decoder: str
) -> None:
    dataset = corpus.write(tmp_path, members)
    by_default, whole = stream_of(dataset, "av"), stream_of(dataset, decoder)
    assert whole.decoder == (decoder, "as configured")
    expected = [described(batch) for _ in range(2) for batch in by_default]
    batches = [batch for _ in range(2) for batch in whole]
    assert [described(batch) for batch in batches] == expected
    for start in (1, 4, 6):
        again = stream_of(dataset, decoder)
        again.seek(*divmod(start, len(again)))
        batch = next(iter(again))
        again.close()
        assert described(batch) == expected[start]
        for name in ("frames", "audio"):
            assert torch.equal(getattr(batch, name), getattr(batches[start], name))


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_corrupt_sample_in_every_batch_leaves_the_others(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path, decoder: str
) -> None:
    dataset = corpus.write(tmp_path, members)
    order = [batch.keys[:: PLAN.draws("time_shift")] for batch in stream_of(dataset, "av")]
    corrupt = {keys[1] for keys in order}
    for i in range(len(dataset)):
        sample = dataset.sample(i)
        if sample.key in corrupt:
            shard = tmp_path / sample.shard
            content = bytearray(shard.read_bytes())
            packets = sample.video.packets
            for offset, size in zip(packets.offset.tolist(), packets.size.tolist(), strict=True):
                content[offset + size // 2] ^= 0x10
            shard.write_bytes(content)
    stream = stream_of(dataset, decoder, most_share=1.0)
    found = [batch.keys[:: PLAN.draws("time_shift")] for batch in stream]
    assert found == [(keys[0], keys[2]) for keys in order]
    assert stream.finished_epoch is not None
    assert (stream.finished_epoch.delivered, stream.finished_epoch.skipped) == (8, 4)
    assert stream.skip_log.causes == {"checksum": 4}


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")
@pytest.mark.parametrize("decoder", [p for p in DECODERS if p.values[0] != "torchcodec"])
def test_a_rank_decodes_on_its_own_gpu(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path, decoder: str
) -> None:
    dataset = corpus.write(tmp_path, members)
    expected: Any = next(iter(stream_of(dataset, decoder)))
    with torch.cuda.device(1):
        stream = stream_of(dataset, decoder)
        transform = DeviceTransform(PLAN, DeviceOptions())
        kept: list[Any] = []

        def keep(raw: Any) -> Any:
            kept.append(raw)
            return transform(raw)

        batches = Overlap(keep, torch.device("cuda")).batches(iter(stream))
        batch = next(batches)
        batches.close()
        stream.close()
    assert batch.view("video").values.device == torch.device("cuda:1")
    assert kept[0].frames.device == torch.device("cuda:1")
    assert torch.equal(kept[0].frames.cpu(), expected.frames.cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("decoder", [p for p in DECODERS if p.values[0] != "torchcodec"])
def test_memory_is_bounded_over_ten_thousand_segments(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path, decoder: str
) -> None:
    stream = stream_of(corpus.write(tmp_path, members), decoder)
    segments, marks = 0, []
    while segments < 10_000:
        for batch in stream:
            segments += len(batch)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
        free, total = torch.cuda.mem_get_info()
        marks.append((segments, resident, total - free))
    warm = next(mark for mark in marks if mark[0] >= 2_000)
    growth = np.subtract(marks[-1][1:], warm[1:]) / 2**20
    assert growth.max() < 64, f"MiB on the host and on the GPU since {warm[0]} segments: {growth}"
