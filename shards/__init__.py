"""Bytes on disk: samples, tar shards, their index; how they are built and verified. No torch."""

from shards.dataset import DataSet
from shards.errors import (
    BuildError,
    ChecksumError,
    IndexFormatError,
    RemoteError,
    ShardError,
    SourceError,
)
from shards.image_folder import ImageFolder
from shards.index import IndexedSample, Member, Packets, ShardIndex, Track
from shards.manifest import Manifest, read_manifest
from shards.options import BuildOptions
from shards.sample import SampleInfo, check_key, key_from_source
from shards.samples import Samples, open_samples
from shards.transfer import RemoteOptions

__all__ = [
    "BuildError",
    "BuildOptions",
    "ChecksumError",
    "DataSet",
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
    "SourceError",
    "Track",
    "check_key",
    "key_from_source",
    "open_samples",
    "read_manifest",
]
