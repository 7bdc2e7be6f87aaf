"""Folders of sounds: whose labels and folds are which, and what is refused."""

import pickle
import wave
from pathlib import Path

import pytest

from shards import ImageFolder, IndexFormatError, ShardError, SoundFolder, open_samples
from tests.shards.reading.test_samples import PNG


def write_wav(path: Path, seconds: float = 0.25) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(2 * round(8000 * seconds)))


def rows(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """Name → label and fold."""
    samples = open_samples(path)
    assert isinstance(samples, SoundFolder)
    found = [samples.metadata(i) for i in range(len(samples))]
    return {row["source"]: (row.get("label"), row.get("fold")) for row in found}


def test_esc50_by_its_table_from_the_root_and_from_the_audio_folder(tmp_path: Path) -> None:
    names = ("1-100032-A-0.wav", "2-100210-B-36.wav")
    for name in names:
        write_wav(tmp_path / "audio" / name)
    (tmp_path / "esc50.gif").write_bytes(b"GIF89a")  # as in its repository
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text(
        "filename,fold,target,category,esc10,src_file,take\n"
        "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
        "2-100210-B-36.wav,2,36,vacuum_cleaner,False,100210,B\n"
    )
    wanted = [("dog", "1"), ("vacuum_cleaner", "2")]
    assert rows(tmp_path) == dict(zip([f"audio/{n}" for n in names], wanted, strict=True))
    assert rows(tmp_path / "audio") == dict(zip(names, wanted, strict=True))
    (tmp_path / "meta" / "esc50.csv").unlink()
    assert rows(tmp_path / "audio") == dict(zip(names, [("0", None), ("36", None)], strict=True))


def test_dcase_by_lists_and_names(tmp_path: Path) -> None:
    for name in ("bus01.wav", "bus12.wav", "quietstreet03.wav"):
        write_wav(tmp_path / name)
    (tmp_path / "train.txt").write_text("bus12.wav\n\nquietstreet03.wav\n")
    assert rows(tmp_path / "train.txt") == {
        "bus12.wav": ("bus", None),
        "quietstreet03.wav": ("quietstreet", None),
    }
    assert len(rows(tmp_path)) == 3
    write_wav(tmp_path / "take_5.wav")  # one of another form: then no name says a label
    assert set(rows(tmp_path).values()) == {(None, None)}


def test_folders_are_labels_and_a_table_goes_before_them(tmp_path: Path) -> None:
    write_wav(tmp_path / "rain" / "a.wav")
    write_wav(tmp_path / "wind" / "b.wav")
    assert rows(tmp_path) == {"rain/a.wav": ("rain", None), "wind/b.wav": ("wind", None)}
    before = SoundFolder(tmp_path).fingerprint
    (tmp_path / "labels.csv").write_text("file,label,fold\nrain/a.wav,wet,3\n")
    assert rows(tmp_path) == {"rain/a.wav": ("wet", "3"), "wind/b.wav": (None, None)}
    assert SoundFolder(tmp_path).fingerprint != before


def test_samples_are_read_as_they_lie(tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav", 0.25)
    write_wav(tmp_path / "two.wav", 0.5)
    (tmp_path / "bad.wav").write_bytes(b"RIFF, but no wave")
    folder = pickle.loads(pickle.dumps(SoundFolder(tmp_path)))
    bad, one, two = map(folder.sample, range(3))
    assert (bad.key, bad.audio) == ("bad.wav", None)
    assert bad.fault
    assert [sample.audio.stop_seconds for sample in (one, two)] == [0.25, 0.5]
    whole = (tmp_path / "one.wav").read_bytes()
    assert folder.read_member(one, "media") == whole  # another was read since
    assert folder.read(one, 4, 10) == whole[4:14]
    with pytest.raises(ShardError, match=r"one.wav has no member .wav; it is one file"):
        folder.read_member(one, "wav")
    with pytest.raises(IndexError, match=r"has sounds 0 to 2; asked for 3"):
        folder.sample(3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", "one.wav\ntwo.wav\n", r"list.txt:2 has 'two.wav'; a list has a line for each"),
        ("list.txt", "one.wav\n../one.wav\n", r"list.txt:2 has '../one.wav'; .* and below it"),
        ("list.txt", "labels.csv\n", r"list.txt:1 has 'labels.csv'"),
        ("list.txt", "\n", r"list.txt has no sounds"),
        ("labels.csv", "name,label\n", r"labels.csv has the columns name, label; it needs file"),
        ("labels.csv", "", r"has the columns \(none\)"),
    ],
)
def test_refusals_say_where(tmp_path: Path, name: str, content: str, message: str) -> None:
    write_wav(tmp_path / "one.wav")
    (tmp_path / name).write_text(content)
    with pytest.raises(IndexFormatError, match=message):
        open_samples(tmp_path / name if name.endswith("txt") else tmp_path)


def test_of_a_folder_with_both_the_images_are_taken(tmp_path: Path) -> None:
    write_wav(tmp_path / "one.wav")
    (tmp_path / "cover.png").write_bytes(PNG)
    assert isinstance(open_samples(tmp_path), ImageFolder)
