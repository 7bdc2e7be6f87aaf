"""Which files of a folder count as its images."""

from pathlib import Path

import av
import numpy as np

from shards.reading.image_folder import ImageFolder


def jpeg() -> bytes:
    import io

    file = io.BytesIO()
    with av.open(file, "w", format="mjpeg") as out:
        stream = out.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        frame = av.VideoFrame.from_ndarray(np.full((48, 32), 128, np.uint8), "yuvj420p")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return file.getvalue()


def test_every_image_is_taken_or_counted(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.JFIF", "c.jpe", "nameless", "x.d/nameless"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    for name in ("g.gif", "t.tiff", "b.bmp"):
        (tmp_path / name).write_bytes(b"GIF89a whatever")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "LICENSE").write_text("none either")
    folder = ImageFolder(tmp_path)
    samples = {sample.key: sample for sample in map(folder.sample, range(len(folder)))}
    read = {key for key, sample in samples.items() if sample.video is not None}
    assert read == {"a.jpg", "b.JFIF", "c.jpe", "nameless", "x.d/nameless"}
    assert set(samples) - read == {"g.gif", "t.tiff", "b.bmp"}
    assert all("not a JPEG, PNG or WebP" in samples[key].fault for key in set(samples) - read)
