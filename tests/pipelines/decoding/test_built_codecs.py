"""Every codec of a build, read back: each frame is what PyAV decodes from the whole file."""

import io
from functools import partial
from importlib.util import find_spec
from typing import Any

import av
import numpy as np
import pytest
import torch

from pipelines.color import i420_to_rgb
from pipelines.decoding.backends.backend import FrameRequest
from pipelines.decoding.backends.choice import make_backend
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.batch_loader import Request
from pipelines.loading.loader import Loader
from shards import BuildOptions
from shards.encoding.video import VideoEncoder
from shards.media.color import coded_color
from shards.media.frame_fitting import FrameFitter
from shards.options import CODECS
from tests.pipelines.coded_clips import picture, planes_of, psnr

WIDTH, HEIGHT, NUM_FRAMES = 160, 144, 24
STARTS = np.array([[0.0, 0.37, 1.0]])


def rgb_source(number: int) -> Any:
    """A frame of RGB as a source gives it, in full colours."""
    planes = torch.from_numpy(picture(number, WIDTH, HEIGHT).reshape(1, -1))
    rgb = i420_to_rgb(planes, HEIGHT, WIDTH, "bt709", "limited", "bilinear")[0]
    pixels = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24")


def clip_of(codec: str) -> bytes:
    options = BuildOptions(
        codec=codec, size=(WIDTH, HEIGHT), fps=12, gop_seconds=0.5, crf=18, clip_seconds=2.0
    )
    encoder, fitter = VideoEncoder(options), FrameFitter(options, None, coded_color(codec))
    for number in range(NUM_FRAMES):
        encoder.push(fitter.fit(rgb_source(number)))
    return encoder.finish()


@pytest.fixture(scope="module")
def clips() -> dict[str, bytes]:
    return {codec: clip_of(codec) for codec in CODECS}


@pytest.fixture(scope="module")
def datasets(
    clips: dict[str, bytes], corpus: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("codecs")
    return {codec: corpus.write(folder / codec, [{"mp4": clips[codec]}]) for codec in clips}


def decoded(decoder: str, dataset: Any, wanted: list[int]) -> Any:
    sample = dataset.sample(0)
    out = np.zeros((len(wanted), WIDTH * HEIGHT * 3 // 2), np.uint8)
    read = partial(dataset.read, sample)
    request = FrameRequest(read, sample.video, np.array(wanted), HEIGHT, WIDTH)
    make_backend(decoder).frames(request, out)
    return out


@pytest.mark.parametrize("decoder", ["av", "torchcodec"])
@pytest.mark.parametrize("codec", CODECS)
def test_every_frame_is_that_of_the_whole_file(
    clips: dict[str, bytes], datasets: dict[str, Any], codec: str, decoder: str
) -> None:
    if decoder == "torchcodec":
        try:
            make_backend(decoder)
        except ImportError as missing:
            pytest.skip(str(missing))
    whole = planes_of(clips[codec])
    assert len(whole) == NUM_FRAMES
    np.testing.assert_array_equal(decoded(decoder, datasets[codec], list(range(24))), whole)
    some = [23, 5, 6, 13, 5]
    np.testing.assert_array_equal(decoded(decoder, datasets[codec], some), whole[some])


@pytest.mark.skipif(not find_spec("decord"), reason="needs decord")
@pytest.mark.parametrize("codec", [c for c in CODECS if c != "av1"])
def test_decord_gives_the_same_frames_but_for_rounding(
    clips: dict[str, bytes], datasets: dict[str, Any], codec: str
) -> None:
    some = [23, 5, 6, 13, 5]
    assert psnr(decoded("decord", datasets[codec], some), planes_of(clips[codec])[some], 255) > 45


@pytest.mark.parametrize("codec", CODECS)
def test_the_index_names_the_colours_and_they_are_right(
    datasets: dict[str, Any], codec: str
) -> None:
    track = datasets[codec].sample(0).video
    expected = ("bt601", "full") if codec == "mjpeg" else ("bt709", "limited")
    assert (track.color_matrix, track.color_range) == expected
    planes = torch.from_numpy(decoded("av", datasets[codec], list(range(NUM_FRAMES))))
    rgb = i420_to_rgb(planes, HEIGHT, WIDTH, *expected, "bilinear").permute(0, 2, 3, 1)
    source = np.stack([rgb_source(n).to_ndarray() for n in range(NUM_FRAMES)])
    assert psnr(rgb.numpy() * 255, source, 255) > (45 if codec == "mjpeg" else 38)


def test_jpegs_are_what_their_own_format_says(clips: dict[str, bytes]) -> None:
    """Read as pictures, without the container: a JPEG decoder takes them for BT.601, full range."""
    pillow = pytest.importorskip("PIL.Image")
    container: Any
    with av.open(io.BytesIO(clips["mjpeg"])) as container:
        packets = [bytes(packet) for packet in container.demux() if packet.size]
    assert len(packets) == NUM_FRAMES
    shown = np.stack([np.asarray(pillow.open(io.BytesIO(p)).convert("RGB")) for p in packets])
    source = np.stack([rgb_source(n).to_ndarray() for n in range(NUM_FRAMES)])
    assert psnr(shown, source, 255) > 38


@pytest.mark.skipif(not find_spec("nvidia.dali"), reason="needs NVIDIA DALI")
@pytest.mark.parametrize("codec", ["vp9", "mjpeg"])
def test_dali_without_a_gpu_reads_what_it_knows(datasets: dict[str, Any], codec: str) -> None:
    from pipelines.loading.dali_loader import DaliLoader
    from tests.pipelines.loading.test_dali_loader import rgb_of

    options = SegmentOptions(seconds=1.0, num_frames=12, decoder="av")
    reader = SegmentReader(datasets[codec], options, audio=False)
    batches = []
    for loader in (Loader(reader, 1, 1), DaliLoader(reader, 1, 1, "cpu")):
        (delivery,) = list(loader.deliveries([Request(0, 0, np.array([0]), STARTS)]))
        batches.append(rgb_of(delivery.batch))
        loader.close()
    assert psnr(batches[0], batches[1], peak=1.0) > 45
