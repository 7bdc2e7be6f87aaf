"""The same question, the same answer: other decoders beside the default one."""

import io
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import Backend
from pipelines.decoding.backends.choice import BACKENDS, make_backend
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.skips import MismatchError
from shards import Dataset, Manifest
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks
from tests.clock.corpus import CORPUS, Variant
from tests.clock.measure import starts_of

pytestmark = pytest.mark.xdist_group("clock")

MIN_PSNR_DB = 45.0
BIT_EXACT = {"torchcodec": True, "decord": False}  # decord gives RGB only
BT709, BT601, UNSAID = 1, 6, 2
LIMITED, FULL = 1, 2


def backend_or_skip(name: str, fallback: str = "refuse") -> Backend:
    try:
        return make_backend(name, fallback)
    except ImportError as error:
        pytest.skip(str(error))


def psnr_db(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    squared = float(np.mean((a.astype(np.float64) - b) ** 2))
    return 10 * math.log10(255**2 / max(squared, 1e-12))


def segments(dataset: Dataset, number: int, starts: list[float], name: str) -> list[Any]:
    reader = SegmentReader(dataset, SegmentOptions(decoder=name, fallback="refuse"))
    return reader.segments(number, starts)


@pytest.mark.parametrize("name", BIT_EXACT)
@pytest.mark.parametrize("variant", CORPUS, ids=lambda v: v.name)
def test_every_backend_gives_the_same_second(
    variant: Variant, name: str, unprepared: Dataset
) -> None:
    backend_or_skip(name)
    starts = [start - variant.offset for start in starts_of(variant)]
    number = CORPUS.index(variant)
    ours = segments(unprepared, number, starts, "av")
    theirs = segments(unprepared, number, starts, name)
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a.audio, b.audio)
        assert psnr_db(a.video, b.video) > MIN_PSNR_DB
        if BIT_EXACT[name]:
            assert np.array_equal(a.video, b.video)


def colourful(
    codec: str = "libx264",
    matrix: int = BT709,
    color_range: int = LIMITED,
    size: tuple[int, int] = (160, 96),
    options: dict[str, str] | None = None,
) -> bytes:
    """An mp4 of 1.2 s of smooth moving colours."""
    width, height = size
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(codec, rate=30, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec_context = stream.codec_context
        codec_context.colorspace, codec_context.color_range = matrix, color_range
        y, x = np.mgrid[:height, :width]
        for n in range(36):
            luma = 128 + 60 * np.sin((x + 3 * n) / 17) * np.cos(y / 11)
            blue = 128 + 40 * np.sin((x + 10 * n)[::2, ::2] / 46)
            red = 128 + 40 * np.cos((y + 10 * n)[::2, ::2] / 58)
            planes = np.concatenate([p.ravel() for p in (luma, blue, red)]).astype(np.uint8)
            frame: Any = av.VideoFrame.from_ndarray(planes.reshape(-1, width), "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 30)
            frame.colorspace, frame.color_range = matrix, color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def dataset_of(folder: Path, *videos: bytes) -> Dataset:
    with ShardWriter(folder / "a.tar") as writer:
        for number, data in enumerate(videos):
            writer.add(f"clip-{number}", {"mp4": data}, demux_tracks(data, "mp4"))
        entry = writer.finish()
    Manifest((entry,)).write(folder)
    return Dataset.open(folder)


def pictures(dataset: Dataset, name: str, fallback: str = "refuse", **options: Any) -> Any:
    made = SegmentOptions(decoder=name, fallback=fallback, **options)
    reader = SegmentReader(dataset, made, audio=False)
    return reader.segments(0, [0.1])[0].video, reader.backend


@pytest.mark.parametrize("name", BIT_EXACT)
@pytest.mark.parametrize(
    ("codec", "matrix", "color_range", "options"),
    [
        ("libx264", BT709, LIMITED, {"bf": "3", "g": "12"}),
        ("libx264", BT601, FULL, {"bf": "0"}),
        ("libx264", UNSAID, LIMITED, {"x264-params": "open-gop=1:keyint=10:bframes=3"}),
        ("libx265", BT709, LIMITED, {"preset": "ultrafast", "x265-params": "log-level=none"}),
        ("mpeg4", UNSAID, LIMITED, {"b": "4M"}),
    ],
)
def test_colours_and_codecs_come_out_alike(
    name: str, codec: str, matrix: int, color_range: int, options: dict[str, str], tmp_path: Path
) -> None:
    backend_or_skip(name)
    dataset = dataset_of(tmp_path, colourful(codec, matrix, color_range, options=options))
    ours, _ = pictures(dataset, "av")
    theirs, backend = pictures(dataset, name)
    assert psnr_db(ours, theirs) > MIN_PSNR_DB
    if BIT_EXACT[name]:
        assert np.array_equal(ours, theirs)
    assert not backend.fallbacks


def test_decord_takes_bt601_for_tall_pictures_that_do_not_say(tmp_path: Path) -> None:
    backend_or_skip("decord")
    dataset = dataset_of(tmp_path, colourful(matrix=UNSAID, size=(720, 720)))
    track = dataset.sample(0).video
    assert track is not None
    assert track.color_matrix == "bt709"
    ours, _ = pictures(dataset, "av", num_frames=2)
    theirs, _ = pictures(dataset, "decord", num_frames=2)
    assert psnr_db(ours, theirs) > MIN_PSNR_DB


def test_av1_is_decoded_or_counted_or_refused(tmp_path: Path) -> None:
    data = colourful("libsvtav1", options={"preset": "12", "svtav1-params": "keyint=10"})
    dataset = dataset_of(tmp_path, data)
    ours, _ = pictures(dataset, "av")
    backend_or_skip("decord")
    theirs, backend = pictures(dataset, "decord", fallback="count")
    assert np.array_equal(ours, theirs)
    assert sum(backend.fallbacks.values()) == 1
    with pytest.raises(MismatchError, match=r"decord does not decode .*av1.*fallback = 'count'"):
        pictures(dataset, "decord")


@pytest.mark.parametrize("name", ["av", *BIT_EXACT])
def test_threads_share_a_backend(name: str, unprepared: Dataset) -> None:
    backend_or_skip(name)
    reader = SegmentReader(unprepared, SegmentOptions(decoder=name, num_frames=8))
    starts = [reader.span(unprepared.sample(n))[0] + 0.4 for n in range(6)]

    def read(number: int) -> Any:
        return reader.segments(number % 6, [starts[number % 6]])[0]

    alone = [read(number) for number in range(6)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(read, range(24)))
    for number, segment in enumerate(together):
        assert np.array_equal(segment.video, alone[number % 6].video)
        assert np.array_equal(segment.audio, alone[number % 6].audio)


@pytest.mark.parametrize("name", BIT_EXACT)
def test_another_size_is_scaled_as_the_default_scales(name: str, tmp_path: Path) -> None:
    backend_or_skip(name)
    dataset = dataset_of(tmp_path, colourful())
    ours, _ = pictures(dataset, "av", frame_size=(80, 48))
    theirs, backend = pictures(dataset, name, frame_size=(80, 48))
    assert np.array_equal(ours, theirs)
    assert backend.fallbacks == {"another size": 1}


@pytest.mark.parametrize(
    ("name", "module", "text"),
    [
        ("decord", "decord", r"decord: pip install 'gdt-stream\[decord\]'"),
        ("torchcodec", "torchcodec", r"pip install 'gdt-stream\[torchcodec\]', and FFmpeg"),
    ],
)
def test_a_missing_library_says_what_to_install(
    name: str, module: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loaded in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=text):
        BACKENDS[name]("count")
