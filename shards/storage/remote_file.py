"""A remote file as a seekable binary file: blocks are fetched as they are read, and ahead.

A probe reads a header, a clip a stretch, so blocks are small at first; each one that follows on the
last doubles how much is asked for. The blocks read last are kept, for containers whose video and
audio lie apart. A file up to `WHOLE_BYTES` can be fetched whole instead, in one request, and the
last one of these is kept for the next clips of the same source; from a server that ignores ranges,
nothing else can be had.
"""

from collections import OrderedDict

from shards.errors import RemoteChangedError, RemoteError, SourceError
from shards.storage.seekable import Stretch
from shards.storage.transfer import IGNORES_RANGES, RemoteFile, RemoteOptions, Transfer
from shards.storage.urls import public

BLOCK_BYTES = 1 << 18
MAX_AHEAD_BLOCKS = 32
KEPT_BLOCKS = 128  # 32 MiB
WHOLE_BYTES = 64 << 20

_TELL_SIZE = ("http://", "https://", "s3://", "s3a://")

_transfers: list[tuple[str, RemoteOptions, Transfer]] = []  # of this process, by protocol
_last_whole: tuple[tuple[str, int, int, str], bytes] | None = None


class SeekableRemoteFile(Stretch):
    """One file behind a URL, or a stretch of it.

    Args:
        url: of the file.
        remote: how it is read.
        offset: where the stretch begins.
        size: of the stretch, in bytes; None: to the end of the file.

    Attributes:
        size: as above, or as the server says.
        total: bytes of the whole file, as the server says.
        version: its ETag or else Last-Modified; "" where the server says neither.

    Raises:
        SourceError: the server does not give it, or (while reading) has another file by now.
    """

    def __init__(
        self, url: str, remote: RemoteOptions, offset: int = 0, size: int | None = None
    ) -> None:
        self._file, self._offset = RemoteFile(url), offset
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._whole: bytes | None = None
        self._ahead, self._next_block = 1, 0
        try:
            self._transfer = _transfer(url, remote)
            # other protocols say with the first byte alone how long the file is
            at = offset if url.startswith(_TELL_SIZE) else 0
            count = BLOCK_BYTES if size is None else max(1, min(size, BLOCK_BYTES))
            first = self._transfer.fetch_first(self._file, count, at)
        except RemoteError as error:
            raise _skip("open", url, error) from error
        self.total = self._file.size or 0
        self.size = self.total - offset if size is None else size
        self.version = self._file.etag or self._file.modified or ""
        if at == offset:
            self._keep(0, first[: self.size])
        if _last_whole is not None and _last_whole[0] == self._key and self.version:
            self._whole = _last_whole[1]

    @property
    def _key(self) -> tuple[str, int, int, str]:
        return self._file.url, self._offset, self.size, f"{self.total}:{self.version}"

    def fetch_whole(self) -> bool:
        """Have all bytes here, in one request; False if they are too many."""
        global _last_whole
        if self._whole is None and self.size <= WHOLE_BYTES:
            start = len(self._blocks[0]) if 0 in self._blocks else 0
            head = self._blocks.get(0, b"")
            self._whole = head + self._fetch(start, self.size)
            self._blocks.clear()
            _last_whole = self._key, self._whole
        return self._whole is not None

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill the buffer, as far as the file goes."""
        stop = min(self.size, self._place + len(buffer))
        count = 0
        while self._place < stop:
            data = self._at(self._place)[: stop - self._place]
            buffer[count : count + len(data)] = data
            count += len(data)
            self._place += len(data)
        return count

    def _at(self, place: int) -> memoryview:
        """Bytes from a place on: to the end of its block, or all."""
        if self._whole is not None:
            return memoryview(self._whole)[place:]
        number = place // BLOCK_BYTES
        if number not in self._blocks:
            self._ahead = (
                min(2 * self._ahead, MAX_AHEAD_BLOCKS) if number == self._next_block else 1
            )
            stop = number + 1
            while stop < number + self._ahead and stop not in self._blocks:
                stop += 1
            start = number * BLOCK_BYTES
            self._keep(number, self._fetch(start, min(self.size, stop * BLOCK_BYTES)))
        self._blocks.move_to_end(number)
        return memoryview(self._blocks[number])[place - number * BLOCK_BYTES :]

    def _keep(self, number: int, data: bytes) -> None:
        for start in range(0, len(data), BLOCK_BYTES):
            self._blocks[number] = data[start : start + BLOCK_BYTES]
            number += 1
        self._next_block = number
        while len(self._blocks) > KEPT_BLOCKS:
            self._blocks.popitem(last=False)

    def _fetch(self, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        try:
            try:
                asked = (self._offset + start, self._offset + stop)
                return self._transfer.fetch(self._file, [asked])[0].data
            except RemoteError as error:
                is_all = self.size == self.total <= WHOLE_BYTES
                if not (is_all and error.cause.startswith(IGNORES_RANGES)):
                    raise
                self._whole = self._transfer.fetch_file(self._file)
                return self._whole[start:stop]
        except RemoteError as error:
            raise _skip("read", self._file.url, error) from error


def _transfer(url: str, remote: RemoteOptions) -> Transfer:
    protocol = url.partition("://")[0]
    for known, options, transfer in _transfers:
        if known == protocol and options == remote:
            return transfer
    transfer = Transfer(url, remote)
    _transfers.append((protocol, remote, transfer))
    return transfer


def _skip(stage: str, url: str, error: RemoteError) -> SourceError:
    if isinstance(error, RemoteChangedError):
        detail = f"{public(url)}: another size, ETag or Last-Modified than before"
        return SourceError("read", "the source changed while it was read", detail)
    cause = error.cause if error.cause.startswith("status ") else "cannot be fetched"
    return SourceError(stage, cause, public(str(error)))
