"""DALI beside the default decoder: the same rows, the same frames, the same skips.

Without a GPU its CPU graph runs, on VP9; with one, NVDEC. The oracle is the `av` backend.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install 'gdt-stream[dali]'")

from benchmarks.textured_shards import write_textured_shards
from gdt.plan import Plan
from pipelines.color import i420_to_rgb, rgb_from_pixels
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.batch_loader import Delivery, Request
from pipelines.loading.dali_loader import DaliLoader
from pipelines.loading.loader import Loader
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.skips import SkipLog
from shards.encoding.audio import encode_audio
from tests.pipelines.coded_clips import coded_clip, psnr

OPTIONS = SegmentOptions(seconds=1.0, num_frames=12, decoder="av")
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(scope="module")
def members(corpus: Any) -> list[dict[str, bytes]]:
    """Eight clips of 3 s, each a stretch of the same film with a sound of its own."""
    video = coded_clip("vp9")
    flac = [corpus.members(_sound_of(corpus, seed))["flac"] for seed in range(8)]
    return [{"mp4": video, "flac": sound} for sound in flac]


def _sound_of(corpus: Any, seed: int) -> Any:
    return corpus.clip(corpus.constant_rate(5, 3.0), corpus.noise(3.0, seed=seed))


@pytest.fixture(scope="module")
def dataset(
    members: list[dict[str, bytes]], corpus: Any, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    return corpus.write(tmp_path_factory.mktemp("vp9"), members)


def requests(num_batches: int = 2, samples: int = 4, segments: int = 2) -> Iterator[Request]:
    rng = np.random.default_rng(1)
    for step in range(num_batches):
        chosen = np.arange(step * samples, (step + 1) * samples) % 8
        yield Request(0, step, chosen, rng.random((samples, segments)))


def delivered(loader: Any, **shape: int) -> list[Delivery]:
    try:
        return list(loader.deliveries(requests(**shape)))
    finally:
        loader.close()


def rgb_of(batch: RawBatch) -> Any:
    """Frames [R·T, 3, H, W] in [0, 1]."""
    assert batch.frames is not None
    frames = batch.frames.cpu()
    if batch.pixels == "i420":
        rgb = i420_to_rgb(
            frames, batch.height, batch.width, batch.color_matrix, batch.color_range, "bilinear"
        )
    else:
        color = rgb_from_pixels(batch.pixels, batch.color_matrix, batch.color_range)
        matrix = torch.from_numpy(color).float()
        rgb = torch.einsum("ij,rthwj->rtihw", matrix[:, :3], frames.float())
        rgb = (rgb + matrix[:, 3, None, None]).clamp(0, 1)
    return rgb.flatten(0, 1).numpy()


def test_rows_frames_and_sound_are_those_of_the_default_decoder(dataset: Any) -> None:
    reader = SegmentReader(dataset, OPTIONS)
    expected = delivered(Loader(reader, 1, 1))
    found = delivered(DaliLoader(reader, 2, 1))
    assert len(found) == len(expected) == 2
    for one, other in zip(expected, found, strict=True):
        a, b = one.batch, other.batch
        assert (a.keys, a.epoch, a.step) == (b.keys, b.epoch, b.step)
        for name in ("sample", "shift", "start_seconds", "audio"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        assert b.frames is not None
        assert b.frames.shape == (8, 12, 160, 192, 3)
        assert psnr(rgb_of(a), rgb_of(b), peak=1.0) > 45
        assert other.outcomes == (None,) * 4


@pytest.mark.parametrize("codec", ["vp8", "mjpeg"])
def test_other_codecs_of_the_cpu_graph(corpus: Any, tmp_path: Path, codec: str) -> None:
    """MJPEG's range is full, and the stream says so."""
    dataset = corpus.write(tmp_path, [{"mp4": coded_clip(codec)}] * 8)
    reader = SegmentReader(dataset, OPTIONS, audio=False)
    (one,) = delivered(Loader(reader, 1, 1), num_batches=1)
    (other,) = delivered(DaliLoader(reader, 1, 1, "cpu"), num_batches=1)
    assert psnr(rgb_of(one.batch), rgb_of(other.batch), peak=1.0) > 45


