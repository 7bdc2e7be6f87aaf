"""torchcodec beside the default decoder, on the same packets: the same bytes."""

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import FrameRequest, MediaError
from pipelines.decoding.backends.choice import make_backend
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.batch_loader import Request
from pipelines.loading.loader import Loader
from pipelines.skips import MismatchError
from tests.pipelines.coded_clips import ENCODERS, coded_clip, psnr

try:
    make_backend("torchcodec")
except ImportError as missing:
    pytest.skip(str(missing), allow_module_level=True)

HAS_GPU = torch.cuda.is_available()
SIZE = (192, 160)


@pytest.fixture(scope="module")
def datasets(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("coded")
    return {
        codec: corpus.write(folder / codec, [{"mp4": coded_clip(codec, size=SIZE)}])
        for codec in ENCODERS
    }


def decoded(backend: Any, dataset: Any, wanted: Any, size: tuple[int, int] = SIZE) -> Any:
    sample = dataset.sample(0)
    width, height = size
    out: Any = np.zeros((len(wanted), width * height * 3 // 2), np.uint8)
    if backend.device != "cpu":
        out = torch.from_numpy(out).to(backend.device)
    packets = np.argsort(sample.video.packets.pts, kind="stable")[np.array(wanted)]
    read = partial(dataset.read, sample)
    backend.frames(FrameRequest(read, sample.video, packets, height, width), out)
    return out.cpu().numpy() if isinstance(out, torch.Tensor) else out


@pytest.mark.parametrize("codec", ENCODERS)
def test_planes_are_those_of_the_default_decoder(datasets: dict[str, Any], codec: str) -> None:
    if codec == "av1" and not _decodes_av1():
        pytest.skip("this FFmpeg has no AV1 decoder")
    wanted = [12, 13, 40, 13, 2]
    found = decoded(make_backend("torchcodec"), datasets[codec], wanted)
    np.testing.assert_array_equal(found, decoded(PacketDecoder(), datasets[codec], wanted))


def _decodes_av1() -> bool:
    decoders = importlib.import_module("torchcodec.decoders")
    try:
        decoders.VideoDecoder(coded_clip("av1", num_frames=2))[0]
    except RuntimeError:
        return False
    return True


def test_another_size_is_left_to_the_default_decoder_and_counted(datasets: dict[str, Any]) -> None:
    backend: Any = make_backend("torchcodec")
    found = decoded(backend, datasets["h264"], [3, 4], size=(80, 48))
    expected = decoded(PacketDecoder(), datasets["h264"], [3, 4], size=(80, 48))
    np.testing.assert_array_equal(found, expected)
    assert backend.fallbacks == {"another size": 1}
    sample = datasets["h264"].sample(0)
    read = partial(datasets["h264"].read, sample)
    first = np.array([0])
    assert backend.refusal(FrameRequest(read, sample.video, first, 48, 80)) == "another size"
    assert backend.refusal(FrameRequest(read, sample.video, first, 160, 192)) is None


def test_a_codec_that_no_file_can_be_made_of_is_left_to_the_default_decoder(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = corpus.write(tmp_path, [{"mp4": coded_clip("h264", num_frames=4, size=SIZE)}])
    monkeypatch.setattr("pipelines.decoding.backends.torchcodec.CODEC_IDS", {})
    backend: Any = make_backend("torchcodec")
    with pytest.warns(UserWarning, match="decoded on the CPU: codec h264"):
        found = decoded(backend, dataset, [3, 1])
    np.testing.assert_array_equal(found, decoded(PacketDecoder(), dataset, [3, 1]))
    assert backend.fallbacks == {"codec h264": 1}
    with pytest.raises(MismatchError, match=r"torchcodec does not decode codec h264; .*'count'"):
        decoded(make_backend("torchcodec", "refuse"), dataset, [3])


def test_other_pixel_formats_are_left_to_the_default_decoder(datasets: dict[str, Any]) -> None:
    dataset = datasets["h264"]
    sample = dataset.sample(0)
    track = replace(sample.video, pixel_format="yuv444p")
    backend: Any = make_backend("torchcodec")
    out = np.zeros((1, 192 * 160 * 3 // 2), np.uint8)
    request = FrameRequest(partial(dataset.read, sample), track, np.array([3]), 160, 192)
    with pytest.warns(UserWarning, match="decoded on the CPU: pixel format yuv444p"):
        backend.frames(request, out)
    assert backend.fallbacks == {"pixel format yuv444p": 1}
    np.testing.assert_array_equal(out, decoded(PacketDecoder(), dataset, [3]))


def test_packets_that_do_not_decode_are_the_samples_fault(corpus: Any, tmp_path: Path) -> None:
    data = bytearray(coded_clip("vp9"))
    track = corpus.write(tmp_path / "whole", [{"mp4": bytes(data)}]).sample(0)
    for packet in (12, 13, 14):
        start = int(track.video.packets.offset[packet]) - track.members["mp4"].offset
        data[start : start + 16] = bytes(16)
    dataset = corpus.write(tmp_path / "broken", [{"mp4": bytes(data)}])
    with pytest.raises(MediaError, match=r"decode: (torchcodec, vp9: |\d+ of \d+ frames)"):
        decoded(make_backend("torchcodec"), dataset, [12, 13])


def test_a_loader_of_it_gives_the_same_batch(datasets: dict[str, Any]) -> None:
    request = Request(0, 0, np.array([0, 0]), np.array([[0.1, 0.9], [0.5, 0.0]]))
    batches = []
    for decoder in ("av", "torchcodec"):
        options = SegmentOptions(num_frames=12, decoder=decoder)
        loader = Loader(SegmentReader(datasets["h264"], options, audio=False), 2, 0)
        batches += [delivery.batch.frames for delivery in loader.deliveries([request])]
        loader.close()
    by_default, found = batches
    assert by_default is not None
    assert found is not None
    assert torch.equal(by_default, found)


def test_missing_libraries_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise RuntimeError("Could not load libtorchcodec. Likely causes:\n 1. FFmpeg …")

    monkeypatch.setattr("pipelines.decoding.backends.torchcodec.import_module", missing)
    message = r"gdt-stream\[torchcodec\].*apt-get install ffmpeg.*Could not load libtorchcodec"
    with pytest.raises(ImportError, match=message):
        make_backend("torchcodec")


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_nvdec_without_a_gpu_says_so() -> None:
    with pytest.raises(ValueError, match="'nvdec' needs an NVIDIA GPU, and there is none"):
        make_backend("nvdec")


gpu = pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("codec", ["h264", "h264_b_frames", "hevc", "vp9", "av1"])
def test_nvdec_equals_the_cpu(corpus: Any, tmp_path: Path, codec: str) -> None:
    size = (256, 160)
    dataset = corpus.write(tmp_path, [{"mp4": coded_clip(codec, size=size)}])
    backend = make_backend("nvdec", "refuse")
    wanted = [12, 13, 40, 13, 2]
    found = decoded(backend, dataset, wanted, size)
    assert psnr(found, decoded(PacketDecoder(), dataset, wanted, size), peak=255) > 45


@pytest.mark.gpu
@gpu
def test_what_nvdec_refuses_is_counted_or_refused(corpus: Any, tmp_path: Path) -> None:
    dataset = corpus.write(tmp_path, [{"mp4": coded_clip("vp9", size=(64, 48))}])  # too small
    backend = make_backend("nvdec", "count")
    with pytest.warns(UserWarning, match="decoded on the CPU: vp9"):
        found = decoded(backend, dataset, [3, 4], (64, 48))
    np.testing.assert_array_equal(found, decoded(PacketDecoder(), dataset, [3, 4], (64, 48)))
    assert sum(backend.fallbacks.values()) == 1
    with pytest.raises(MismatchError, match=r"NVDEC does not decode vp9 .*fallback = 'count'"):
        decoded(make_backend("nvdec", "refuse"), dataset, [3], (64, 48))


@pytest.mark.gpu
@gpu
def test_batches_of_nvdec_stay_what_they_are(corpus: Any, tmp_path: Path) -> None:
    dataset = corpus.write(tmp_path, [{"mp4": coded_clip("h264", size=(256, 160))}] * 4)
    places = np.random.default_rng(0).random((50, 4, 2))
    requests = [Request(0, step, np.arange(4), places[step]) for step in range(50)]
    batches = []
    for decoder in ("av", "nvdec"):
        options = SegmentOptions(num_frames=12, decoder=decoder)
        loader = Loader(SegmentReader(dataset, options, audio=False), 4, 3)
        # held on to one step longer, as a training step does
        batches.append([delivery.batch.frames for delivery in loader.deliveries(requests)])
        loader.close()
    for one, other in zip(*batches, strict=True):
        assert other is not None
        assert other.is_cuda
        assert psnr(one.flatten(0, 1).numpy(), other.flatten(0, 1).cpu().numpy(), 255) > 45
