"""The webdataset package on our shards: every codec and every format of sound, by its own names."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from shards import BuildOptions
from shards.encoding.transcode import transcode
from shards.format.writer import ShardWriter
from tests.films import decode_video
from tests.shards.encoding.test_transcode import units

webdataset = pytest.importorskip("webdataset")

#: One suffix of each pair is the member; users ask for all that they know.
SOUND_SUFFIXES = "wav;flac;mp3;opus;m4a"


@pytest.mark.parametrize(
    ("codec", "audio"),
    [
        ("h264", "flac"),
        ("hevc", "pcm"),
        ("vp9", "opus"),
        ("av1", "aac"),
        ("mjpeg", "pcm"),
        ("mpeg4", "flac"),
    ],
)
def test_every_format_is_found_and_decodes(
    film: Callable[..., Path], tmp_path: Path, codec: str, audio: str
) -> None:
    options = BuildOptions(
        clip_seconds=1.0, fps=10, size=(96, 64), codec=codec, audio=audio, sample_rate_hz=48000
    )
    (unit,) = units(film("film.mp4", seconds=2, size=(96, 64)), options)
    with ShardWriter(tmp_path / "shard.tar") as writer:
        for sample in transcode(unit, options).samples:
            writer.add(sample.key, sample.members, sample.tracks)
        writer.finish()
    shards = webdataset.WebDataset([str(tmp_path / "shard.tar")], shardshuffle=False)
    found = list(shards.to_tuple("__key__", "mp4", SOUND_SUFFIXES, "json"))
    assert len(found) == 2
    for key, video, sound, about in found:
        assert len(decode_video(video)) == 10
        container: Any
        with av.open(io.BytesIO(sound)) as container:
            heard = sum(frame.samples for frame in container.decode(audio=0))
        assert heard == pytest.approx(48000, abs=1024)  # AAC's last packet may be whole
        assert json.loads(about)["key"] == key