@pytest.mark.parametrize("codec", ["vp9", "mjpeg"])
def test_shards_of_our_own_building(tmp_path: Path, codec: str) -> None:
    dataset = write_textured_shards(tmp_path, 2, 96, codec, seconds=2.0)
    track = dataset.sample(0).video
    assert track is not None
    assert track.codec == codec
    reader = SegmentReader(dataset, OPTIONS)
    request = Request(0, 0, np.array([1, 0]), np.array([[0.3], [0.7]]))
    batches = []
    for loader in (Loader(reader, 1, 0), DaliLoader(reader, 1, 0, "cpu")):
        batches += [delivery.batch for delivery in loader.deliveries([request])]
        loader.close()
    one, other = batches
    assert one.audio is not None
    assert other.audio is not None
    assert torch.equal(one.audio, other.audio)
    # what lies around a pixel is weighed otherwise (see rgb_of): compare their means
    means = [
        torch.nn.functional.avg_pool2d(torch.from_numpy(rgb_of(b)), 4).numpy() for b in batches
    ]
    assert psnr(means[0], means[1], peak=1.0) > 45


@pytest.mark.parametrize(
    ("sound_format", "channels", "extension"),
    [("flac", 2, "flac"), ("pcm", 1, "wav"), ("opus", 2, "opus"), ("aac", 1, "m4a")],
)
def test_sound_of_every_kind_comes_by_our_own_path(
    corpus: Any, tmp_path: Path, sound_format: str, channels: int, extension: str
) -> None:
    """DALI knows WAV, FLAC and OGG alone; ours mixes to mono and starts on the sample."""
    rng = np.random.default_rng(3)
    noise = (rng.normal(size=(channels, 72_000)) * 2000).astype(np.int16)
    member = encode_audio(noise, 24_000, sound_format)
    dataset = corpus.write(tmp_path, [{"mp4": coded_clip("vp9"), extension: member}] * 2)
    reader = SegmentReader(dataset, OPTIONS)
    loader = DaliLoader(reader, 1, 0, "cpu")
    (delivery,) = loader.deliveries([Request(0, 0, np.arange(2), np.array([[0.2], [0.9]]))])
    loader.close()
    assert delivery.batch.audio is not None
    for row, start in enumerate(delivery.batch.start_seconds.tolist()):
        first = round(start * 24_000)
        expected = noise[:, first : first + 24_000].mean(axis=0) / 32768
        found = delivery.batch.audio[row].numpy()
        if sound_format in ("flac", "pcm"):
            np.testing.assert_allclose(found, expected, atol=1e-6)
        else:  # lossy: the same sound at the same place
            assert np.corrcoef(found, expected)[0, 1] > 0.9


def test_the_matrix_of_the_stream_is_what_counts(dataset: Any) -> None:
    """DALI takes BT.601 for granted; without undoing that, BT.709 colours would be wrong."""
    reader = SegmentReader(dataset, OPTIONS)
    (one,) = delivered(Loader(reader, 1, 1), num_batches=1)
    (other,) = delivered(DaliLoader(reader, 1, 1), num_batches=1)
    assert other.batch.frames is not None
    as_it_came = other.batch.frames.permute(0, 1, 4, 2, 3).flatten(0, 1).numpy() / 255
    assert psnr(rgb_of(one.batch), as_it_came, peak=1.0) < 40


