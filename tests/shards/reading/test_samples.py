"""Opening data sets: of shards and of images, and what is not imported for it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.shards.small import write_data_set

#: the least that is a PNG by its header: 16 × 16, no pixels
PNG = bytes.fromhex("89504e470d0a1a0a 0000000d49484452 0000001000000010 0802000000 00000000")
PNG += bytes.fromhex("0000000049454e44 ae426082")


@pytest.mark.parametrize("kind", ["shards", "images"])
def test_data_sets_are_opened_and_their_headers_read_without_libav(
    kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / kind
    if kind == "shards":
        write_data_set(folder)
    else:
        folder.mkdir()
        (folder / "image.png").write_bytes(PNG)
    code = """
import sys
from shards import open_samples
video = open_samples(sys.argv[1]).sample(0).video
print(video.codec, *sys.modules)
"""
    command = [sys.executable, "-c", code, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    codec, *modules = ended.stdout.split()
    assert codec in ("h264", "png")
    assert "shards.format.index" in modules
    assert "av" not in modules
