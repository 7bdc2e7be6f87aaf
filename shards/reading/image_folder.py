"""A folder of images as a data set: subfolders are labels, as torchvision's ImageFolder has them.

Opening lists the folder: names and sizes are what the fingerprint is made of. An image is read
when it is asked for; one that is no image is a sample without tracks, which says why.
"""

import hashlib
import os
import stat
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from shards.errors import IndexFormatError, ShardError, SourceError
from shards.format.index import IndexedSample, Member
from shards.media.faults import sources_fault
from shards.media.still import sniff_still, still_track
from shards.plural import plural
from shards.reading.media_file import track_of
from shards.storage.local_listing import files_below

EXTENSIONS: Final = (".jpeg", ".jpg", ".jfif", ".jpe", ".png", ".webp")
#: Named like images that are not read: each is a sample that is skipped, and so counted.
NOT_READ: Final = (".bmp", ".gif", ".tif", ".tiff", ".heic", ".avif", ".jxl")
MAX_FILE_BYTES: Final = 1 << 28


class ImageFolder:
    """The images below a folder, sorted by name, numbered through.

    Args:
        path: the folder. Hidden files and folders are left out, links to folders followed.

    Raises:
        IndexFormatError: it cannot be listed, or has no file named like an image.
    """

    is_remote = False

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        listed = sorted(_listed(self.path))
        if not listed:
            raise IndexFormatError(
                f"{self.path} has no images: no file in it ends in {', '.join(EXTENSIONS)}."
            )
        self._names = [name for name, _ in listed]
        self._odd_names = {key: name for name in self._names if (key := key_of(name)) != name}
        digest = hashlib.sha256()
        for name, size in listed:
            digest.update(os.fsencode(name) + b"\0%d\0" % size)
        self.fingerprint = digest.hexdigest()[:32]
        self._in_hand = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_in_hand": None}  # the listing goes along: folders change

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _in_hand=threading.local())

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"ImageFolder({self.path}: {plural(len(self), 'image')})"

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

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """See `Dataset.reader`."""
        return partial(self.read, sample)

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

    def _name(self, i: int) -> str:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path} has images 0 to {len(self) - 1}; asked for {i}.")
        return self._names[i]

    def _content(self, name: str) -> bytes:
        with (self.path / name).open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


def key_of(name: str) -> str:
    """A file's name as it can be printed: what cannot is escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def holds_images(path: Path) -> bool:
    """Whether there is a file named like an image in a folder, or below it."""
    return next(_listed(path), None) is not None


def _listed(folder: Path) -> Iterator[tuple[str, int]]:
    """Name below the folder, and bytes, of each file that is named like an image."""
    try:
        for path in files_below(str(folder)):
            if path.lower().endswith(EXTENSIONS + NOT_READ) or _is_nameless_image(path):
                size = size_of(path)
                if size is not None:
                    yield path.removeprefix(str(folder)).lstrip("/"), size
    except OSError as error:
        raise IndexFormatError(
            f"{error.filename} cannot be listed as a folder of images: {error.strerror}."
        ) from error


def _is_nameless_image(path: str) -> bool:
    """Whether a file without an extension begins as an image does."""
    if "." in path.rpartition("/")[2] or not Path(path).is_file():
        return False
    with Path(path).open("rb") as file:
        return sniff_still(file.read(16)) is not None


def size_of(path: str) -> int | None:
    """Bytes of a file; 0 where a link leads to none, and None for what is no file, as a pipe."""
    try:
        about = Path(path).stat()
    except OSError:
        return 0  # reading it will say why
    return about.st_size if stat.S_ISREG(about.st_mode) else None
