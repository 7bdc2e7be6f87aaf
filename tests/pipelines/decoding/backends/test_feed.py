"""Files made of indexed packets: PyAV, which did not make them, reads from them what was asked."""

import io
import re
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.decoding.backends.backend import MediaError
from pipelines.decoding.backends.feed import feed_of
from pipelines.decoding.backends.matroska import MAX_FRAMES, TICK_SECONDS, matroska_file
from tests.pipelines.coded_clips import ENCODERS, coded_clip, planes_of


@pytest.fixture(scope="module")
def datasets(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("coded")
    made = {}
    for codec in ENCODERS:
        data = coded_clip(codec)
        made[codec] = (data, corpus.write(folder / codec, [{"mp4": data}]))
    return made


@pytest.mark.parametrize("codec", ENCODERS)
@pytest.mark.parametrize(
    "wanted", [range(14, 27), [44], [3, 3, 30, 29, 3], [0, 44]], ids=["run", "last", "any", "ends"]
)
def test_the_file_holds_the_frames_that_were_asked_for(
    datasets: dict[str, Any], codec: str, wanted: Any
) -> None:
    data, dataset = datasets[codec]
    sample = dataset.sample(0)
    shown = np.argsort(sample.video.packets.pts, kind="stable")
    packets = shown[np.array(wanted)]  # the clip's frame numbers are in presentation order
    feed = feed_of(partial(dataset.read, sample), sample.video, packets)
    frames = planes_of(feed.file)[feed.numbers][feed.places]
    np.testing.assert_array_equal(frames, planes_of(data)[np.array(wanted)])
    assert len(feed.numbers) == len(set(wanted))


def test_only_the_groups_of_pictures_that_are_needed_are_in_it(datasets: dict[str, Any]) -> None:
    data, dataset = datasets["vp9"]
    sample = dataset.sample(0)
    feed = feed_of(partial(dataset.read, sample), sample.video, np.array([14, 15, 33]))
    assert feed.numbers.tolist() == [4, 5, 9]  # packets 10 to 15, then 30 to 33
    assert len(planes_of(feed.file)) == 10
    assert len(feed.file) < len(data) / 3


def test_times_count_frames(datasets: dict[str, Any]) -> None:
    _, dataset = datasets["h264_b_frames"]
    sample = dataset.sample(0)
    feed = feed_of(partial(dataset.read, sample), sample.video, np.arange(12))
    container: Any
    with av.open(io.BytesIO(feed.file)) as container:
        times = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(times, np.arange(len(times)) * TICK_SECONDS, atol=1e-6)


def test_a_changed_packet_is_found_before_it_is_fed(datasets: dict[str, Any]) -> None:
    _, dataset = datasets["vp9"]
    sample = dataset.sample(0)
    packets = sample.video.packets

    def read(offset: int, size: int) -> bytes:
        data = bytearray(dataset.read(sample, offset, size))
        place = int(packets.offset[12]) - offset
        if 0 <= place < size:
            data[place + 5] ^= 1
        return bytes(data)

    with pytest.raises(MediaError, match=r"checksum: packet 12 has crc32 \w{8}, the index says"):
        feed_of(read, sample.video, np.array([13]))


def test_what_makes_no_file_says_why(tmp_path: Path, corpus: Any) -> None:
    with pytest.raises(ValueError, match="1 packets that do not start with a keyframe"):
        matroska_file("vp9", b"", 16, 16, [b"x"], [0], [False])
    count = MAX_FRAMES + 1
    with pytest.raises(ValueError, match=re.escape(f"at most {MAX_FRAMES} fit")):
        matroska_file("vp9", b"", 16, 16, [b"x"] * count, list(range(count)), [True] * count)
    with pytest.raises(ValueError, match="codec 'prores' has no Matroska name here: av1, h264"):
        matroska_file("prores", b"", 16, 16, [b"x"], [0], [True])
    dataset = corpus.write(tmp_path, [{"mp4": _mpeg2()}])
    sample = dataset.sample(0)
    with pytest.raises(MediaError, match=r"codec 'mpeg2video' is none of .*decoder = 'av'"):
        feed_of(partial(dataset.read, sample), sample.video, np.array([0]))


def _mpeg2() -> bytes:
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
