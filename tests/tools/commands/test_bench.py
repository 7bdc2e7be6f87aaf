import re
import threading
import time
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gdt.named_plans import named_plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.stream import Stream, StreamOptions
from shards import Dataset
from tools.cli import app
from tools.commands.bench import StageTimes, bench_config
from tools.commands.stage_clock import STAGES, StageClock
from tools.runs.config import ConfigError

OPTIONS = SegmentOptions(seconds=0.5, num_frames=8)


def busy(seconds: float) -> None:
    """Spends CPU time, and not only time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def functions() -> list[object]:
    found: list[object] = []
    for places in STAGES.values():
        for place in places:
            module, _, names = place.partition(":")
            owner = import_module(module)
            for name in names.split("."):
                owner = getattr(owner, name)
            found.append(owner)
    return found


def test_what_is_wrapped_is_put_back() -> None:
    before = functions()
    with StageClock():
        assert all(a is not b for a, b in zip(functions(), before, strict=True))
    assert all(a is b for a, b in zip(functions(), before, strict=True))


def test_a_stage_is_not_charged_for_what_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.decoding import segment_reader
    from pipelines.sampling.order import Order

    def inner(*_: object) -> None:
        busy(0.03)

    def outer(self: Order, *_: object) -> None:
        busy(0.01)
        segment_reader.read_audio()  # type: ignore[attr-defined, call-arg]

    monkeypatch.setattr(Order, "samples", outer)
    monkeypatch.setattr("pipelines.decoding.segment_reader.read_audio", inner)
    clock = StageClock()
    with clock:
        worker = threading.Thread(target=Order(0, 5).samples, args=(0, np.arange(2)))
        worker.start()
        worker.join()
    assert 0.01 <= clock.cpu_seconds["order and draws"] < 0.03
    assert clock.cpu_seconds["audio decode, resample"] >= 0.03
    assert not any(v for k, v in clock.cpu_seconds.items() if "audio" not in k and "order" not in k)


def test_the_stages_are_the_stream(tiny_shards: Path) -> None:
    """Every stage up to the batch is entered, and measuring changes no byte."""
    plan = named_plan("v_shift")

    def first() -> list[bytes]:
        stream = Stream(
            Dataset.open(tiny_shards), plan, OPTIONS, StreamOptions(batch_size=4), seed=3
        )
        batch = next(iter(stream))
        stream.close()
        assert batch.frames is not None
        assert batch.audio is not None
        return [batch.frames.numpy().tobytes(), batch.audio.numpy().tobytes()]

    clock = StageClock()
    with clock:
        measured = first()
    assert measured == first()
    of_the_stream = list(STAGES)[: list(STAGES).index("collate") + 1]
    assert all(clock.wall_seconds[stage] > 0 for stage in of_the_stream)


def test_the_bottleneck_is_what_takes_longest() -> None:
    times = StageTimes({"a": 9.0, "b": 1.0}, {"a": 9.0, "b": 20.0})
    assert times.bottleneck() == "b"


def test_the_command_prints_stages_rates_and_the_bottleneck(tiny_shards: Path) -> None:
    arguments = [
        *("bench", "stream", str(tiny_shards), "--segments", "8", "--threads", "1"),
        *("--set", "segment.num_frames=4", "--set", "data.batch_size=4"),
        *("--set", "segment.seconds=0.5", "--set", "video_augment.size=32"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for stage in (*STAGES, "together"):
        assert stage in result.output
    assert re.search(r"1 thread +\d+ +\d+\n1 process \(data.isolate\) +\d+ +\d+\n", result.output)
    assert "Bottleneck: " in result.output


def test_a_config_is_read_and_overridden() -> None:
    config = bench_config("somewhere", "gdt", ["data.batch_size=3"])
    assert (config.data.shards, config.data.batch_size) == ("somewhere", 3)
    with pytest.raises(
        ConfigError,
        match=r"--set data.batch=3: unknown key data.batch \(did you mean batch_size\?\)",
    ):
        bench_config("somewhere", None, ["data.batch=3"])


def test_the_shards_stand_in_for_the_data_sets_of_a_mixture(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.toml"
    lines = Path("configs/gdt.toml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("shards =")]
    mixed.write_text("\n".join([*kept, "[data.mix.talks]", 'shards = "talks"']))
    config = bench_config("somewhere", str(mixed), [])
    assert (config.data.shards, config.data.mix) == ("somewhere", {})


def test_a_config_that_asks_for_too_much_is_one_message(tiny_shards: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "stream", str(tiny_shards)])
    assert result.exit_code == 2
    assert "has 14 samples and data.batch_size is 16" in " ".join(result.stderr.split())
