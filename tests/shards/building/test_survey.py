"""What a survey meets in one source is that source's fault, by stage and cause."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards import BuildOptions, SourceError
from shards.building import survey as survey_module
from shards.building.survey import survey
from shards.media.probe import Probe, probe
from shards.sources.source import Source
from shards.storage.opening import Location

COPIED = BuildOptions(profile="copy", size="source", fps="source", clip_seconds=1.0)


def test_a_size_that_cannot_be_copied_is_the_sources_fault(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(location: Location, **_: object) -> Probe:
        return replace(probe(location), width=97)

    monkeypatch.setattr(survey_module, "probe", odd)
    told = r"probe: a size that cannot be kept .*97.*even width and height"
    with pytest.raises(SourceError, match=told):
        survey(Source("a", Location(str(film("a.mp4")))), COPIED)


@pytest.mark.parametrize("error", [TypeError("no time"), KeyError(2), IndexError("no packet")])
def test_what_nobody_foresaw_is_the_sources_fault_too(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(survey_module, "probe", broken)
    told = rf"probe: an unexpected {type(error).__name__} \(.*test_survey.py, line \d+\)"
    with pytest.raises(SourceError, match=told):
        survey(Source("a", Location(str(film("a.mp4")))), COPIED)


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_what_the_machine_lacks_is_not(
    film: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(survey_module, "probe", broken)
    with pytest.raises(type(error)):
        survey(Source("a", Location(str(film("a.mp4")))), COPIED)