def test_the_crop_of_a_sample_is_the_same(dataset: Any) -> None:
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "time_shift": {"relation": "distinctive", "draws": 2},
            "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
            "time_reversal": {"relation": "distinctive", "draws": 2},
        }
    )
    transform = DeviceTransform(plan, DeviceOptions(), seed=3)
    reader = SegmentReader(dataset, OPTIONS)
    (one,) = delivered(Loader(reader, 1, 1), num_batches=1)
    (other,) = delivered(DaliLoader(reader, 1, 1), num_batches=1)
    a, b = transform(one.batch), transform(other.batch)
    for name in ("video", "audio"):
        assert torch.equal(a.view(name).codes, b.view(name).codes.cpu())
    assert torch.equal(a.view("audio").values, b.view("audio").values)
    one_clip, other_clip = (x.view("video").values.cpu().numpy() for x in (a, b))
    assert psnr(one_clip, other_clip, peak=1 / 0.225) > 40  # chroma is sited differently


def test_overlapping_segments_are_decoded_once_and_delivered_each(dataset: Any) -> None:
    reader = SegmentReader(dataset, OPTIONS)
    places = np.array([[0.5, 0.5, 0.45, 0.0]])
    request = Request(0, 0, np.array([2]), places)
    sample = dataset.sample(2)
    feed = reader.feed(sample, reader.starts(sample, places[0]))
    assert len(feed.numbers) == len(set(feed.numbers.tolist())) < len(feed.places) == 48
    loader = DaliLoader(reader, 1, 0)
    (delivery,) = loader.deliveries([request])
    (expected,) = Loader(reader, 1, 0).deliveries([request])
    loader.close()
    frames = delivery.batch.frames
    assert frames is not None
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2])
    assert psnr(rgb_of(expected.batch), rgb_of(delivery.batch), peak=1.0) > 45


def test_a_sample_that_fails_alone_is_skipped_by_name(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path
) -> None:
    """Its index was made after the damage, so no checksum gives it away before DALI does."""
    broken = [dict(sample) for sample in members]
    broken[1]["mp4"] = _without_frame_headers(broken[1]["mp4"])
    reader = SegmentReader(corpus.write(tmp_path, broken), OPTIONS)
    expected = delivered(Loader(reader, 1, 1))
    found = delivered(DaliLoader(reader, 1, 1))
    assert [str(outcome)[:38] for outcome in found[0].outcomes if outcome] == [
        "shard-000000.tar: sample 'clip-0001': "
    ]
    outcome = found[0].outcomes[1]
    assert outcome is not None
    assert outcome.stage == "decode"
    assert "DALI" in outcome.cause
    assert "Stacktrace" not in outcome.cause
    assert found[1].outcomes == (None,) * 4  # a new graph goes on
    for one, other in zip(expected, found, strict=True):
        assert one.batch.keys == other.batch.keys
        assert psnr(rgb_of(one.batch), rgb_of(other.batch), peak=1.0) > 45


def test_a_batch_of_which_nothing_is_left_is_empty(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path
) -> None:
    broken = [{**sample, "mp4": _without_frame_headers(sample["mp4"])} for sample in members]
    reader = SegmentReader(corpus.write(tmp_path, broken), OPTIONS)
    (delivery,) = delivered(DaliLoader(reader, 1, 1), num_batches=1)
    assert len(delivery.batch) == 0
    assert all(outcome is not None for outcome in delivery.outcomes)


def _without_frame_headers(data: bytes) -> bytes:
    """The first bytes of every packet from the second group of pictures on are zero."""
    changed = bytearray(data)
    container: Any
    with av.open(io.BytesIO(data)) as container:
        for packet in list(container.demux(video=0))[10:]:
            if packet.size:
                changed[packet.pos : packet.pos + 16] = bytes(min(16, packet.size))
    return bytes(changed)


