"""`gdt evaluate` on tiny labelled data sets: every task, its numbers, and what it refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.tools.evaluation.runs import CONFIG, damage_first_video, image_config, make_run
from tools.cli import app
from tools.evaluation.result import Evaluation

TWO = ("--segments", "2")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output).strip()


def succeed(*arguments: object) -> str:
    code, output = invoke(*arguments)
    assert code == 0, output
    return output


def refuse(*arguments: object, status: int = 2) -> str:
    code, output = invoke(*arguments)
    assert code == status, output
    return output


def results(run: Path, task: str) -> list[Evaluation]:
    folder = run / "evaluation" / task
    return [Evaluation.read(path) for path in sorted(folder.glob("*/metrics.json"))]


def test_knn_scores_both_encoders_beside_chance(run: Path, corpus: Path) -> None:
    sets = ("--train", corpus / "train", "--test", corpus / "val", *TWO)
    output = succeed("knn", "--run", run, *sets, "--k", "1,3,50")
    assert "accuracy, k = 1 accuracy, k = 3 accuracy, k = 50" in output
    assert re.search(r"video 7 steps \d+\.\d % \d+\.\d %", output)
    assert re.search(r"audio untrained \d+\.\d %", output)
    assert "chance 33.3 % 33.3 % 33.3 %" in output
    assert f"test {corpus / 'val'}: 6 clips" in output
    assert "left out accuracy, k = 50: all 12 training clips vote" in output
    (found,) = results(run, "knn")
    assert {(s.of, s.encoder) for s in found.scores} == {
        *((m, e) for m in ("video", "audio") for e in ("trained", "untrained")),
        ("", "chance"),
    }
    for score in found.scores:
        if score.encoder != "chance":
            assert score.low is not None
            assert score.high is not None
            assert score.low <= score.value <= score.high
    succeed("knn", "--run", run, *sets, "--k", "1,3,50")  # the same once more, in place
    assert results(run, "knn") == [found]
    succeed("knn", "--run", run, *sets, "--k", "2")  # another, beside it
    assert len(results(run, "knn")) == 2


def test_knn_among_the_same_clips_leaves_each_out(run: Path, corpus: Path) -> None:
    sets = ("--train", corpus / "train", "--test", corpus / "train")
    output = succeed(
        "knn", "--run", run, *sets, "--k", "1", "--modality", "audio", "--no-untrained"
    )
    assert "each was left out of its own neighbours" in output
    (found,) = results(run, "knn")
    assert {s.of for s in found.scores} == {"audio", ""}
    assert {s.encoder for s in found.scores} == {"trained", "chance"}


@pytest.mark.parametrize(
    ("task", "options", "metrics"),
    [
        ("linear-probe", (), {"accuracy"}),
        (
            "few-shot",
            ("--shots", "1,3,9", "--draws", "3"),
            {"accuracy, 1 a label", "accuracy, 3 a"},
        ),
        ("clustering", (), {"NMI", "ARI"}),
        ("audio-svm", (), {"accuracy"}),
    ],
)
def test_every_task_writes_the_one_schema(
    run: Path, corpus: Path, task: str, options: tuple[str, ...], metrics: set[str]
) -> None:
    sets: tuple[Any, ...] = ("--train", corpus / "train", "--test", corpus / "val")
    if task == "clustering":
        sets = sets[2:]
    output = succeed(task, "--run", run, *sets, *TWO, "--modality", "audio", *options)
    (found,) = results(run, task)
    written = {score.metric for score in found.scores}
    assert len(written) == len(metrics)
    assert all(any(m.startswith(name) for m in written) for name in metrics)
    assert {s.encoder for s in found.scores} == {"trained", "untrained", "chance"}
    if task == "few-shot":
        assert "left out accuracy, 9 a label: the label 'a' has 4 training clips" in output
    content = json.loads(next((run / "evaluation" / task).glob("*/metrics.json")).read_text())
    assert content["schema"] == "gdt-metrics/1"


def test_audio_svm_over_the_folds_of_a_data_set(run: Path, corpus: Path) -> None:
    output = succeed("audio-svm", "--run", run, "--test", corpus / "train", *TWO)
    (found,) = results(run, "audio-svm")
    assert "audio 7 steps" in output
    assert found.value("", "accuracy", "chance") == pytest.approx(1 / 3)
    said = refuse("audio-svm", "--run", run, "--test", corpus / "bare")
    assert "has no label" in said


def test_retrieval_finds_clips_and_labels(run: Path, corpus: Path) -> None:
    shards = corpus / "val"
    output = succeed("retrieval", "--run", run, "--shards", shards, "--queries", "3", "--hits", "2")
    assert re.search(r"same clip chance 16\.7 % 83\.3 % 100\.0 % 3\.5 3\.5 0\.408", output)
    assert re.search(r"same label chance 20\.0 % 100\.0 % 100\.0 % 3\.0 3\.0", output)
    assert "audio → video 7 steps" in output
    assert "video → video, same label untrained" in output
    assert "protocol default (" in output
    assert "gallery of 6 clips (" in output
    (found,) = results(run, "retrieval")
    assert found.settings["protocol_hash"] in output
    (page,) = (run / "evaluation" / "retrieval").glob("*/index.html")
    assert str(page.name) in output


def test_retrieval_by_label_between_two_data_sets(run: Path, corpus: Path) -> None:
    sets = ("--train", corpus / "train", "--test", corpus / "val")
    output = succeed(
        "retrieval", "--run", run, *sets, "--protocol", "selavi", "--modality", "video", *TWO
    )
    assert "video → video, same label" in output
    assert "differs: 10 segments a clip there" in output
    (found,) = results(run, "retrieval")
    assert found.settings["layer"] == "features"
    assert found.value("same label", "R@10", "chance") > 0.9
    said = refuse("retrieval", "--run", run, *sets, "--protocol", "cavmae")
    assert "there is nothing to find: two data sets have no clip in common" in said


def test_an_approximate_index_is_reported_beside_the_exact_search(run: Path, corpus: Path) -> None:
    pytest.importorskip("faiss")
    shards = ("--shards", corpus / "val", "--no-untrained", "--queries", "1")
    output = succeed("retrieval", "--run", run, *shards, "--faiss", "flat")
    (found,) = results(run, "retrieval")
    ways = {s.of for s in found.scores if s.encoder == "trained" and "FAISS" not in s.of}
    for way in ways:  # flat is exact, but for how it orders ties
        for k in (1, 5):
            exact, flat = (found.value(of, f"R@{k}") for of in (way, f"{way}, FAISS flat"))
            assert flat == pytest.approx(exact), (way, k)
    assert "left out audio → video, FAISS flat: all but R@k: what it does not find has" in output
    assert "0.0 % of the exact 10 nearest lost" in output
    said = refuse("retrieval", "--run", run, *shards, "--faiss", "tree")
    assert "--faiss tree: must be one of none, flat, ivf, hnsw" in said


def test_dual_softmax_is_reported_apart(tmp_path: Path, run: Path, corpus: Path) -> None:
    from tools.evaluation.protocol import protocol_text

    mine = tmp_path / "mine.toml"
    mine.write_text(protocol_text("default") + "dual_softmax = 20.0\n")
    arguments = ("--run", run, "--shards", corpus / "bare", "--protocol", mine, "--no-untrained")
    output = succeed("retrieval", *arguments)
    assert "audio → video 7 steps" in output
    assert "audio → video (dual softmax) 7 steps" in output
    assert "left out class level: not all clips of" in output


def test_a_gallery_list_restricts_both_sides(tmp_path: Path, run: Path, corpus: Path) -> None:
    from shards import Dataset

    dataset = Dataset.open(corpus / "val")
    keys = tmp_path / "keys.txt"
    keys.write_text("\n".join(dataset.sample(i).key for i in (0, 2, 3)))
    arguments = ("--run", run, "--shards", corpus / "val", "--protocol", "cavmae", "--list", keys)
    output = succeed("retrieval", *arguments, "--no-untrained")
    assert "same clip chance 33.3 % 100.0 % 100.0 % 2.0" in output
    keys.write_text("no-such-clip")
    said = refuse("retrieval", *arguments)
    assert "--list names 1 of 1 clips that" in said
    keys.write_text(dataset.sample(0).key)
    said = refuse("retrieval", *arguments)
    assert "a gallery of one clip finds it whatever the model" in said


def test_a_damaged_clip_is_counted_and_named(
    tmp_path: Path, run: Path, copy_of: Callable[[str], Path]
) -> None:
    shards = copy_of("val")
    damage_first_video(shards)
    out = tmp_path / "out"
    output = succeed("retrieval", "--run", run, "--shards", shards, "--out", out, "--no-untrained")
    assert "5 clips; 1 skipped (checksum 1)" in output
    (line,) = (out / "skipped-test.jsonl").read_text().splitlines()
    assert json.loads(line)["stage"] == "checksum"
    said = refuse("retrieval", "--run", run, "--shards", shards, "--out", out, *TWO)
    assert "holds another evaluation (retrieval, step 7" in said


def test_results_of_a_run_stand_side_by_side(run: Path, corpus: Path) -> None:
    common = ("--run", run, "--modality", "audio", "--no-untrained", "--k", "1")
    succeed("knn", *common, "--train", corpus / "train", "--test", corpus / "val")
    succeed("knn", *common, "--train", corpus / "val", "--test", corpus / "train")
    output = succeed("results", run)
    assert f"knn on {corpus / 'val'}" in output
    assert f"knn on {corpus / 'train'}" in output
    assert "no results under" in refuse("results", corpus)


def test_protocols_are_shown(run: Path) -> None:
    output = succeed("protocols")
    assert "selavi (" in output
    assert "differs: there features are layer 4" in output
    assert 'similarity = "euclidean"' in succeed("protocols", "selavi")
    assert "no protocol 'clip'; there are default" in refuse("protocols", "clip")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("knn", "--train", "TRAIN", "--test", "BARE"), "has no label: build the shards with"),
        (("linear-probe", "--train", "VAL", "--test", "VAL"), "are the same clips: a linear probe"),
        (
            ("few-shot", "--train", "VAL", "--test", "TRAIN", "--shots", "9"),
            "few-shot with 9 clips a label needs that many of each",
        ),
        (("knn", "--train", "TRAIN", "--test", "VAL", "--modality", "image"), "no encoder for 'im"),
        (("retrieval", "--shards", "VAL", "--train", "TRAIN"), "--shards names one data set"),
        (("retrieval", "--train", "TRAIN"), "no data set to score: give --shards S, or"),
        (
            ("retrieval", "--shards", "BARE", "--modality", "audio"),
            "there is nothing to find: it fi",
        ),
        (("retrieval", "--shards", "VAL", "--protocol", "clip"), "the presets are default, cavmae"),
    ],
)
def test_what_does_not_go_together_is_one_message(
    run: Path, corpus: Path, arguments: tuple[str, ...], message: str
) -> None:
    names = {name.upper(): corpus / name for name in ("train", "val", "bare")}
    said = refuse(arguments[0], "--run", run, *(names.get(a, a) for a in arguments[1:]))
    assert message in said
    assert said.startswith("error: ")


def test_a_run_of_images_is_told_what_to_use(tmp_path: Path, corpus: Path) -> None:
    pictures = make_run(tmp_path / "pictures", image_config())
    said = refuse("retrieval", "--run", pictures, "--shards", corpus / "bare")
    assert (
        "there is nothing to find: it finds a clip in another modality, and there is image" in said
    )
    assert "or `gdt evaluate knn`" in said


def test_clips_that_the_run_was_trained_on_are_no_test(tmp_path: Path, corpus: Path) -> None:
    from shards import Dataset

    fingerprint = Dataset.open(corpus / "val").fingerprint
    run = make_run(tmp_path / "trained-on-these", trained_on=fingerprint)
    output = succeed("retrieval", "--run", run, "--shards", corpus / "val", "--no-untrained")
    assert "The run was trained on these very clips" in output


@pytest.mark.parametrize("k", ["", "0", "1,x", "1,,2"])
def test_k_must_be_whole_numbers(k: str, tmp_path: Path) -> None:
    code, output = invoke(
        "knn", "--run", tmp_path, "--train", tmp_path, "--test", tmp_path, "--k", k
    )
    assert code == 2
    assert "must be whole numbers from 1 on with commas between, like 1,5,20" in output


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    said = refuse("knn", "--run", tmp_path, "--train", tmp_path, "--test", tmp_path, status=1)
    assert "is no run folder" in said


@pytest.mark.parametrize(
    ("segment", "data", "message"),
    [
        ('decoder = "dali"', "isolate = true", "data.isolate: decoder = 'dali' decodes whole"),
        ('decoder = "films"', "", "decoder = 'films' is unknown"),
        ('decoder = "nvdec"', "", "'nvdec' needs"),
    ],
)
def test_what_clips_or_machine_do_not_have_is_one_message(
    tmp_path: Path,
    corpus: Path,
    monkeypatch: pytest.MonkeyPatch,
    segment: str,
    data: str,
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = CONFIG.replace("[data]", f"[data]\n{data}").replace(
        "[segment]", f"[segment]\n{segment}"
    )
    run = make_run(tmp_path / "run", config)
    said = refuse("retrieval", "--run", run, "--shards", corpus / "val", "--device", "cpu")
    assert said.startswith("error: the config asks for what cannot be had: ")
    assert message in said
