"""A file as a data set of one sample: the same packets as when a tar holds it."""

from pathlib import Path

import numpy as np
import pytest

from shards import ShardError, SourceError
from shards.reading.media_file import MediaFile
from tests.pipelines.stills import image_file, smooth_picture


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tools.sample_data.synthetic import SyntheticOptions, build_corpus

    folder = tmp_path_factory.mktemp("film")
    build_corpus(folder, SyntheticOptions(num_train=0, num_val=1, seconds=1.5, size=32))
    return next((folder / "val").glob("*.mp4"))


def test_a_film_has_its_tracks_and_packets(film: Path) -> None:
    media = MediaFile.open(film)
    sample = media.sample(0)
    assert (len(media), sample.key) == (1, film.name)
    assert sample.video is not None
    assert sample.audio is not None
    assert sample.video.stop_seconds == pytest.approx(1.5, abs=0.1)
    assert sample.video.packets.keyframe[0]
    packets = sample.video.packets
    content = film.read_bytes()
    for offset, size in zip(packets.offset.tolist(), packets.size.tolist(), strict=True):
        assert media.read(sample, offset, size) == content[offset : offset + size]
    assert media.read_member(sample, "media") == content
    assert media.metadata(0) == {"source": film.name}
    assert len(media.fingerprint) == 32
    with pytest.raises(IndexError, match="is one sample, number 0; asked for 1"):
        media.sample(1)
    with pytest.raises(ShardError, match=r"has no member \.mp4"):
        media.read_member(sample, "mp4")


def test_a_picture_is_a_still(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(image_file(smooth_picture(1, 40, 30), "a.jpg"))
    video = MediaFile.open(path).sample(0).video
    assert video is not None
    assert video.is_still
    assert np.array_equal(video.packets.keyframe, [True])


def test_what_is_no_media_is_said(tmp_path: Path, film: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        MediaFile.open(tmp_path / "none.mp4")
    with pytest.raises(SourceError, match="not media: a text file"):
        MediaFile("notes.mp4", b"hello")
    with pytest.raises(SourceError):
        MediaFile("cut.mp4", film.read_bytes()[:2000])