def test_a_changed_byte_is_found_by_its_checksum(
    members: list[dict[str, bytes]], corpus: Any, tmp_path: Path
) -> None:
    dataset = corpus.write(tmp_path, members)
    packets = dataset.sample(2).video.packets
    shard = tmp_path / dataset.sample(2).shard
    content = bytearray(shard.read_bytes())
    for offset, size in zip(packets.offset.tolist(), packets.size.tolist(), strict=True):
        content[offset + size // 2] ^= 0xFF
    shard.write_bytes(content)
    (delivery,) = delivered(DaliLoader(SegmentReader(dataset, OPTIONS), 1, 1), num_batches=1)
    assert [outcome.stage if outcome else None for outcome in delivery.outcomes] == [
        None,
        None,
        "checksum",
        None,
    ]
    assert "clip-0002" not in delivery.batch.keys


def test_a_stream_of_it_has_the_same_order_and_resumes(dataset: Any) -> None:
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
        }
    )

    def stream(decoder: str) -> Stream:
        options = SegmentOptions(num_frames=12, decoder=decoder)
        return Stream(dataset, plan, options, StreamOptions(batch_size=2), 5, skip_log=SkipLog())

    whole = list(stream("dali"))
    by_default = list(stream("av"))
    assert [batch.keys for batch in whole] == [batch.keys for batch in by_default]
    assert [b.start_seconds.tolist() for b in whole] == [
        b.start_seconds.tolist() for b in by_default
    ]
    first = stream("dali")
    position = None
    for batch in first:
        if batch.step == 1:
            position = first.state_dict()
            break
    first.close()
    assert position is not None
    again = stream("dali")
    again.load_state_dict(position)
    rest = list(again)
    assert [batch.step for batch in rest] == [2, 3]
    for one, other in zip(whole[2:], rest, strict=True):
        assert one.frames is not None
        assert other.frames is not None
        assert torch.equal(one.frames, other.frames)


def test_frames_are_handed_over_without_a_copy_and_stay(dataset: Any) -> None:
    """Later batches do not write into tensors that are still held."""
    loader = DaliLoader(SegmentReader(dataset, OPTIONS), 1, 1)
    clips: list[list[torch.Tensor]] = []
    run = loader._run
    loader._run = lambda *what: clips.append(run(*what)) or clips[-1]  # type: ignore[method-assign, func-returns-value]
    batches = delivered(loader, num_batches=4)
    assert len({tensor.data_ptr() for tensors in clips for tensor in tensors}) == 16
    again = delivered(DaliLoader(SegmentReader(dataset, OPTIONS), 1, 1), num_batches=4)
    for one, other in zip(batches, again, strict=True):
        assert one.batch.frames is not None
        assert other.batch.frames is not None
        assert torch.equal(one.batch.frames, other.batch.frames)


@pytest.mark.skipif(HAS_GPU, reason="NVDEC decodes H.264")
def test_h264_without_a_gpu_says_what_to_do(corpus: Any, tmp_path: Path) -> None:
    reader = SegmentReader(
        corpus.write(tmp_path, [{"mp4": coded_clip("h264")}]), OPTIONS, audio=False
    )
    with pytest.raises(ValueError, match=r"without a GPU decodes mjpeg, vp8, vp9, and the shards "):
        DaliLoader(reader, 1, 1)


def test_what_dali_does_not_do_is_refused(dataset: Any) -> None:
    scaled = SegmentOptions(frame_size=(80, 48), decoder="av")
    with pytest.raises(ValueError, match=r"frames of their coded size, and .* is \[80, 48\]"):
        DaliLoader(SegmentReader(dataset, scaled), 1, 1)
    with pytest.raises(ValueError, match="decodes video, and none is wanted"):
        DaliLoader(SegmentReader(dataset, OPTIONS, video=False), 1, 1)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("codec", ["h264", "h264_b_frames", "hevc", "vp9", "av1"])
def test_on_a_gpu_frames_are_born_there(corpus: Any, tmp_path: Path, codec: str) -> None:
    data = coded_clip(codec, size=(256, 160))
    reader = SegmentReader(corpus.write(tmp_path, [{"mp4": data}] * 8), OPTIONS, audio=False)
    expected = delivered(Loader(reader, 1, 1))
    found = delivered(DaliLoader(reader, 2, 1))
    for one, other in zip(expected, found, strict=True):
        assert other.batch.frames is not None
        assert other.batch.frames.is_cuda
        assert psnr(rgb_of(one.batch), rgb_of(other.batch), peak=1.0) > 45
