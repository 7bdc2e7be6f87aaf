"""Which decoder is used, and that the reason is said."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

import pipelines.decoding.backends.choice as backends
from pipelines.decoding.backends import gpu
from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import FrameRequest
from pipelines.decoding.backends.choice import choose_decoder, make_backend
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader


def test_without_a_gpu_it_is_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_decoder() == ("av", "there is no NVIDIA GPU")


def test_with_a_gpu_it_is_nvdec_where_its_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_nvdec", lambda fallback: None)
    assert choose_decoder()[0] == "nvdec"

    def missing(fallback: str) -> Any:
        raise ImportError("torchcodec is missing: pip install it")

    monkeypatch.setattr(backends, "_nvdec", missing)
    name, reason = choose_decoder()
    assert name == "av"
    assert reason == "there is a GPU, but torchcodec is missing: pip install it"


@pytest.mark.parametrize("cause", [None, "vp9 yuv420p 160×48: Video not supported"])
def test_a_gpu_that_refuses_the_pictures_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, small_dataset: Any, cause: str | None
) -> None:
    asked = []

    class Nvdec(PacketDecoder):
        def refusal(self, request: FrameRequest) -> str | None:
            asked.append((request.track.codec, request.height, request.width))
            return cause

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(backends, "_nvdec", lambda fallback: None)
    monkeypatch.setattr(backends, "BACKENDS", {**backends.BACKENDS, "nvdec": lambda _: Nvdec()})
    reader = SegmentReader(small_dataset, SegmentOptions())
    assert asked == [("h264", 48, 160)]
    if cause is None:
        assert reader.decoder == "nvdec"
        assert isinstance(reader.backend, Nvdec)
    else:
        assert (reader.decoder, reader.decoder_reason) == (
            "av",
            f"there is a GPU, but not for this: {cause}",
        )
        assert not isinstance(reader.backend, Nvdec)
    assert SegmentReader(small_dataset, SegmentOptions(decoder="nvdec")).decoder == "nvdec"
    assert len(asked) == 1  # a name is taken at its word


def test_a_driver_without_its_decoder_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that was given the GPU for computing alone."""
    monkeypatch.setattr(gpu, "_NVCUVID", ("libthere-is-none.so.1",))
    with pytest.raises(ImportError, match=r"NVIDIA_DRIVER_CAPABILITIES=.*video.*libthere-is-none"):
        gpu.require_nvcuvid()
    monkeypatch.setattr(gpu, "_NVCUVID", ("libthere-is-none.so.1", "libc.so.6"))
    gpu.require_nvcuvid()


def test_every_thread_works_on_a_stream_of_its_own_and_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA is played: a stream is made on the GPU that is asked for, and waited for in the end."""
    told: list[tuple[str, Any]] = []

    class Stream:
        def __init__(self, device: torch.device) -> None:
            self.device = device

        def synchronize(self) -> None:
            told.append(("waited", self))

    @contextmanager
    def current(stream: Stream) -> Iterator[None]:
        told.append(("current", stream))
        yield

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", current)

    def work(fails: bool) -> None:
        with suppress(RuntimeError), gpu.own_stream(torch.device("cuda:1")):
            told.append(("worked", None))
            if fails:
                raise RuntimeError("a packet is broken")

    def twice() -> None:
        work(fails=False)
        work(fails=True)

    for _ in range(2):
        thread = threading.Thread(target=twice)
        thread.start()
        thread.join()
    assert [what for what, _ in told] == ["current", "worked", "waited"] * 4
    streams = [stream for what, stream in told if what == "waited"]
    assert streams == [streams[0]] * 2 + [streams[2]] * 2
    assert streams[0] is not streams[2]
    assert {str(stream.device) for stream in streams} == {"cuda:1"}


def test_frames_from_the_cpu_reach_a_tensor(small_dataset: Any) -> None:
    sample = small_dataset.sample(0)
    read, wanted = partial(small_dataset.read, sample), np.array([3, 1])
    array = np.zeros((2, 160 * 48 * 3 // 2), np.uint8)
    tensor = torch.zeros(array.shape, dtype=torch.uint8)
    for out in (array, tensor):
        gpu.decode_on_cpu(PacketDecoder(), FrameRequest(read, sample.video, wanted, 48, 160), out)
    assert array.any()
    np.testing.assert_array_equal(array, tensor.numpy())


def test_a_name_is_taken_at_its_word() -> None:
    assert choose_decoder("dali") == ("dali", "as configured")
    with pytest.raises(ValueError, match="'mplayer' is unknown, must be auto or one of av, torch"):
        choose_decoder("mplayer")
    with pytest.raises(ValueError, match="fallback = 'hope', must be one of count, refuse"):
        make_backend("av", "hope")


def test_a_reader_knows_which_one_it_has(small_dataset: Any) -> None:
    reader = SegmentReader(small_dataset, SegmentOptions(decoder="av"))
    assert (reader.decoder, reader.decoder_reason) == ("av", "as configured")
    assert reader.backend.fallbacks == {}
