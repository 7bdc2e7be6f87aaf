"""Bytes on disk: samples, tar shards, their index; how they are built and verified. No torch."""

from shards.errors import (
    BuildError,
    ChecksumError,
    IndexFormatError,
    RemoteError,
    ShardError,
    SourceError,
)
from shards.format.index import IndexedSample, Member, Packets, ShardIndex, Track
from shards.format.manifest import Manifest, read_manifest
from shards.format.sample import SampleInfo, check_key, key_from_source
from shards.options import BuildOptions
from shards.reading.dataset import Dataset
from shards.reading.image_folder import ImageFolder
from shards.reading.samples import Samples, open_samples
from shards.reading.sound_folder import SoundFolder
from shards.storage.transfer import RemoteOptions

__all__ = [
    "BuildError",
    "BuildOptions",
    "ChecksumError",
    "Dataset",
    "ImageFolder",
    "IndexFormatError",
    "IndexedSample",
    "Manifest",
    "Member",
    "Packets",
    "RemoteError",
    "RemoteOptions",
    "SampleInfo",
    "Samples",
    "ShardError",
    "ShardIndex",
    "SoundFolder",
    "SourceError",
    "Track",
    "check_key",
    "key_from_source",
    "open_samples",
    "read_manifest",
]
