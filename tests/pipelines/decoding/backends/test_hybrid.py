"""Two decoders on one queue: all samples are decoded, by both, to the same bytes."""

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import FrameRequest
from pipelines.decoding.backends.hybrid import HybridDecoder
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.batch_loader import Request
from pipelines.loading.loader import Loader


class Slow(PacketDecoder):
    """Hardware with few places: counts how many samples are in it at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.most = 0, 0
        self.lock = threading.Lock()

    def frames(self, *arguments: Any) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.02)
        super().frames(*arguments)
        with self.lock:
            self.inside -= 1


def test_both_decode_and_nothing_changes(small_dataset: Any) -> None:
    options = SegmentOptions(num_frames=6, decoder="av")
    requests = [Request(0, 0, np.arange(24), np.full((24, 1), 0.5))]
    expected = next(Loader(SegmentReader(small_dataset, options), 1, 0).deliveries(requests))
    reader = SegmentReader(small_dataset, options)
    hardware = Slow()
    reader.backend = hybrid = HybridDecoder(hardware, PacketDecoder(), places=2)
    found = next(Loader(reader, 4, 0).deliveries(requests))
    assert expected.batch.frames is not None
    assert found.batch.frames is not None
    assert torch.equal(expected.batch.frames, found.batch.frames)
    assert expected.batch.audio is not None
    assert found.batch.audio is not None
    assert torch.equal(expected.batch.audio, found.batch.audio)
    assert sum(hybrid.decoded.values()) == 24
    assert min(hybrid.decoded["hardware"], hybrid.decoded["software"]) > 0
    assert hardware.most <= 2


def test_a_place_is_given_back_after_a_failure(small_dataset: Any) -> None:
    class Failing(PacketDecoder):
        def frames(self, *arguments: Any) -> None:
            raise RuntimeError("broken")

    hybrid = HybridDecoder(Failing(), PacketDecoder(), places=1)
    sample = small_dataset.sample(0)
    request = FrameRequest(lambda *_: b"", sample.video, np.array([0]), 2, 2)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            hybrid.frames(request, np.empty((1, 6)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_both_halves_land_there(corpus: Any, tmp_path: Any) -> None:
    from tests.pipelines.coded_clips import coded_clip

    dataset = corpus.write(tmp_path, [{"mp4": coded_clip("h264", size=(256, 160))}] * 8)
    requests = [Request(0, s, np.arange(8), np.full((8, 1), s / 10)) for s in range(10)]
    batches = []
    for decoder in ("av", "hybrid"):
        options = SegmentOptions(num_frames=12, decoder=decoder)
        loader = Loader(SegmentReader(dataset, options, audio=False), 12, 2)
        batches.append([delivery.batch.frames for delivery in loader.deliveries(requests)])
        loader.close()
    for one, other in zip(*batches, strict=True):
        assert one is not None
        assert other is not None
        assert other.is_cuda
        assert torch.equal(one, other.cpu())
