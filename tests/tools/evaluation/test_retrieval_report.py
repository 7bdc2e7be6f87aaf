"""From a run folder and shards to the retrieval page; runs and clips that cannot be used."""

import pickle
import tarfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from models import RunFacts
from pipelines.sampling.mixture import Mixture
from shards import BuildOptions, Dataset, Samples, ShardError
from shards.building.build import build as build_shards
from shards.maintenance.index_tars import index_tars
from tests.tools.browser import CUT, PHONE, SCREEN, chromium, errors, is_dark
from tests.tools.evaluation.runs import make_run
from tools.cli import app
from tools.evaluation.protocol import load_protocol
from tools.evaluation.retrieval_report import write_page
from tools.evaluation.runner import TRAINED_ON_THESE, Outcome, Request, evaluate
from tools.evaluation.tasks.retrieval import Retrieval
from tools.runs.run import load_run
from tools.runs.run_folder import RunError
from tools.sample_data.synthetic import SyntheticOptions, build_corpus

LOADED = "return [...document.images].every(i => i.complete && i.naturalWidth > 0)"
SOUND_LENGTH = """
const done = arguments[arguments.length - 1], sound = document.querySelector("audio");
sound.onloadedmetadata = () => done(sound.duration);
sound.onerror = () => done(sound.error.message);
sound.load();
"""


def find(run: Path, shards: Path, **changes: object) -> tuple[Retrieval, Outcome]:
    task = Retrieval(load_protocol("default"))
    asked = {"device": "cpu", "untrained": False, "places": task.protocol.places, **changes}
    return task, evaluate(task, Request(run=run, data={"test": shards}, **asked))  # type: ignore[arg-type]


def test_the_page_shows_queries_and_their_hits(run: Path, corpus: Path) -> None:
    task, outcome = find(run, corpus / "val")
    page = write_page(task, outcome, num_queries=3, num_hits=2).read_text()
    ways = task.directions(outcome.splits["trained"])
    assert len(ways) == 6
    assert page.count("<article") == 6 * 3
    assert page.count("✓ right") >= 2 * 3


def test_clips_of_two_sizes_are_one_message(tmp_path: Path, run: Path, corpus: Path) -> None:
    """As merged builds, or tars of others, may hold them."""
    build_corpus(tmp_path, SyntheticOptions(num_train=0, num_val=1, seconds=2.0, size=32))
    options = BuildOptions(clip_seconds=2.0, size=(48, 32))
    build_shards([tmp_path / "val"], tmp_path / "wide", options, num_workers=1)
    both = tmp_path / "both"
    both.mkdir()
    for number, folder in enumerate((tmp_path / "wide", corpus / "val")):
        for tar in folder.glob("*.tar"):
            name = both / f"shard-{number:06d}.tar"
            with tarfile.open(tar) as members, tarfile.open(name, "w") as copy:
                for member in members:
                    content = members.extractfile(member)
                    member.name = f"{number}{member.name}"
                    copy.addfile(member, content)
    index_tars([both])
    arguments = ["evaluate", "retrieval", "--run", str(run), "--shards", str(both)]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 2, result.output
    message = " ".join(result.stderr.split())
    assert message.startswith("error: shard-000001.tar: sample ")
    assert "is 32×32, and the first of the data set is 48×32: set segment.frame_size" in message


@pytest.mark.parametrize("is_mixed", [False, True])
def test_clips_that_the_run_was_trained_on_are_no_test(
    tmp_path: Path, corpus: Path, is_mixed: bool
) -> None:
    trained: Samples = Dataset.open(corpus / "val")
    if is_mixed:
        trained = Mixture({"films": trained, "others": trained}, {"films": 1, "others": 2})
    run = make_run(tmp_path / "run", trained_on=trained.fingerprint)
    task, outcome = find(run, corpus / "val")
    assert TRAINED_ON_THESE in outcome.result.notes
    assert TRAINED_ON_THESE in write_page(task, outcome, num_queries=1).read_text()


def test_what_is_no_checkpoint_or_device_is_said(run: Path, corpus: Path) -> None:
    with pytest.raises(RunError, match=r"--device tpu9: there is no such device here"):
        find(run, corpus / "val", device="tpu9")
    checkpoint = run / "checkpoints" / "last.ckpt"
    whole = checkpoint.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint", pickle.dumps(print)):
        checkpoint.write_bytes(content)
        with pytest.raises(RunError, match=r"last\.ckpt cannot be read as a checkpoint"):
            load_run(run)
    torch.save({"state_dict": {}}, checkpoint)
    with pytest.raises(RunError, match="is not a checkpoint of this `gdt pretrain`"):
        load_run(run)
    facts = asdict(RunFacts(6, 2, 3, 7))
    empty = {"state_dict": {}, "global_step": 1, "trained_on": "", "run_facts": facts}
    torch.save(empty, checkpoint)
    with pytest.raises(RunError, match=r"does not belong to .*config\.toml"):
        load_run(run)


def test_missing_run_and_missing_shards(tmp_path: Path, run: Path, corpus: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        find(tmp_path, corpus / "val")
    with pytest.raises(ShardError):
        find(run, tmp_path / "nothing")
    assert not (run / "evaluation").exists()


@pytest.mark.slow(seconds=15)
def test_the_page_in_a_real_browser(tmp_path: Path, run: Path, corpus: Path) -> None:
    """On a phone nothing is cut; words and lists choose queries; light and dark; no complaints."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select, WebDriverWait

    task, outcome = find(run, corpus / "val", untrained=True)
    page = write_page(task, outcome, num_queries=6, num_hits=3)
    for size in (PHONE, SCREEN):
        with chromium(tmp_path / f"profile-{size[0]}", size) as browser:
            browser.get(page.as_uri())
            assert browser.execute_script("return innerWidth") == size[0]
            assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
            assert browser.execute_script(CUT) == []
            assert is_dark(browser, "dark")
            assert not is_dark(browser, "light")

            def shown(browser: Any = browser) -> list[Any]:
                queries = browser.find_elements(By.TAG_NAME, "article")
                return [query for query in queries if query.is_displayed()]

            assert len(shown()) == 6 * 6
            name = shown()[0].find_element(By.TAG_NAME, "figcaption").text.splitlines()[0]
            assert name.startswith("val_0000")  # source and time
            assert name.endswith(".mp4 0:00.0")
            browser.find_element(By.ID, "words").send_keys(name.split()[0])
            assert len(shown()) == 6
            Select(browser.find_element(By.ID, "way")).select_by_visible_text("audio → video")
            assert len(shown()) == 1
            browser.find_element(By.ID, "words").clear()
            browser.find_element(By.ID, "words").send_keys("no such clip")
            assert shown() == []
            assert browser.find_element(By.ID, "nothing").is_displayed()
            WebDriverWait(browser, 30).until(lambda shown: shown.execute_script(LOADED))
            assert browser.execute_async_script(SOUND_LENGTH) == pytest.approx(1.0, abs=0.1)
            assert errors(browser) == []
