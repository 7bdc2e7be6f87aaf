"""What can be read sample by sample, whatever it is made of: the interface that training sees."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from shards.format.index import IndexedSample
from shards.format.manifest import MANIFEST_NAME
from shards.reading.dataset import Dataset
from shards.reading.image_folder import ImageFolder, holds_images
from shards.reading.sound_folder import SoundFolder, holds_sounds, is_esc50
from shards.reading.text_file import TEXT_EXTENSION, TextFile
from shards.storage.transfer import RemoteOptions
from shards.storage.urls import is_url


class Samples(Protocol):
    """Samples by number, and their bytes. `Dataset` says what each of these does.

    Methods may be called from several threads at once.
    """

    @property
    def path(self) -> Path | str:
        """Where they lie, for messages."""

    def __len__(self) -> int:
        """How many."""

    @property
    def fingerprint(self) -> str:
        """Changes when any sample does."""

    @property
    def is_remote(self) -> bool:
        """Whether its bytes come from a server."""

    def sample(self, i: int) -> IndexedSample:
        """Sample i, 0 ≤ i < len."""

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of what holds the sample."""

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """`read` for one sample, which will be asked for `ranges`."""

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """A whole member, its checksum verified."""

    def metadata(self, i: int) -> dict[str, Any]:
        """What is known of sample i: source, times, labels."""


def open_samples(path: str | Path, remote: RemoteOptions | None = None) -> Samples:
    """Open what lies at a path: shards, here or at a URL, a folder of images or sounds, or texts.

    A .txt file lists sounds; a .tsv file holds texts, one a line or several with tabs between. Of a
    folder with both, images are taken, but for ESC-50's own.

    Raises:
        ShardError: it is none of these.
    """
    if not is_url(str(path)):
        folder = Path(path)
        if folder.suffix == ".txt" and folder.is_file():
            return SoundFolder(folder)
        if folder.suffix == TEXT_EXTENSION and folder.is_file():
            return TextFile(folder)
        if folder.is_dir() and not (folder / MANIFEST_NAME).exists():
            if not is_esc50(folder) and holds_images(folder):
                return ImageFolder(folder)
            if holds_sounds(folder):
                return SoundFolder(folder)
    return Dataset.open(path, remote=remote)
