"""Videos in folders named by label, and the split files of UCF-101, HMDB-51 and Kinetics."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.sources.labels import Labels
from shards.sources.source import Source
from shards.sources.split_files import SplitFiles
from shards.storage.opening import Location

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64, require=())


def named(split: SplitFiles, *names: str) -> dict[str, str]:
    sources = [Source(name, Location(f"/x/{name}")) for name in names]
    return {source.name: str(source.row.get("label", "")) for source in split.take(sources)}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_ucf_101(tmp_path: Path) -> None:
    train = write(
        tmp_path / "trainlist01.txt", "Archery/v_Archery_g08_c01.avi 1\r\nBiking/b.avi 2\r\n"
    )
    split = SplitFiles([train])
    files = ("Archery/v_Archery_g08_c01.avi", "Biking/c.avi")
    assert named(split, *files) == {"Archery/v_Archery_g08_c01.avi": ""}
    assert split.note() == "1 of 2 videos of the split are not here: b"
    test = write(tmp_path / "testlist01.txt", "Biking/c.avi\n")
    assert named(SplitFiles([test]), *files) == {"Biking/c.avi": ""}


def test_hmdb_51(tmp_path: Path) -> None:
    one = write(tmp_path / "wave_test_split1.txt", "a b.avi 1 \nc.avi 2 \nd.avi 0 \n")
    two = write(tmp_path / "walk_test_split1.txt", "e.avi 1 \n")
    files = ("wave/a b.avi", "wave/c.avi", "wave/d.avi", "walk/e.avi")
    assert set(named(SplitFiles([one, two], "train"), *files)) == {"wave/a b.avi", "walk/e.avi"}
    assert set(named(SplitFiles([one, two], "test"), *files)) == {"wave/c.avi"}
    with pytest.raises(BuildError, match="tells train from test; say which with --split-part"):
        SplitFiles([one])


def test_kinetics(tmp_path: Path) -> None:
    text = "label,youtube_id,time_start,time_end,split,is_cc\n"
    text += 'abseiling,-3B32lodo2M,59,69,train,0\n"cooking, on fire",abc,1,11,validate,0\n'
    path = write(tmp_path / "k.csv", text)
    files = ("x/-3B32lodo2M_000059_000069.mp4", "abc.mp4", "other.mp4")
    assert named(SplitFiles([path]), *files) == {
        files[0]: "abseiling",
        "abc.mp4": "cooking, on fire",
    }
    assert named(SplitFiles([path], "validate"), *files) == {"abc.mp4": "cooking, on fire"}
    with pytest.raises(BuildError, match="names no video of the part 'test'"):
        SplitFiles([path], "test")


@pytest.mark.parametrize("row", ["dog,abc,soon,11,train", "dog,abc,1", "dog,abc,1,inf,train"])
def test_rows_of_kinetics_without_times_are_refused(tmp_path: Path, row: str) -> None:
    path = write(tmp_path / "k.csv", f"label,youtube_id,time_start,time_end,split\n{row}\n")
    with pytest.raises(BuildError, match=r"k.csv:2 has 'dog, abc.*; a row of Kinetics has"):
        SplitFiles([path])


def test_a_split_of_other_videos_is_refused(tmp_path: Path) -> None:
    split = SplitFiles([write(tmp_path / "l.txt", "x/gone.avi\n")])
    with pytest.raises(BuildError, match=r"No source is .* 1 of 1 videos .* are not here: gone\."):
        named(split, "x/here.avi")


def test_what_is_no_split_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"l\.txt:1 has 'hello'; a split file is of UCF-101"):
        SplitFiles([write(tmp_path / "l.txt", "hello\n")])
    with pytest.raises(BuildError, match="names no parts"):
        SplitFiles([write(tmp_path / "m.txt", "a/b.avi 1\n")], "train")


def test_a_build_takes_labels_from_folders_and_what_a_split_names(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("dog/a.mp4", "dog/b.mp4", "cat/deep/c.mp4", "d.mp4"):
        film(f"videos/{name}", seconds=1, audio_codec=None)
    build([tmp_path / "videos"], tmp_path / "all", OPTIONS, labels="folders")
    found = Dataset.open(tmp_path / "all")
    labels = {
        found.metadata(i)["source"]: found.metadata(i).get("label") for i in range(len(found))
    }
    assert labels == {
        "dog/a.mp4": "dog",
        "dog/b.mp4": "dog",
        "cat/deep/c.mp4": "cat",
        "d.mp4": None,
    }
    split = SplitFiles([write(tmp_path / "list.txt", "dog/b.mp4 1\ncat/gone.mp4 2\n")])
    summary = build(
        [tmp_path / "videos"], tmp_path / "some", OPTIONS, labels="folders", split=split
    )
    assert summary.sources == 1
    assert summary.notes == ["1 of 2 videos of the split are not here: gone"]
    assert Dataset.open(tmp_path / "some").metadata(0)["label"] == "dog"


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_labels_match_names_in_either_form_of_unicode(
    tmp_path: Path, forms: tuple[str, str]
) -> None:
    composed, apart = "\u00dcbung-\u00e9.mp4", "U\u0308bung-e\u0301.mp4"
    on_disk, written = (composed, apart) if forms[0] == "NFC" else (apart, composed)
    labels = Labels(write(tmp_path / "l.csv", f"file,label\n{written},dog\n"))
    assert labels.of(Source(on_disk, Location(f"/x/{on_disk}"))) == {"label": "dog"}
    assert labels.without_source() == (0, [])
