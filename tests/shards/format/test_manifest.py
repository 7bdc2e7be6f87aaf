"""A manifest's checksum covers all of it, and odd values are one message each, checksum or not."""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from shards import IndexFormatError, Manifest
from shards.format import manifest
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


def odd(**fields: Any) -> bytes:
    """A manifest that agrees with its own checksums, and has these fields in its one shard."""
    return of_shards([asdict(SHARD) | fields])


def of_shards(shards: Any, **fields: Any) -> bytes:
    """The same with any list of shards, and with any fields of its own."""
    content: dict[str, Any] = {
        "format": manifest.FORMAT,
        "version": manifest.VERSION,
        "num_samples": 3,
        "shards": shards,
        "build": {},
    }
    with suppress(TypeError, AttributeError):
        content["fingerprint"] = manifest._digest([list(entry.values()) for entry in shards])
    content |= fields
    content["checksum"] = manifest._checksum(content)
    return json.dumps(content).encode()


def test_the_odd_ones_here_are_odd_only_where_they_are_meant_to_be() -> None:
    assert parse_manifest(odd(), "m").shards == (SHARD,)


ODD: dict[str, list[Any]] = {
    "name": [None, 5, "", [], "..", "../a.tar", "/a.tar", "a//b.tar", "a\\b", "a\n.tar",
             "a\x1b.tar", "a\u2028b", "a\ud800.tar"],
    "size": [None, -1, 1.5, "10", True, 1 << 62, 10**400, []],
    "num_samples": [None, -1, 1e300, True, 1 << 62, {}],
    "index_size": [None, -5, "20", 10**4000],
    "sha256": [None, 7, "", "AB" * 32, "ab" * 31, "zz" * 32],
    "index_sha256": [None, "../../../../etc/passwd", "ab" * 33, ["a"]],
    "another": [1],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(name, v) for name in ODD for v in ODD[name]])
def test_an_odd_value_of_a_shard_is_one_message(field: str, value: Any) -> None:
    with pytest.raises(IndexFormatError, match=r"^m is damaged \(.*build the data set again") as e:
        parse_manifest(odd(**{field: value}), "m")
    assert len(str(e.value)) < 300


@pytest.mark.parametrize(
    "shards",
    [None, 5, "text", {}, {"a": 1}, [None], [5], ["a.tar"], [[]], [{}], [asdict(SHARD)] * 2,
     [asdict(SHARD) | {"name": f"{n}.tar", "num_samples": 1 << 61} for n in range(2)]],
)  # fmt: skip
def test_an_odd_list_of_shards_is_one_message(shards: Any) -> None:
    with pytest.raises(IndexFormatError, match=r"^m (is damaged|does not agree)"):
        parse_manifest(of_shards(shards), "m")


ODD_FIELDS: dict[str, list[Any]] = {
    "version": [None, True, 0, -1, 4, 3.0, "3", [3], 10**400],
    "format": [None, 1, [], "another"],
    "build": [None, 1, "text", [1], [[1, 2, 3]]],
}


@pytest.mark.parametrize(
    ("field", "value"), [(name, v) for name in ODD_FIELDS for v in ODD_FIELDS[name]]
)
def test_odd_values_of_the_manifest_are_one_message(field: str, value: Any) -> None:
    with pytest.raises(IndexFormatError, match=r"^m ") as e:
        parse_manifest(of_shards([asdict(SHARD)], **{field: value}), "m")
    assert len(str(e.value)) < 300


@pytest.mark.parametrize("depth", [100_000, *range(320, 1000, 20)])
def test_a_nest_is_read_or_one_message(depth: int) -> None:
    nest = "[" * depth + "]" * depth
    data = of_shards([asdict(SHARD)]).replace(b'"build": {}', f'"build": {{"a": {nest}}}'.encode())
    with pytest.raises(IndexFormatError, match=r"^m "):
        parse_manifest(data, "m")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"null", b"[]", b"1" * 5000, b'"\\ud800"'])
def test_what_is_no_manifest_at_all(data: bytes) -> None:
    with pytest.raises(IndexFormatError, match=r"^m is not a manifest"):
        parse_manifest(data, "m")
