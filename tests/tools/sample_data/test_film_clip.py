"""The clip of the film: its frames by time, its mask, and films that are not the one."""

from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.propagation.clips import read_clips
from tools.sample_data import film_clip
from tools.sample_data.film import FilmError
from tools.sample_data.film_clip import SIZE, first_mask, write_film_clip


def gray_film(path: Path, seconds: float) -> Path:
    """A film of 6 frames a second, whose frame i is of gray 3·i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=6, options={"crf": "1", "g": "6"})
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for number in range(round(seconds * 6)):
            gray = np.full((36, 64, 3), 3 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_frames_are_those_of_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film_clip, "START_SECONDS", 5.0)
    film = gray_film(tmp_path / "film.mp4", 12)
    arguments = ["samples", "film-clip", "--film", str(film), "--out", str(tmp_path / "clip")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (clip,) = read_clips(tmp_path / "clip", "davis", "val")
    assert len(clip.frames) == 27
    assert not clip.is_whole
    grays = [float(clip.frame(number).mean()) for number in range(27)]
    np.testing.assert_allclose(grays, 3 * (30 + np.arange(27)), atol=3)
    assert np.array_equal(clip.mask(0), first_mask())


def test_the_mask_is_the_outline() -> None:
    mask = first_mask()
    assert mask.shape == SIZE[::-1]
    assert (mask[100, 110:180] == 1).all()
    assert mask[:9].sum() == mask[:, :98].sum() == 0


def test_other_films_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"ends before 160.3 s: give the film of"):
        write_film_clip(gray_film(tmp_path / "short.mp4", 2), tmp_path / "clip")
    (tmp_path / "no.mp4").write_bytes(b"no film")
    arguments = ["--film", str(tmp_path / "no.mp4"), "--out", str(tmp_path / "clip")]
    result = CliRunner().invoke(app, ["samples", "film-clip", *arguments])
    assert result.exit_code == 2
    assert "cannot be read as a film" in result.output
