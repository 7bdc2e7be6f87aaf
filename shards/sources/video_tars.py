"""A WebDataset tar of videos as sources: each sample's video, where it lies in the tar.

    shard.tar: 000.mp4 000.json 000.txt 001.mp4 001.cls …   ─►   shard.tar/000, shard.tar/001, …

A sample's video is its member that begins as media (one with video before one with audio alone);
where it has several, which names with dots may make, each is a source by its whole name. Its json
is metadata (label, labels and caption are taken from it), txt its caption, cls its label, as
video2dataset and webdataset write them. Audio in a member of its own is not used.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from shards.errors import SourceError
from shards.format.json_text import third_party_json
from shards.format.webdataset_tar import Entry, tar_samples
from shards.media.container import SNIFF_BYTES, sniff
from shards.sources.source import Source, row_of
from shards.storage.opening import Location, open_source

MAX_TEXT_BYTES = 1 << 20
_TEXTS = ("json", "txt", "cls")
_AUDIO_ONLY = ("flac", "wav", "m4a", "aac", "mp3", "oga", "ogg", "opus", "wma", "mka")


def is_tar(path: str) -> bool:
    """Whether a path or URL is called like a tar."""
    return path.lower().endswith(".tar")


def tar_sources(location: Location, name: str) -> Iterator[Source]:
    """The samples of a tar, in its order, each a source called `name`/key.

    What cannot be used is a source with a fault; so is the rest of a tar that is damaged. A file
    that is no tar is one source as it is.
    """
    notes: list[tuple[str, str]] = []
    found = 0
    try:
        with open_source(location) as source:
            seen: set[int] = set()
            for key, entries in tar_samples(source.file, lambda *note: notes.append(note)):
                found += 1
                twin = hash(key) in seen
                seen.add(hash(key))
                yield from _sample(source.file, location, f"{name}/{key}", entries, twin)
    except SourceError as error:
        if error.cause == "not a plain tar":
            yield Source(name, location)
            return
        yield Source(name, location, fault=(error.stage, error.cause, error.detail))
        return
    for cause, detail in notes:
        yield Source(name, location, fault=("list", cause, detail))
    if not found and not notes:
        yield Source(name, location, fault=("list", "a tar without samples", ""))


def _sample(
    file: BinaryIO, location: Location, name: str, entries: list[Entry], twin: bool
) -> Iterator[Source]:
    """A sample's film; of several, each by its whole name, with the texts that go by that name."""
    try:
        if twin:
            raise SourceError("list", "the key was there before")
        if any(entry.is_sparse for entry in entries):
            raise SourceError("list", "a sparse member")
        videos = _videos(file, [e for e in entries if _type(e) not in _TEXTS])
    except SourceError as error:
        yield Source(name, location, fault=(error.stage, error.cause, error.detail))
        return
    for video in videos:
        own = f"{name}.{video.extension}" if len(videos) > 1 else name
        try:
            row = _row(file, _texts(entries, video if len(videos) > 1 else None))
        except SourceError as error:
            yield Source(own, location, fault=(error.stage, error.cause, error.detail))
            continue
        yield Source(own, Location(location.path, video.offset, video.size), row)


def _type(entry: Entry) -> str:
    """What comes after the last dot."""
    return entry.extension.rpartition(".")[2]


def _texts(entries: list[Entry], video: Entry | None) -> dict[str, Entry]:
    """The texts of a sample by type; before them, those that are called as one of its videos."""
    texts = {entry.extension: entry for entry in entries if entry.extension in _TEXTS}
    if video is not None:
        stem = video.extension.rpartition(".")[0]
        own = [e for e in entries if e.extension.rpartition(".")[0] == stem]
        texts |= {_type(entry): entry for entry in own if _type(entry) in _TEXTS}
    return texts


def _videos(file: BinaryIO, entries: list[Entry]) -> list[Entry]:
    """The members with video, or else the first with audio alone."""
    videos: list[Entry] = []
    audio = fault = None
    for entry in entries:
        file.seek(entry.offset)
        try:
            kind = sniff(file.read(min(entry.size, SNIFF_BYTES)))
        except SourceError as error:
            if error.stage == "read":
                raise
            fault = fault or error
            continue
        if kind in _AUDIO_ONLY or _type(entry) in _AUDIO_ONLY:
            audio = audio or entry
        else:
            videos.append(entry)
    if videos:
        return videos
    if audio is not None:
        return [audio]
    raise fault or SourceError("list", "a sample without a video")


def _row(file: BinaryIO, entries: dict[str, Entry]) -> dict[str, Any]:
    texts = {extension: _text(file, entry) for extension, entry in entries.items()}
    fields = _json(texts["json"]) if "json" in texts else {}
    if "txt" in texts:
        fields["caption"] = texts["txt"]
    if "cls" in texts:
        fields["label"] = texts["cls"]
    try:
        return row_of(fields)
    except ValueError:  # what others mean by these names need not be what we do
        return {"metadata": fields}


def _text(file: BinaryIO, entry: Entry) -> str:
    if entry.size > MAX_TEXT_BYTES:
        raise SourceError("list", f"a text of more than {MAX_TEXT_BYTES} bytes", entry.extension)
    file.seek(entry.offset)
    try:
        return file.read(entry.size).decode().strip()
    except UnicodeDecodeError as error:
        raise SourceError("list", "a text that is not UTF-8", entry.extension) from error


def _json(text: str) -> dict[str, Any]:
    try:
        fields = third_party_json(text)
    except ValueError as error:
        raise SourceError("list", "json that cannot be read", str(error)) from error
    if not isinstance(fields, dict):
        raise SourceError("list", "json that is not an object", text[:60])
    return fields
