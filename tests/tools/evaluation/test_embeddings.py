"""Clips are decoded once for all encoders, kept, gone on with after a kill, and checked."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.raw_batch import RawBatch
from shards import open_samples
from tests.tools.evaluation.runs import damage_first_video, image_config, make_run
from tools.evaluation import embeddings
from tools.evaluation.clip_store import ClipStore
from tools.evaluation.embeddings import EmbedOptions, embed_clips
from tools.evaluation.encoders import check_modalities, trained_encoder, untrained_encoder
from tools.evaluation.errors import EvaluationError
from tools.runs.run import load_run

BOTH = ("video", "audio")
OPTIONS = EmbedOptions(places=(0.25, 0.75), batch_size=2)


def embed(run_path: Path, shards: Path, **changes: Any) -> dict[str, ClipStore]:
    run = load_run(run_path)
    asked: dict[str, Any] = {"modalities": BOTH, "layer": "embeddings", "options": OPTIONS}
    asked.update(changes)
    encoders = [trained_encoder(run), untrained_encoder(run)]
    modalities, layer, options = (asked.pop(n) for n in ("modalities", "layer", "options"))
    return embed_clips(run, open_samples(shards), modalities, encoders, layer, options, **asked)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the samples that are decoded, as they are."""
    numbers: list[int] = []
    batches = evaluation_batches

    def counting(*arguments: Any, **named: Any) -> Iterator[RawBatch]:
        for batch in batches(*arguments, **named):
            numbers.extend(np.unique(batch.sample.numpy()).tolist())
            yield batch

    monkeypatch.setattr(embeddings, "evaluation_batches", counting)
    return numbers


def test_both_encoders_take_one_decode_and_later_ones_none(
    run: Path, corpus: Path, decoded: list[int]
) -> None:
    stores = embed(run, corpus / "val")
    assert decoded == list(range(6))
    assert set(stores) == {"trained", "untrained"}
    for store in stores.values():
        assert len(store.clips) == 6
        assert store.vectors("audio").shape == (6, 2, 8)
        lengths = np.linalg.norm(store.vectors("video"), axis=2)
        np.testing.assert_allclose(lengths, 1, rtol=1e-5)
        starts = store.clips[0].starts
        assert starts == pytest.approx((0.125, 0.375), abs=0.01)
    trained, untrained = (store.vectors("video") for store in stores.values())
    assert not np.allclose(trained, untrained)
    again = embed(run, corpus / "val")
    assert decoded == list(range(6))
    np.testing.assert_array_equal(
        again["trained"].vectors("audio"), stores["trained"].vectors("audio")
    )
    embed(run, corpus / "val", options=EmbedOptions(places=(0.5,)))
    assert decoded == 2 * list(range(6))


