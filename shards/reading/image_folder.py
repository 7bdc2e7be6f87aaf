"""A folder of images as a data set: subfolders are labels, as torchvision's ImageFolder has them.

Opening lists the folder: names and sizes are what the fingerprint is made of. An image is read
when it is asked for; one that is no image is a sample without tracks, which says why.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from shards.errors import IndexFormatError, ShardError, SourceError
from shards.format.index import IndexedSample, Member
from shards.media.faults import sources_fault
from shards.media.still import sniff_still, still_track
from shards.reading.file_folder import FileFolder, files_of_kind, key_of
from shards.reading.media_file import track_of

EXTENSIONS: Final = (".jpeg", ".jpg", ".jfif", ".jpe", ".png", ".webp")
#: Named like images that are not read: each is a sample that is skipped, and so counted.
NOT_READ: Final = (".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif", ".jxl")
MAX_FILE_BYTES: Final = 1 << 28


class ImageFolder(FileFolder):
    """The images below a folder, sorted by name, numbered through.

    Args:
        path: the folder. Hidden files and folders are left out, links to folders followed.

    Raises:
        IndexFormatError: it cannot be listed, or has no file named like an image.
    """

    KIND = "image"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        listed = sorted(_listed(Path(path)))
        super().__init__(Path(path), [name for name, _ in listed])
        if not listed:
            raise IndexFormatError(
                f"{self.path} has no images: no file in it ends in {', '.join(EXTENSIONS)}."
            )
        self._odd_names = {key: name for name in self._names if (key := key_of(name)) != name}
        digest = hashlib.sha256()
        for name, size in listed:
            digest.update(os.fsencode(name) + b"\0%d\0" % size)
        self.fingerprint = digest.hexdigest()[:32]

    def sample(self, i: int) -> IndexedSample:
        """Image i, 0 ≤ i < len, under its name in the folder; its file is read."""
        name = self._name(i)
        key = key_of(name)
        extension = name.rpartition("/")[2].partition(".")[2].rpartition(".")[2].lower() or "image"
        try:
            data = self._content(name)
        except OSError as error:
            gone = f"cannot be read any more: {error.strerror}"
            return IndexedSample(key, self.path.name, {}, None, None, gone)
        self._in_hand.key, self._in_hand.data = key, data
        members = {extension: Member(extension, 0, len(data), zlib.crc32(data))}
        track, fault = None, ""
        try:
            if len(data) > MAX_FILE_BYTES:
                raise SourceError("open", f"a file of more than {MAX_FILE_BYTES} bytes")
            with sources_fault("open"):
                track = track_of(still_track(data, extension), len(data))
        except SourceError as error:
            fault = str(error).removeprefix(f"{error.stage}: ")
        return IndexedSample(key, self.path.name, members, track, None, fault)

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of the image's file."""
        in_hand = getattr(self._in_hand, "key", None) == sample.key
        name = self._odd_names.get(sample.key, sample.key)
        try:
            data: bytes = self._in_hand.data if in_hand else self._content(name)
        except OSError as error:
            raise ShardError(f"{self.path / sample.key}: {error.strerror}.") from error
        if len(data) < offset + size:
            raise ShardError(f"{self.path / sample.key} is shorter than it was: it was changed.")
        return data[offset : offset + size]

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """The whole file.

        Raises:
            ShardError: it is no such file.
        """
        if extension not in sample.members:
            raise ShardError(f"Image {sample.key} of {self.path} is not a .{extension}.")
        return self.read(sample, 0, sample.members[extension].size)

    def metadata(self, i: int) -> dict[str, Any]:
        """Its name as source; and as label the subfolder it lies in, or below."""
        folder, slash, _ = self._name(i).partition("/")
        return {"source": self._name(i)} | ({"label": folder} if slash else {})

    def _content(self, name: str) -> bytes:
        with (self.path / name).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


def holds_images(path: Path) -> bool:
    """Whether there is a file named like an image in a folder, or below it."""
    return next(_listed(path), None) is not None


def _listed(folder: Path) -> Iterator[tuple[str, int]]:
    """Name below the folder, and bytes, of each file that is named like an image, or is one."""
    return files_of_kind(
        folder,
        ImageFolder.KIND,
        lambda path: path.lower().endswith(EXTENSIONS + NOT_READ) or _is_nameless_image(path),
    )


def _is_nameless_image(path: str) -> bool:
    """Whether a file without an extension begins as an image does."""
    if "." in path.rpartition("/")[2] or not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return sniff_still(file.read(16)) is not None
