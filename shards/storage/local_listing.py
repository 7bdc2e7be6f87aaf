"""List the files below a local folder, in order; follow links to folders, never in circles."""

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet


def files_below(
    folder: str, apart: AbstractSet[str] = frozenset(), above: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Paths of the files in a folder, folder by folder; a link that leads nowhere counts as one.

    Left out is what is hidden, what is `apart`, and links that lead there or to a folder `above`.

    Raises:
        OSError: a folder cannot be listed.
    """
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda e: e.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.path in apart:
            continue
        if entry.is_symlink() and os.path.realpath(entry.path) in above | apart:
            continue
        if _is_folder(entry):
            yield from files_below(entry.path, apart, above)
        elif entry.is_symlink() or entry.is_file():
            yield entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        if entry.is_symlink():  # to itself, or to where nobody may look
            return False
        raise