def test_vectors_do_not_depend_on_batches_and_survive_a_kill(
    tmp_path: Path, run: Path, corpus: Path, decoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embed(run, corpus / "val", root=tmp_path / "whole")
    decoded.clear()

    class Killed(BaseException):
        pass

    add, calls = ClipStore.add, []

    def dying(self: ClipStore, *arguments: Any) -> None:
        calls.append(self)
        if len(calls) == 4:  # the untrained encoder's store of the second batch
            raise Killed
        add(self, *arguments)

    monkeypatch.setattr(ClipStore, "add", dying)
    with pytest.raises(Killed):
        embed(run, corpus / "val", root=tmp_path / "cut")
    monkeypatch.setattr(ClipStore, "add", add)
    for path in (tmp_path / "cut").glob("trained-*/clips.jsonl"):
        path.write_text(path.read_text() + '{"number": 4, "ke')  # killed within a line
    options = EmbedOptions(places=(0.25, 0.75), batch_size=4)
    cut = embed(run, corpus / "val", root=tmp_path / "cut", options=options)
    assert decoded[-4:] == [2, 3, 4, 5]  # the first batch was kept
    for name, store in cut.items():
        assert store.clips == whole[name].clips
        for modality in BOTH:
            np.testing.assert_allclose(
                store.vectors(modality), whole[name].vectors(modality), atol=1e-5
            )


def test_a_damaged_clip_is_skipped_with_its_cause_and_not_tried_again(
    run: Path, copy_of: Callable[[str], Path], decoded: list[int]
) -> None:
    shards = copy_of("val")
    damage_first_video(shards)
    for _ in range(2):
        store = embed(run, shards)["trained"]
        (number,) = store.skips
        assert store.skip_causes() == {"checksum": 1}
        assert sorted(store.clips) == sorted(set(range(6)) - {number})
        assert len(decoded) == 5


def test_one_modality_needs_no_other(run: Path, corpus: Path) -> None:
    store = embed(run, corpus / "val", modalities=("audio",))["trained"]
    assert [path.name for path in store.path.glob("*.npy")] == ["audio.npy"]
    both = embed(run, corpus / "val")["trained"]
    assert both.path != store.path
    assert check_modalities(load_run(run), ["audio"]) == ("audio",)
    assert check_modalities(load_run(run), []) == BOTH
    with pytest.raises(
        EvaluationError, match="no encoder for 'image': its plan has the modalities"
    ):
        check_modalities(load_run(run), ["image"])


def test_a_clip_without_what_is_needed_is_named(tmp_path: Path, corpus: Path) -> None:
    from tests.pipelines.stills import image_file, smooth_picture

    images = tmp_path / "images"
    images.mkdir()
    (images / "a.jpg").write_bytes(image_file(smooth_picture(1, 40, 40), "a.jpg"))
    run = make_run(tmp_path / "films")
    with pytest.raises(
        EvaluationError, match=r"not one of its 1 clips .*\(video, audio\); cover: 1"
    ):
        embed(run, images)
    stores = embed(make_run(tmp_path / "pictures", image_config()), images, modalities=("image",))
    assert stores["trained"].vectors("image").shape == (1, 2, 8)


def test_vectors_that_are_not_finite_are_refused(
    run: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = type(load_run(run).method)
    embed_rows = method.embed

    def diverged(self: Any, modality: str, values: Any) -> Any:
        rows = embed_rows(self, modality, values).clone()
        if modality == "audio":
            rows[1, 0] = float("nan")
        return rows

    monkeypatch.setattr(method, "embed", diverged)
    message = r"the audio embeddings of clip '.*' hold values that are not finite \(trained"
    with pytest.raises(EvaluationError, match=message):
        embed(run, corpus / "val")


def test_what_is_not_of_this_run_is_refused(run: Path, corpus: Path) -> None:
    store = embed(run, corpus / "val")["trained"]
    about = store.path / "about.json"
    kept = about.read_text()
    about.write_text(json.dumps({**json.loads(kept), "weights": "others"}))
    with pytest.raises(EvaluationError, match="holds embeddings that were made otherwise"):
        embed(run, corpus / "val")
    about.write_text(kept)
    np.save(store.path / "audio.npy", np.zeros((2, 2, 8), np.float32))
    with pytest.raises(EvaluationError, match=r"\[2, 2, 8\], and the data set has 6 clips"):
        embed(run, corpus / "val")
    (store.path / "audio.npy").write_bytes(b"no array")
    with pytest.raises(EvaluationError, match=r"audio\.npy: these embeddings cannot be read"):
        embed(run, corpus / "val")


def test_two_writers_do_not_share_a_store(run: Path, corpus: Path) -> None:
    store = embed(run, corpus / "val")["trained"]
    store.clips.clear()
    (store.path / "clips.jsonl").unlink()
    with store.writing(), pytest.raises(EvaluationError, match="another process is embedding"):
        embed(run, corpus / "val")


def test_a_key_twice_is_refused(run: Path, corpus: Path) -> None:
    store = embed(run, corpus / "val")["trained"]
    path = store.path / "clips.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[3]["key"] = lines[0]["key"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(EvaluationError, match="names sample 0 and sample 3; a hit must be one"):
        embed(run, corpus / "val")


def test_the_transform_of_some_modalities_gives_those_alone(run: Path) -> None:
    loaded = load_run(run)
    assert embeddings.device_transform(loaded, BOTH) is loaded.device_transform
    audio = embeddings.device_transform(loaded, ("audio",))
    assert audio.plan.modalities == ("audio",)
