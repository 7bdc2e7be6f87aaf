"""What is listed of what is given, against trees that are laid out by hand."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.range_server import RangeServer
from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.sources.discover import list_sources, sources_of
from shards.storage.globs import compiled, is_pattern
from shards.storage.opening import Location
from tests.shards.s3_server import KEYS, endpoint, file_system, s3_server
from tests.shards.sources.test_source_lists import report, write
from tools.cli import app

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64)
TREE = ("a.mp4", "b.mkv", "x/a.mp4", "x/y/a.mp4", "x/y/[1].mp4", "x/y/é.mov", "z/q.mp4.part")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (*TREE, ".hidden.mp4", "x/.git/a.mp4"):
        write(tmp_path / "videos" / name, name)
    return tmp_path / "videos"


def names(*given: str | Path) -> list[str]:
    return [source.name for source in list_sources(given)]


@pytest.mark.parametrize(
    "pattern",
    [
        *("*.mp4", "**/*.mp4", "x/**/*.mp4", "**/y/*", "**/a.mp?", "**/[a-b].m[!o]*", "x/*", "**"),
        *("**/[[]1[]].mp4", "x/y/[!a]*", "**/*.*"),
    ],
)
def test_a_pattern_matches_what_the_shell_would(tree: Path, pattern: str) -> None:
    found = glob.glob(pattern, root_dir=tree, recursive=True)  # noqa: PTH207 - as an oracle
    expected = sorted(n for n in found if (tree / n).is_file() and ".git" not in n)
    assert sorted(s.location.path for s in list_sources([f"{tree}/{pattern}"])) == sorted(
        str(tree / name) for name in expected
    )
    assert expected


def test_names_are_paths_within_what_is_given(tree: Path) -> None:
    everything = sorted(TREE)
    assert sorted(names(tree)) == everything
    assert names(tree) == names(tree)  # in one fixed order
    assert sorted(names(f"file://{tree}")) == everything
    assert names(tree / "x" / "a.mp4") == ["a.mp4"]
    assert names(tree / "a.mp4", tree / "x" / "a.mp4") == ["a.mp4", "x/a.mp4"]
    # two patterns of one folder are one search, and a file they share is one source
    assert names(f"{tree}/*.mp4", f"{tree}/a.*") == ["a.mp4"]
    # a file that is really called like a pattern is that file
    assert is_pattern("[1].mp4")
    assert names(tree / "x/y/[1].mp4") == ["[1].mp4"]


def test_links_are_followed_once(tree: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/deep/b.mp4", "film")
    (tree / "x/linked").symlink_to(tmp_path / "elsewhere")
    (tree / "x/y/back").symlink_to(tree)
    (tmp_path / "elsewhere/deep/up").symlink_to(tmp_path / "elsewhere")
    (tree / "b.mp4").symlink_to(tree / "a.mp4")
    (tree / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (tree / "itself.mp4").symlink_to(tree / "itself.mp4")
    linked = ["b.mp4", "gone.mp4", "itself.mp4", "x/linked/deep/b.mp4"]
    assert sorted(names(tree)) == sorted([*TREE, *linked])


@pytest.mark.parametrize(
    "given",
    [
        *(["", ""], ["", "x"], ["a.mp4", ""], ["*", ""], ["**/*.mp4", "x/**/*.mp4", "x/a.mp4"]),
        *(["*.mp4", "x/y/*"], ["x", "x/y", "b.mkv"], ["x/y/[[]1[]].mp4", "x/y", "x/a.*", "z/q*"]),
        ["", ".hidden.mp4", "x/.git/a.mp4"],  # of a hidden place, what is named is taken
    ],
)
def test_what_is_given_twice_is_taken_once(tree: Path, given: list[str]) -> None:
    """The oracle lists each thing that is given alone, and counts."""
    arguments = [f"{tree}/{each}".rstrip("/") for each in given]
    alone = [s.location.path for each in arguments for s in list_sources([each])]
    repeated: Counter[tuple[str, str]] = Counter()
    found = [s.location.path for s in list_sources(arguments, repeated=repeated)]
    assert len(found) == len(set(found))
    assert set(found) == set(alone)
    times = Counter(alone)
    assert repeated.total() == sum(n > 1 for n in times.values())
    assert all({first, second} <= set(arguments) for first, second in repeated)
    assert found == [s.location.path for s in list_sources(arguments[::-1])]


def test_a_folder_and_what_is_in_it_are_that_folder(tree: Path) -> None:
    assert names(tree, tree / "x", tree / "a.mp4") == names(tree)
    assert names(f"{tree}/*.mp4", f"{tree}/x/*.mp4") == ["a.mp4", "x/a.mp4"]
    assert names("http://host/a.mp4", "http://host/a.mp4", "http://host/a.mp4/b.mp4") == [
        "http://host/a.mp4",
        "http://host/a.mp4/b.mp4",
    ]


def test_the_command_says_what_was_given_twice(film: Callable[..., Path], tmp_path: Path) -> None:
    film("videos/x/a.mp4", seconds=1)
    videos = f"{tmp_path}/videos"
    given = [videos, f"{videos}/x/*.mp4", "--out", f"{tmp_path}/out", "--clip-seconds", "1"]
    result = CliRunner().invoke(app, ["shards", "build", *given, "--workers", "1"])
    assert result.exit_code == 0, result.output
    said = f"1 file given by {videos} and again by {videos}/x/*.mp4: taken once"
    assert said in result.output.replace("\n", "")
    assert len(Dataset.open(tmp_path / "out")) == 1


def test_what_is_not_there_or_has_anothers_name_is_refused(tree: Path) -> None:
    with pytest.raises(BuildError, match=r"\*\.avi matches no file; check the pattern"):
        names(f"{tree}/*.avi")
    with pytest.raises(BuildError, match="does not exist; check the path"):
        names(f"{tree}/nowhere/*.mp4")
    with pytest.raises(BuildError, match=r"Source http://host/a.mp4\?v=1 is given twice, with dif"):
        names("http://host/a.mp4?v=1&sig=x", "http://host/a.mp4?v=2", "http://host/a.mp4?v=1&sig=y")
    with pytest.raises(BuildError, match="nonsense://a/b cannot be listed"):
        names("nonsense://a/b")


def test_no_wildcard_crosses_a_folder() -> None:
    assert not compiled("*.mp4").fullmatch("x/a.mp4")
    assert not compiled("a?b").fullmatch("a/b")
    assert not compiled("[!x]").fullmatch("/")
    assert compiled("**/*.mp4").fullmatch("x/y/a.mp4")
    assert compiled("a\\b[\\]").fullmatch("a\\b\\")


def test_names_of_urls_hold_no_secret() -> None:
    url = "https://me:pass@host/a%20b.mp4?v=3&X-Amz-Signature=abc&X-Amz-Date=2&sig=q#t"
    (source,) = list_sources([url])
    assert source.name == "https://host/a%20b.mp4?v=3"
    assert source.location == Location(url)


@pytest.mark.parametrize("form", ["argument", "path", "url"])
def test_videos_behind_a_server_are_built(
    form: str, film: Callable[..., Path], tmp_path: Path
) -> None:
    film("served/a.mp4", seconds=2)
    film("near.mp4", seconds=2)
    write(tmp_path / "served/page.mp4", "<html>")
    with RangeServer(tmp_path / "served") as server:
        given = [f"{server.url}/{name}.mp4" for name in ("a", "gone", "page")]
        if form != "argument":
            rows = "".join(f"{url},dog\n" for url in given) + "near.mp4,cat\n" * (form == "path")
            given = [str(write(tmp_path / "l.csv", f"{form},label\n{rows}"))]
        summary = build(given, tmp_path / "out", OPTIONS)
    assert summary.skipped_sources == {"status 404 Not Found": 1, "not media: a web page or XML": 1}
    data_set = Dataset.open(tmp_path / "out")
    infos = [data_set.metadata(i) for i in range(len(data_set))]
    assert infos[0]["source"] == f"{server.url}/a.mp4"
    assert len(infos) == 4 if form == "path" else 2
    assert {i.get("label") for i in infos} == {
        "argument": {None}, "path": {"dog", "cat"}, "url": {"dog"}
    }[form]  # fmt: skip
    lines = {line["source"]: line for line in report(tmp_path / "out")}
    gone = lines[f"{server.url}/gone.mp4"]
    assert (gone["stage"], gone["outcome"]) == ("open", "skipped")
    assert "status 404" in gone["detail"]


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """The file system of a server that the environment points to, as a user's would."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto", reason="moto[server] speaks S3 here")
    with s3_server() as port, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint(port)["endpoint_url"])
        patch.setenv("AWS_ACCESS_KEY_ID", KEYS["key"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", KEYS["secret"])
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fs = file_system(port)
        fs.mkdir("films")
        yield fs


@pytest.mark.slow
def test_a_bucket_is_a_folder(s3: Any, film: Callable[..., Path], tmp_path: Path) -> None:
    path = film("a.mp4", seconds=2)
    for name in ("set/a.mp4", "set/deep/er/b.mp4", "set/.hidden/c.mp4", "other/d.mp4"):
        s3.put_file(str(path), f"films/{name}")
    s3.pipe_file("films/set/notes.txt", b"notes")
    assert names("s3://films/set") == ["a.mp4", "deep/er/b.mp4", "notes.txt"]
    assert names("s3://films/set/") == names("s3://films/set")
    assert names("s3://films/**/er/*.mp4") == ["set/deep/er/b.mp4"]
    assert names("s3://films/set/a.mp4") == ["s3://films/set/a.mp4"]
    assert names("s3://films/set", "s3://films/set/deep", "s3://films/**/a.mp4") == [
        *("set/a.mp4", "set/deep/er/b.mp4", "set/notes.txt"),
    ]
    assert names("s3://films/set", "s3://films/other") == [
        *("s3://films/other/d.mp4", "s3://films/set/a.mp4"),
        *("s3://films/set/deep/er/b.mp4", "s3://films/set/notes.txt"),
    ]
    with pytest.raises(BuildError, match=r"s3://nobucket/x cannot be listed: FileNotFound"):
        build(["s3://nobucket/x/"], tmp_path / "none", OPTIONS)

    summary = build(["s3://films/set"], tmp_path / "out", OPTIONS, num_workers=2)
    assert (summary.sources, summary.made, summary.clips) == (3, 2, 4)
    near = write(tmp_path / "films/set/notes.txt", "notes").parent
    for name in ("a.mp4", "deep/er/b.mp4"):
        (near / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(path, near / name)
    build([near], tmp_path / "near", OPTIONS)
    far, local = Dataset.open(tmp_path / "out"), Dataset.open(tmp_path / "near")
    for i in range(4):
        info = far.metadata(i)
        assert info.pop("source_version").startswith('"')
        assert info == local.metadata(i)
        for extension in ("mp4", "flac"):
            ours = far.read_member(far.sample(i), extension)
            assert ours == local.read_member(local.sample(i), extension)


def test_lists_are_told_from_folders_and_stand_alone(tree: Path, tmp_path: Path) -> None:
    write(tmp_path / "l.csv", "path\nvideos/a.mp4\n")
    assert [s.name for s in sources_of([str(tmp_path / "l.csv")], tmp_path / "out")] == [
        "videos/a.mp4"
    ]
    with pytest.raises(BuildError, match="given together with folders or videos"):
        sources_of([tmp_path / "l.csv", "http://host/a.mp4"], tmp_path / "out")
    with pytest.raises(BuildError, match=r"List http://host/l\.CSV is behind a URL; copy it here"):
        sources_of(["http://me:x@host/l.CSV"], tmp_path / "out")


def test_a_folder_is_walked_once_and_no_file_of_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 50,000 files on a network disk, each look would be a wait."""
    for n in range(100):
        (tmp_path / f"{n % 5}").mkdir(exist_ok=True)
        (tmp_path / f"{n % 5}/{n:03d}.mp4").touch()
    looks: list[object] = []

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            looks.append(arguments[0])
            return plain(*arguments, **options)

        return call

    for name in ("stat", "lstat", "open"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr("builtins.open", counted(open))
    assert len(list(list_sources([tmp_path]))) == 100
    assert not [look for look in looks if str(look).endswith(".mp4")]
