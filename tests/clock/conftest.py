"""The corpus, made once for all tests here, and both ways of reading it."""

from pathlib import Path

import pytest

from shards import Dataset
from tests.clock.corpus import make_corpus
from tests.clock.measure import build_shards, index_unprepared


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_corpus(tmp_path_factory.mktemp("clock") / "videos")


@pytest.fixture(scope="session")
def unprepared(videos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return index_unprepared(tmp_path_factory.mktemp("unprepared") / "tar", videos)


@pytest.fixture(scope="session")
def built(videos: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = next(iter(videos.values())).parent
    return build_shards(tmp_path_factory.mktemp("built") / "shards", folder)
