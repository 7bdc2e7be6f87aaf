"""One sample of a shard: its key, its members, and the json that says where it came from.

A key names a sample in its data set, and the members of a sample are the tar entries that share
it: `{key}.mp4`, `{key}.flac` (or wav, opus, m4a), `{key}.json`. A WebDataset reader splits an
entry's name at the first dot, and a file system at slashes, so a key has neither.
"""

import base64
import hashlib
import re
import unicodedata
from dataclasses import asdict, dataclass, field
from typing import Any

from shards.errors import ShardError
from shards.format.json_text import json_bytes

MAX_KEY_BYTES = 90  # a plain ustar header holds names of 100 bytes; the rest is for the extension


def is_control(character: str) -> bool:
    """Whether a character ends a line, steers, turns text around, or is none (a lone surrogate)."""
    category = unicodedata.category(character)
    return category[0] == "C" or category in ("Zl", "Zp")


def check_key(key: str) -> str:
    """Return `key` if it may name a sample; raise `ShardError` that says what is wrong with it."""
    if not key:
        raise ShardError("A sample's key is empty; give every sample a name of its own.")
    wrong = [c for c in key if c in "./\\" or is_control(c)]
    if wrong:
        raise ShardError(
            f"Key {key!r} holds {wrong[0]!r}: a key has no dot, slash or control character, "
            "because readers split entry names there. Use key_from_source to make one."
        )
    if len(key.encode()) > MAX_KEY_BYTES:
        raise ShardError(
            f"Key {key[:40]!r}… has {len(key.encode())} bytes in UTF-8; at most {MAX_KEY_BYTES} "
            "fit a plain tar header. Use key_from_source to make a short one."
        )
    return key


def key_from_source(name: str, clip: int, range_text: str = "") -> str:
    """The key of clip number `clip` of the source called `name` (its path in the source folder).

    A readable stem, then 60 bits of the whole name's hash, so that equal stems in different
    folders stay distinct, then the clip's number. `range_text` names the part of the source that
    clips are numbered in, and goes into the hash. The key depends on nothing but its arguments, so
    any part of a build, on any machine, makes the same keys.
    """
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plain).strip("-")[:40] or "clip"
    whole = f"{name}\0{range_text}" if range_text else name  # no file name holds a 0
    digest = hashlib.sha256(whole.encode("utf-8", "surrogateescape")).digest()
    return f"{slug}-{base64.b32encode(digest)[:12].decode().lower()}-{clip:05d}"


@dataclass(frozen=True)
class SampleInfo:
    """The json member: where a clip came from, what it is, how it was made.

    Times are in seconds of the source's own presentation clock, counted from its first frame.
    source_sha256: of all bytes of the source; left out for a URL of more than 64 MiB, of which only
    the stretches that are needed are fetched. source_version: of a URL, its ETag or Last-Modified.
    deinterlaced: true where frames of the source were interlaced, left out elsewhere.
    tone_mapped: the same for HDR and wide colours.
    """

    key: str
    source: str
    source_sha256: str | None
    start_seconds: float
    stop_seconds: float
    width: int
    height: int
    num_frames: int
    frame_rate: float
    color_matrix: str
    color_range: str
    sample_rate_hz: int | None
    num_samples: int | None
    made_by: str
    num_channels: int | None = None
    deinterlaced: bool | None = None
    tone_mapped: bool | None = None
    source_version: str | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    caption: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The member's bytes: sorted keys, so that equal infos are equal bytes."""
        content = asdict(self)
        content["duration_seconds"] = round(self.stop_seconds - self.start_seconds, 9)
        content = {k: v for k, v in content.items() if v is not None}
        return json_bytes(content, indent=1)
