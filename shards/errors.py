"""The errors of shards: a skipped source, a damaged shard, a build that must stop."""

from shards.shown import shown


class ShardError(Exception):
    """Something on disk is not what it should be; the text says what, where, and what to do.

    It repeats names and texts of strangers, and is one line whatever they hold.
    """

    def __str__(self) -> str:
        return shown(super().__str__())


class IndexFormatError(ShardError):
    """An index or manifest is damaged, is of another version, or does not fit its shard."""


class ChecksumError(ShardError):
    """Bytes of a shard differ from what its index recorded."""


class BuildError(ShardError):
    """A build cannot start or cannot go on: a target, an option or a source list is wrong."""


class SourceError(ShardError):
    """One source, or a part of it, cannot become clips: counted and named, never fatal.

    `stage` is where it stopped ("list", "open", "read", "probe", "decode", "cut", "worker");
    `cause` is the short phrase the summary counts by; `detail` holds the numbers of this one case.
    """

    def __init__(self, stage: str, cause: str, detail: str = "") -> None:
        super().__init__(stage, cause, detail)
        self.stage = stage
        self.cause = cause
        self.detail = detail

    def __str__(self) -> str:
        return shown(f"{self.stage}: {self.cause}" + (f" ({self.detail})" if self.detail else ""))


class RemoteError(ShardError):
    """A server cannot be asked, does not answer rightly, or has another file than was written.

    `cause` is the server's last answer alone, "" where it gave none.
    """

    def __init__(self, text: str, cause: str = "") -> None:
        super().__init__(text)
        self.cause = cause


class RemoteMissingError(RemoteError):
    """The server answers, and has no such file."""


class RemoteChangedError(RemoteError):
    """A remote file is not the one it was."""
