"""Still pictures through the stream: from folders and tars, upright, in the right colours."""

import io
import json
import os
import pickle
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps

from gdt.named_plans import named_plan
from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.device.options import ImageAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.sampling.mixture import Mixture
from pipelines.skips import SkipLog
from shards import Dataset, ImageFolder, Samples, ShardError, open_samples
from shards.maintenance.index_tars import index_tars
from tests.pipelines.stills import image_file, smooth_picture

ONE_FRAME = SegmentOptions(seconds=0.1, num_frames=1, frame_size=(128, 96))
KINDS: dict[str, dict[str, Any]] = {
    "plain.jpg": {"quality": 95},
    "chroma444.jpg": {"quality": 95, "subsampling": 0},
    "progressive.jpeg": {"quality": 95, "progressive": True},
    "lossless.png": {},
    "lossy.webp": {"quality": 97},
    "lossless.webp": {"lossless": True},
}
MODES = {
    "grey.jpg": "L",
    "cmyk.jpg": "CMYK",
    "grey.png": "L",
    "palette.png": "P",
    "see.png": "RGBA",
}


def rgb_of(reader: SegmentReader, index: int) -> NDArray[np.float64]:
    """[H, W, 3], 0 to 255, by the formula of BT.709, limited range (ITU-R BT.709-6, 3)."""
    (segment,) = reader.segments(index, [0.0])
    assert (segment.color_matrix, segment.color_range) == ("bt709", "limited")
    assert segment.video is not None
    height, width = segment.height, segment.width
    luma, u, v = np.split(segment.video[0].astype(float), np.cumsum([4, 1]) * height * width // 4)
    y = (luma.reshape(height, width) - 16) / 219
    pb, pr = (
        ((c.reshape(height // 2, width // 2) - 128) / 224).repeat(2, 0).repeat(2, 1) for c in (u, v)
    )
    red, blue = y + 1.5748 * pr, y + 1.8556 * pb
    green = (y - 0.2126 * red - 0.0722 * blue) / 0.7152
    return np.stack([red, green, blue], -1).clip(0, 1) * 255


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / ((a - b) ** 2).mean()))


def as_pillow_sees(path: Path) -> NDArray[Any]:
    picture = ImageOps.exif_transpose(PillowImage.open(path)).convert("RGB")
    fitted = ImageOps.fit(picture, (128, 96), PillowImage.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=float)


def test_every_kind_looks_as_it_does_to_pillow(tmp_path: Path) -> None:
    picture = smooth_picture(3, 320, 260)
    for name, options in KINDS.items():
        (tmp_path / name).write_bytes(image_file(picture, name, **options))
    for name, mode in MODES.items():
        (tmp_path / name).write_bytes(image_file(picture.convert(mode), name))
    folder = ImageFolder(tmp_path)
    assert len(folder) == len(KINDS) + len(MODES)
    reader = SegmentReader(folder, ONE_FRAME, audio=False)
    for index in range(len(folder)):
        name = folder.sample(index).key
        assert psnr(rgb_of(reader, index), as_pillow_sees(tmp_path / name)) > 38, name


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_pictures_come_out_upright(tmp_path: Path, kind: str) -> None:
    picture = smooth_picture(1, 200, 150)
    for orientation in range(1, 9):
        name = f"{orientation}.{kind}"
        options = {"quality": 97} if kind != "png" else {}
        (tmp_path / name).write_bytes(image_file(picture, name, orientation, **options))
    folder = ImageFolder(tmp_path)
    reader = SegmentReader(folder, ONE_FRAME, audio=False)
    for index in range(8):
        track = folder.sample(index).video
        assert track is not None
        assert (track.width, track.height) == ((200, 150) if index < 4 else (150, 200))
        expected = as_pillow_sees(tmp_path / f"{index + 1}.{kind}")
        assert psnr(rgb_of(reader, index), expected) > 38, index + 1


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six images each, of several sizes and kinds."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(12):
        folder = root / ("cats" if number < 6 else "dogs") / ("deep" if number % 3 == 0 else "")
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{number:02d}.{('jpg', 'png', 'webp', 'JPEG')[number % 4].lower()}"
        picture = smooth_picture(number, 60 + 8 * number, 90)
        (folder / name).write_bytes(image_file(picture, name))
    (root / "readme.txt").write_text("no image")
    (root / ".thumbnails").mkdir()
    (root / ".thumbnails" / "x.jpg").write_bytes(b"hidden")
    return root


def test_a_folder_of_images_is_a_data_set(pictures: Path) -> None:
    folder = open_samples(pictures)
    assert isinstance(folder, ImageFolder)
    assert len(folder) == 12
    keys = [folder.sample(i).key for i in range(12)]
    assert keys == sorted(keys)
    assert keys[0] == "cats/01.png"
    labels = [folder.metadata(i)["label"] for i in range(12)]
    assert labels == ["cats"] * 6 + ["dogs"] * 6
    assert folder.fingerprint == ImageFolder(pictures).fingerprint
    theirs = torchvision.datasets.ImageFolder(str(pictures))
    classes = {str(Path(path).relative_to(pictures)): number for path, number in theirs.samples}
    assert {key: theirs.classes[classes[key]] for key in keys} == dict(
        zip(keys, labels, strict=True)
    )
    with pytest.raises(IndexError, match="images 0 to 11; asked for 12"):
        folder.sample(12)


def test_links_to_folders_are_followed_but_for_those_that_lead_back(
    pictures: Path, tmp_path: Path
) -> None:
    elsewhere, root = tmp_path / "disk2", tmp_path / "root"
    for path in (elsewhere / "birds", root / "bats"):
        path.mkdir(parents=True)
    content = image_file(smooth_picture(0, 32, 32), "a.jpg")
    (elsewhere / "birds" / "1.jpg").write_bytes(content)
    (root / "bats" / "2.jpg").write_bytes(content)
    (root / "birds").symlink_to(elsewhere / "birds")
    (root / "cats").symlink_to(pictures / "cats")
    (root / "bats" / "up").symlink_to(root)
    (elsewhere / "birds" / "round").symlink_to(elsewhere / "birds")
    (root / "nowhere").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "pipe.jpg")
    folder = ImageFolder(root)
    names = [folder.metadata(i)["source"] for i in range(len(folder))]
    theirs = torchvision.datasets.ImageFolder(str(pictures))  # follows them too
    cats = [
        name for path, _ in theirs.samples if (name := path[len(f"{pictures}/") :])[:4] == "cats"
    ]
    assert names == sorted(["bats/2.jpg", "birds/1.jpg", *cats])
    assert folder.metadata(1)["label"] == "birds"
    assert folder.read_member(folder.sample(1), "jpg") == content
    shutil.rmtree(root / "bats")
    assert isinstance(open_samples(root), ImageFolder)  # though all images are behind links


def test_names_that_are_no_text_and_copies_in_other_processes(tmp_path: Path) -> None:
    content = image_file(smooth_picture(0, 32, 32), "a.jpg")
    for name in (b"a\nb.jpg", b"\xff.jpg", "räder 100%.jpg".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(content)
    folder = ImageFolder(tmp_path)
    copy = pickle.loads(pickle.dumps(folder))
    (tmp_path / "later.jpg").write_bytes(content)
    assert (len(copy), copy.fingerprint) == (3, folder.fingerprint)
    samples = [copy.sample(i) for i in range(3)]
    assert sorted(sample.key for sample in samples) == [
        "\\udcff.jpg",
        "a\\nb.jpg",
        "räder 100%.jpg",
    ]
    for sample in samples:  # of which only the last one's file is in hand
        assert folder.read_member(sample, "jpg") == content
        assert copy.read(sample, 2, 5) == content[2:7]
    batches = list(evaluation_batches(copy, ("image",), ONE_FRAME))
    assert [len(batch) for batch in batches] == [3]


def test_a_still_covers_any_second_of_its_sound(
    corpus: Any, small_members: list[dict[str, bytes]], tmp_path: Path
) -> None:
    still = image_file(smooth_picture(0, 64, 48), "a.jpg")
    write_tar(tmp_path / "talks.tar", {"a.jpg": still, "a.flac": small_members[0]["flac"]})
    index_tars([tmp_path])
    reader = SegmentReader(Dataset.open(tmp_path), SegmentOptions(seconds=0.5, num_frames=3))
    assert reader.span(reader.dataset.sample(0)) == (0.0, 1.2)
    (segment,) = reader.segments(0, [0.6])
    assert segment.audio is not None
    assert segment.video is not None
    assert len(segment.audio) == 12_000
    assert np.array_equal(segment.video[0], segment.video[2])


def test_the_fingerprint_is_of_names_and_sizes(pictures: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(image_file(smooth_picture(0, 32, 32), name))
    first = ImageFolder(tmp_path).fingerprint
    (tmp_path / "b.jpg").rename(tmp_path / "c.jpg")
    renamed = ImageFolder(tmp_path).fingerprint
    with (tmp_path / "c.jpg").open("ab") as file:
        file.write(b"\0")
    assert len({first, renamed, ImageFolder(tmp_path).fingerprint}) == 3


def stream_of(dataset: Any, **changes: Any) -> Stream:
    plan = changes.pop("plan", named_plan("simclr"))
    segment = changes.pop("segment", SegmentOptions(seconds=0.1, num_frames=1))
    options = StreamOptions(batch_size=4, threads=2)
    return Stream(dataset, plan, segment, options, seed=5, **changes)


def test_the_stream_gives_every_image_once_and_resumes(pictures: Path) -> None:
    dataset = ImageFolder(pictures)
    stream = stream_of(dataset)
    assert stream.decoder[0] == "av"
    batches = list(stream)
    assert sorted(torch.cat([b.sample for b in batches]).tolist()) == list(range(12))
    first = batches[0]
    assert first.audio is None
    assert first.frames is not None
    assert (first.width, first.height) == (90, 90)  # the median of the shorter sides
    assert first.frames.shape == (4, 1, 90 * 90 * 3 // 2)
    assert (first.start_seconds == 0).all()
    resumed = stream_of(ImageFolder(pictures))
    stream.seek(0, 2)
    resumed.load_state_dict(stream.state_dict())
    again = next(iter(resumed))
    assert again.frames is not None
    assert batches[2].frames is not None
    assert torch.equal(again.frames, batches[2].frames)
    resumed.close()
    stream.close()


def test_the_size_of_images_does_not_hang_on_the_first_one(tmp_path: Path) -> None:
    """Whatever names sort first; large ones are brought to 256, as they are commonly resized."""
    for folder, sides in {"a": [(20, 30), (90, 70), (80, 70)], "b": [(40, 40), (600, 400)]}.items():
        for number, size in enumerate(sides):
            name = f"{folder}/{number}.png"
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(image_file(smooth_picture(number, *size), name))
    for place, side in ((tmp_path, 70), (tmp_path / "a", 70), (tmp_path / "b", 40)):
        reader = SegmentReader(ImageFolder(place), SegmentOptions(), audio=False)
        assert (reader.width, reader.height) == (side, side), place
    (tmp_path / "b" / "0.png").write_bytes(b"damaged")  # is skipped, and measured neither
    reader = SegmentReader(ImageFolder(tmp_path / "b"), SegmentOptions(), audio=False)
    assert reader.width == 256


def test_images_mix_with_films(pictures: Path, small_dataset: Dataset) -> None:
    parts: dict[str, Samples] = {"films": small_dataset, "images": ImageFolder(pictures)}
    segment = SegmentOptions(seconds=0.1, num_frames=1, frame_size=(64, 64))
    skip_log = SkipLog()
    mixture = Mixture(parts, {"films": 1, "images": 1})
    stream = stream_of(mixture, segment=segment, skip_log=skip_log)
    batches = list(stream)
    assert (stream._reader.color_matrix, stream._reader.color_range) == ("bt709", "limited")
    assert skip_log.seen.skipped == 0
    keys = {key.partition("-")[0] for batch in batches for key in batch.keys}
    assert "clip" in keys  # of films, which are brought to the colours of stills
    assert any(key.startswith(("cats/", "dogs/")) for key in keys)


BOMB = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    + (50_000).to_bytes(4, "big") * 2
    + bytes(5 + 4)
    + bytes(4)
    + b"IEND"
    + bytes(4)
)


def damaged_files() -> dict[str, tuple[bytes, str]]:
    """Name → content, and what the skip says of it."""
    jpg = image_file(smooth_picture(0, 64, 64), "a.jpg")
    png = image_file(smooth_picture(0, 64, 64), "a.png")
    webp = image_file(smooth_picture(0, 64, 64), "a.webp")
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0xFF
    return {
        "empty.jpg": (b"", "an empty file"),
        "page.jpg": (b"<!doctype html><html>not found</html>", "not a JPEG, PNG or WebP"),
        "half.jpg": (jpg[: len(jpg) // 2], "the image is cut short"),
        "head.jpg": (jpg[:20], "the image is cut short"),
        "half.png": (png[: len(png) // 2], "the image is cut short"),
        "half.webp": (webp[: len(webp) // 2], "the image is cut short"),
        "flipped.png": (bytes(flipped), "png: "),
        "bomb.png": (BOMB, "the image is too large, or has no size (50000×50000 pixels)"),
        "looping.jpg": (b"\xff\xd8\xff\xe0\0\0" * 50, "damaged"),
    }


def test_damaged_images_are_skipped_with_their_cause(tmp_path: Path) -> None:
    for name, (content, _) in damaged_files().items():
        (tmp_path / name).write_bytes(content)
    for name in ("good.jpg", "gone.jpg"):
        (tmp_path / name).write_bytes(image_file(smooth_picture(1, 64, 64), name))
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name in ("itself", "itself.jpg"):
        (tmp_path / name).symlink_to(tmp_path / name)
    folder = ImageFolder(tmp_path)
    (tmp_path / "gone.jpg").unlink()
    expected = {name: cause for name, (_, cause) in damaged_files().items()}
    for name in ("gone.jpg", "link.jpg"):
        expected[name] = "cannot be read any more: No such file or directory"
    expected["itself.jpg"] = "cannot be read any more: Too many levels of symbolic links"
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    batches = list(evaluation_batches(folder, ("image",), ONE_FRAME, skip_log=skip_log))
    assert [key for batch in batches for key in batch.keys] == ["good.jpg"]
    lines = (tmp_path / "skips.jsonl").read_text().splitlines()
    causes = {entry["key"]: entry["cause"] for entry in map(json.loads, lines)}
    assert causes.keys() == expected.keys()
    for name, cause in expected.items():
        assert cause in causes[name]


def test_a_folder_without_images_is_none(tmp_path: Path) -> None:
    with pytest.raises(
        Exception, match=r"no file in it ends in \.jpeg, \.jpg, \.jfif, \.jpe, \.png"
    ):
        ImageFolder(tmp_path)
    with pytest.raises(Exception, match=r"has no manifest\.json"):
        open_samples(tmp_path)


def test_films_decoders_are_refused(pictures: Path) -> None:
    options = SegmentOptions(seconds=0.1, num_frames=1, decoder="torchcodec")
    with pytest.raises(ValueError, match="'torchcodec' decodes video"):
        SegmentReader(ImageFolder(pictures), options, audio=False)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_webdatasets_of_images_are_indexed_and_read(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(6):
        kind = ("jpg", "jpeg", "png", "webp")[number % 4]
        picture = smooth_picture(number, 80, 60)
        members[f"{number:04d}.{kind}"] = image_file(picture, f"a.{kind}")
        members[f"{number:04d}.cls"] = b"%d" % (number % 2)
        if number == 3:
            members["0003.json"] = b'{"label": "seven", "source": "s"}'
        members[f"{number:04d}.txt"] = f"picture {number}\n".encode()
    for name, (content, _) in damaged_files().items():
        if name != "flipped.png":  # what only a decoder notices is not for an index to find
            members[name] = content
    write_tar(tmp_path / "images.tar", members)
    summary = index_tars([tmp_path])
    assert summary.samples == 6
    dataset = open_samples(tmp_path)
    assert isinstance(dataset, Dataset)
    assert dataset.metadata(1) == {"label": "1", "caption": "picture 1"}
    assert dataset.metadata(3)["label"] == "seven"
    batches = list(evaluation_batches(dataset, ("image",), ONE_FRAME))
    assert torch.cat([b.sample for b in batches]).tolist() == list(range(6))
    reader = SegmentReader(dataset, ONE_FRAME, audio=False)
    for number in range(6):
        expected = ImageOps.fit(smooth_picture(number, 80, 60), (128, 96), 3)
        assert psnr(rgb_of(reader, number), np.asarray(expected, float)) > 30


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b"[1]"])
def test_a_json_that_is_none_is_named(tmp_path: Path, content: bytes) -> None:
    still = image_file(smooth_picture(0, 32, 32), "a.png")
    write_tar(tmp_path / "images.tar", {"a.png": still, "a.json": content})
    index_tars([tmp_path])
    with pytest.raises(
        ShardError, match=r"Sample a of images\.tar: its json (cannot be read|is no)"
    ):
        Dataset.open(tmp_path).metadata(0)


def test_a_film_in_a_tar_goes_before_its_thumbnail(
    small_members: list[dict[str, bytes]], tmp_path: Path
) -> None:
    thumbnail = image_file(smooth_picture(0, 64, 64), "a.jpg")
    sample = {"a.jpg": thumbnail, "a.mp4": small_members[0]["mp4"]}
    write_tar(
        tmp_path / "films.tar", sample | {"b.mp4": small_members[1]["mp4"], "b.jpg": thumbnail}
    )
    index_tars([tmp_path])
    dataset = Dataset.open(tmp_path)
    tracks = [dataset.sample(i).video for i in range(2)]
    assert [track is not None and track.member for track in tracks] == ["mp4", "mp4"]


def test_three_views_of_an_image(pictures: Path) -> None:
    tables: dict[str, dict[str, Any]] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image"]},
        "augmentation": {"relation": "invariant", "draws": 3},
    }
    plan = Plan.from_tables(tables)
    options = DeviceOptions(image_augment=ImageAugment(size=16))
    raw = next(iter(stream_of(ImageFolder(pictures), plan=plan)))
    images = DeviceTransform(plan, options, 5)(raw).view("image")
    assert images.values.shape == (12, 3, 16, 16)
    assert images.codes[:, plan.names.index("augmentation")].tolist() == [0, 1, 2] * 4
