"""Films damaged at random, built in every way: each is accounted for, and what is made is sound."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import BuildOptions
from shards.building.build import build
from shards.maintenance.verify import verify

FORMS = (("mp4", "aac"), ("matroska", "aac"), ("mpegts", "mp2"), ("flv", "aac"))
VIDEO = {"preset": "veryfast", "g": "25", "bf": "2", "sc_threshold": "0"}
COPIED = BuildOptions(profile="copy", size="source", fps="source", clip_seconds=1.0)
SCENES = BuildOptions(
    cut="scenes", clip_seconds=1.0, min_clip_seconds=0.2, fps="source", short_side=64,
    require=("audible", "motion"),
)  # fmt: skip


def damaged(data: bytes, dice: random.Random) -> bytes:
    """The film cut short, or with some bytes replaced, missing, or flipped bit by bit."""
    content = bytearray(data)
    kind, at = dice.randrange(4), dice.randrange(len(content))
    if kind == 0:
        return bytes(content[:at])
    if kind == 1:
        length = dice.randrange(1, 2000)
        content[at : at + length] = dice.randbytes(length)
    elif kind == 2:
        del content[at : at + dice.randrange(1, 3000)]
    else:
        for _ in range(dice.choice((1, 5, 40, 400))):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("options", [COPIED, SCENES], ids=["copied", "scenes"])
def test_every_damaged_film_is_accounted_for(
    film: Callable[..., Path], tmp_path: Path, options: BuildOptions
) -> None:
    dice = random.Random(5)
    (tmp_path / "videos").mkdir()
    films = [
        film(f"{form}.bin", seconds=4, size=(96, 64), color=(1, 1), container=form,
             audio_codec=audio, video_options=VIDEO).read_bytes()
        for form, audio in FORMS
    ]  # fmt: skip
    for number in range(16):
        path = tmp_path / f"videos/{number:02d}.mp4"
        path.write_bytes(damaged(films[number % len(films)], dice))
    summary = build([tmp_path / "videos"], tmp_path / "out", options, num_workers=2)
    lines = [json.loads(line) for line in (tmp_path / "out/report.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == [f"{n:02d}.mp4" for n in range(16)]
    assert sum(line["clips"] for line in lines) == summary.clips > 16
    assert summary.made + sum(summary.skipped_sources.values()) == 16
    assert not [cause for cause in summary.skipped_sources if cause.startswith("worker")]
    assert verify(tmp_path / "out").problems == []
