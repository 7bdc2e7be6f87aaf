"""List the files under a remote folder (s3://bucket/prefix and its like), through fsspec.

Credentials and endpoints come from the environment, as for reading.
"""

from collections.abc import Iterator
from typing import Any

from shards.errors import BuildError
from shards.storage.urls import public


def is_remote_folder(url: str) -> bool:
    """Whether a URL names a folder.

    Raises:
        BuildError: the server cannot be asked.
    """
    fs, path = _file_system(url)
    try:
        return bool(fs.isdir(path))
    except _errors() as error:
        raise _refused(url, error) from error


def remote_files(url: str) -> Iterator[str]:
    """The URLs of all files under a folder, sorted within each; hidden ones are left out.

    One folder's listing is held at a time.

    Raises:
        BuildError: the folder cannot be listed.
    """
    fs, path = _file_system(url)
    try:
        yield from _walk(fs, path)
    except _errors() as error:
        raise _refused(url, error) from error


def _walk(fs: Any, folder: str) -> Iterator[str]:
    entries = fs.ls(folder, detail=True)
    fs.invalidate_cache(folder)
    found = sorted((entry["name"].rstrip("/"), entry["type"]) for entry in entries)
    del entries
    for name, kind in found:
        if name == folder.rstrip("/") or name.rpartition("/")[2].startswith("."):
            continue
        if kind == "directory":
            yield from _walk(fs, name)
        else:
            yield str(fs.unstrip_protocol(name))


def _file_system(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        fs, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise _refused(url, error) from error
    return fs, path


def _errors() -> tuple[type[Exception], ...]:
    try:
        from botocore.exceptions import BotoCoreError
    except ImportError:
        return (OSError,)
    return OSError, BotoCoreError


def _refused(url: str, error: Exception) -> BuildError:
    return BuildError(
        f"Source {public(url)} cannot be listed: {type(error).__name__}: {error}. Check the URL, "
        "and that the credentials are in the environment."
    )
