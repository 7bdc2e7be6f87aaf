"""A manifest's checksum covers all of it; those of older versions are read as they are."""

import json
from pathlib import Path

import pytest

from shards import IndexFormatError, Manifest
from shards.format.manifest import ShardEntry, parse_manifest

SHARD = ShardEntry("a.tar", 10, "ab" * 32, 3, 20, "cd" * 32)
MANIFEST = Manifest((SHARD,), {"made_by": "a test", "options": {"crf": 20}})


def test_it_is_read_as_it_was_written() -> None:
    assert parse_manifest(MANIFEST.to_bytes(), "m") == MANIFEST


def test_no_bit_can_flip_unseen() -> None:
    data = MANIFEST.to_bytes()
    for place in range(len(data)):
        for bit in (0, 3, 6):
            spoilt = bytearray(data)
            spoilt[place] ^= 1 << bit
            if spoilt.split() == data.split():
                continue  # white space for white space
            with pytest.raises(IndexFormatError):
                parse_manifest(bytes(spoilt), "m")


def test_an_edit_of_what_is_for_people_is_named() -> None:
    content = json.loads(MANIFEST.to_bytes())
    content["build"]["options"]["crf"] = 30
    with pytest.raises(IndexFormatError, match=r"^m does not agree with its own checksum"):
        parse_manifest(json.dumps(content).encode(), "m")


def test_the_versions_before_had_none() -> None:
    content = json.loads(MANIFEST.to_bytes())
    del content["checksum"]
    with pytest.raises(IndexFormatError, match="own checksum"):
        parse_manifest(json.dumps(content).encode(), "m")
    content["version"] = 2
    assert parse_manifest(json.dumps(content).encode(), "m") == MANIFEST
    first = Path(__file__).parents[1] / "maintenance/manifest-1.json"
    assert parse_manifest(first.read_bytes(), "m").num_samples == 6
