"""Whatever goes wrong with one source is its own fault: named, counted, and no end of the run.

Damage leads demuxers, decoders and the code around them into corners that no list of exceptions
foresees. What a source's own bytes were being read for is put inside `sources_fault`; the rest of a
program, where an unexpected error is a bug and has to show at once, stays outside.
"""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shards.errors import SourceError

__all__ = ["passes", "sources_fault", "unexpected"]


def unexpected(error: BaseException) -> tuple[str, str]:
    """The cause and the detail of an error that nobody foresaw, with the line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    text = " ".join(str(error).split())[:200]
    return f"an unexpected {type(error).__name__}", text + place


def passes(error: Exception) -> bool:
    """Whether an error is the machine's and no source's: memory or a disk that fails."""
    libav = sys.modules.get("av")  # not imported here: what only reads headers does without it
    is_of_libav = libav is not None and isinstance(error, libav.FFmpegError)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and not is_of_libav)


@contextmanager
def sources_fault(stage: str) -> Iterator[None]:
    """Turn what goes wrong inside into a `SourceError` of this stage, unless it is one or `passes`.

    Raises:
        SourceError: anything at all but an interrupt, failing memory and a failing disk.
    """
    try:
        yield
    except SourceError:
        raise
    except Exception as error:
        if passes(error):
            raise
        raise SourceError(stage, *unexpected(error)) from error
