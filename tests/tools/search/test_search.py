"""From shards and files to an index, and from queries to hits, on the command line."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.tools.evaluation.runs import damage_first_video, make_run
from tools.cli import app
from tools.evaluation.errors import EvaluationError
from tools.search.index import SearchIndex
from tools.search.searcher import Searcher


def gdt(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return re.sub(r"[\s│]+", " ", result.output)


def test_a_clips_own_film_is_found_first(index: SearchIndex, film: Path, run: Path) -> None:
    """The file that a clip was cut from, decoded as it lies, is nearest to that clip."""
    searcher = Searcher(index)
    answer = searcher.answer(str(film), k=3)
    assert (answer.by, answer.find, answer.how) == ("video", "video", "exact")
    assert [hit.rank for hit in answer.hits] == [1, 2, 3]
    scores = [hit.score for hit in answer.hits]
    assert scores == sorted(scores, reverse=True)
    best = answer.hits[0]
    assert best.score > 0.99
    assert best.name == f"{film.name} 0:00.0" or scores[1] > 0.99  # untrained: all are near
    vector = np.asarray(index.vectors["video"]) @ np.asarray(index.vectors["video"][best.row])
    assert vector.argmax() == best.row


def test_a_clip_finds_others_and_not_itself(index: SearchIndex) -> None:
    key = str(index.columns["key"][2])
    answer = Searcher(index).answer(key, by="audio", find="audio")
    scores = np.asarray(index.vectors["audio"]) @ np.asarray(index.vectors["audio"][2])
    expected = [row for row in np.argsort(-scores).tolist() if row != 2]
    assert [hit.row for hit in answer.hits] == expected


def test_the_commands_answer_as_table_page_and_json(
    tmp_path: Path, run: Path, corpus: Path, tone: Path
) -> None:
    out = tmp_path / "out"
    said = gdt("embed", corpus / "val", "--run", run, "--out", out, "--faiss", "flat")
    assert f"{out}: 6 clips" in said
    assert (
        "video: 8 numbers a clip, searched FAISS flat, 0.0 % of the exact 10 nearest lost" in said
    )
    said = gdt("search", "--index", out, tone, "-k", 2)
    assert "asaudio,amongvideo;FAISSflat" in "".join(said.split())
    assert re.search(r"1 -?0\.\d{3} val_0000\d\.mp4 0:00\.0 [abc] ", said)
    page = tmp_path / "hits.html"
    answer = json.loads(
        gdt("search", "--index", out, tone, "-k", 2, "--json", "--exact", "--page", page)
    )
    assert answer["how"] == "exact"
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2]
    text = page.read_text()
    assert text.count("<figure") == 2
    assert text.count('["audio/mpeg", ') == 2
    with np.load(out / "clips.npz", allow_pickle=False) as columns:
        assert set(columns) == {"key", "name", "label", "start_seconds", "number"}
    assert "nothing to look for" in gdt("search", "--index", out, status=2)


def test_files_are_embedded_as_they_lie(
    tmp_path: Path, run: Path, corpus: Path, tone: Path
) -> None:
    films = sorted((corpus / "videos" / "val").glob("*.mp4"))[:3]
    notes = tmp_path / "notes.txt"
    notes.write_text("hello")
    out = tmp_path / "files"
    said = gdt("embed", *films, tone, notes, "--run", run, "--out", out)
    assert "3 clips; 2 skipped (cover 1, open 1)" in said
    said = gdt("search", "--index", out, films[1], "-k", 1, "--page", tmp_path / "page.html")
    assert films[1].name in said
    said = gdt("embed", tone, "--run", run, "--out", tmp_path / "sounds", "--modality", "audio")
    assert "1 clip" in said
    said = gdt("embed", notes, "--run", run, "--out", tmp_path / "none", status=2)
    assert "not one of 1 files can be embedded. The first:" in said
    said = gdt("embed", films[0], films[0], "--run", run, "--out", out, status=2)
    assert "is named twice" in said
    said = gdt("embed", films[0], corpus, "--run", run, "--out", out, status=2)
    assert "is no file: give one data set, or media files" in said
    gdt("embed", tmp_path / "nothing", "--run", run, "--out", out, status=1)


def test_skipped_clips_are_counted(
    tmp_path: Path, run: Path, copy_of: Callable[[str], Path]
) -> None:
    shards = copy_of("val")
    damage_first_video(shards)
    said = gdt("embed", shards, "--run", run, "--out", tmp_path / "out")
    assert "5 clips; 1 skipped (checksum 1)" in said


def test_queries_that_cannot_be_answered_are_one_message(
    tmp_path: Path, index: SearchIndex, tone: Path
) -> None:
    searcher = Searcher(index)
    with pytest.raises(EvaluationError, match="it has sound alone, and is wanted as video"):
        searcher.answer(str(tone), by="video")
    with pytest.raises(EvaluationError, match="has no encoder for 'text'"):
        searcher.answer(str(tone), by="text")
    with pytest.raises(EvaluationError, match="has no image vectors; it has video, audio"):
        searcher.answer(str(tone), find="image")
    empty = tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    with pytest.raises(EvaluationError, match="an empty file"):
        searcher.answer(str(empty))


def test_a_clip_is_asked_with_without_importing_torch(index: SearchIndex) -> None:
    code = """
import sys
from tools.cli import app
app(sys.argv[1:], standalone_mode=False)
print("imported:", *(m for m in ("torch", "torchvision", "lightning") if m in sys.modules))
"""
    command = [sys.executable, "-c", code, "search", "--index", str(index.path)]
    command.append(str(index.columns["key"][0]))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "imported:"
    assert str(index.columns["key"][1]) in done.stdout


def test_an_index_of_another_run_is_refused(tmp_path: Path, index: SearchIndex, tone: Path) -> None:
    other = make_run(tmp_path / "other", seed=5)
    with pytest.raises(EvaluationError, match=r"was made with other weights \(step 7\)"):
        Searcher(index, other).answer(str(tone))


def test_a_damaged_index_is_refused(tmp_path: Path, index: SearchIndex, corpus: Path) -> None:
    path = index.path
    kept = {file.name: file.read_bytes() for file in path.iterdir()}

    def refuse(name: str, content: bytes, message: str) -> None:
        (path / name).write_bytes(content)
        with pytest.raises(EvaluationError, match=message):
            SearchIndex(path)
        (path / name).write_bytes(kept[name])

    refuse("index.json", b"{}", "is no search index: 'format'")
    refuse("clips.npz", b"no zip", "is no search index: .*Make one with `gdt embed")
    refuse("audio.npy", kept["audio.npy"][:150], "is no search index")

    def array(rows: object) -> bytes:
        np.save(tmp_path / "rows.npy", np.asarray(rows, np.float32))
        return (tmp_path / "rows.npy").read_bytes()

    refuse("audio.npy", array(np.zeros((5, 8))), r"is float32 \[5, 8\], and clips.npz has 6 clips")
    refuse("audio.npy", array(np.full((6, 8), np.nan)), "holds values that are not finite")
    columns = {name: index.columns[name] for name in index.columns}
    columns["key"] = np.array(["a", "b", "c", "d", "e", "a"])
    np.savez(tmp_path / "twice.npz", **columns)
    refuse("clips.npz", (tmp_path / "twice.npz").read_bytes(), "the key 'a' names two clips")
    with pytest.raises(EvaluationError, match="is no search index"):
        SearchIndex(corpus)
