import json

import pytest

from shards import ShardError, check_key, key_from_source
from shards.format.sample import MAX_KEY_BYTES, SampleInfo


@pytest.mark.parametrize(
    ("key", "named"),
    [("a.b", "'.'"), ("a/b", "'/'"), ("a\\b", "'\\\\'"), ("a\nb", "'\\n'"), ("a\x00", "'\\x00'")],
)
def test_a_key_has_no_dot_slash_or_control_character(key: str, named: str) -> None:
    with pytest.raises(ShardError, match="no dot, slash or control character") as error:
        check_key(key)
    assert named in str(error.value)


def test_a_key_is_neither_empty_nor_too_long() -> None:
    with pytest.raises(ShardError, match="key is empty"):
        check_key("")
    with pytest.raises(ShardError, match=f"300 bytes in UTF-8; at most {MAX_KEY_BYTES}"):
        check_key("x" * 300)
    assert check_key("école-日本-00001") == "école-日本-00001"


@pytest.mark.parametrize(
    "name",
    [
        "plain.mp4",
        "with spaces and 'quotes' \".mkv",
        "deep/er/than.this.one.webm",
        "日本語.mp4",
        "x" * 300 + ".mp4",
        "...",
        "new\nline.mp4",
        "not utf-8 \udcff.mp4",
        "no extension",
    ],
)
def test_any_source_name_gives_a_valid_key(name: str) -> None:
    key = key_from_source(name, 12)
    assert check_key(key) == key
    assert key.endswith("-00012")
    assert key.isascii()


def test_equal_stems_in_different_folders_get_different_keys() -> None:
    names = ["a/x.mp4", "b/x.mp4", "x.mp4", "x.mkv", "a-x.mp4"]
    assert len({key_from_source(name, 0) for name in names}) == len(names)


def test_keys_depend_on_name_and_clip_alone() -> None:
    assert key_from_source("film.mp4", 3) == "film-pfoaqz4mh2wm-00003"


def test_the_json_says_duration_and_leaves_out_what_is_unknown() -> None:
    info = SampleInfo(
        key="k",
        source="film.mp4",
        source_sha256="0" * 64,
        start_seconds=4.0,
        stop_seconds=8.0,
        width=224,
        height=128,
        num_frames=120,
        frame_rate=30.0,
        color_matrix="bt709",
        color_range="limited",
        sample_rate_hz=None,
        num_samples=None,
        made_by="test",
        label="disc",
    )
    content = json.loads(info.to_json())
    assert content["duration_seconds"] == 4.0
    assert content["label"] == "disc"
    assert "caption" not in content
    assert "num_samples" not in content
