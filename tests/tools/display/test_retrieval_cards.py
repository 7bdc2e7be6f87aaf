"""Pictures and sounds of a segment, decoded again."""

import io

import av
import numpy as np
import numpy.typing as npt
import pytest

from tools.display.retrieval_cards import (
    Preview,
    frames_picture,
    log_mel_picture,
    mp3_audio,
    similarity_picture,
)


def decode_picture(content: bytes) -> npt.NDArray[np.uint8]:
    with av.open(io.BytesIO(content), "r") as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
        return picture.astype(np.uint8)


def test_frames_picture_is_the_middle_frame_over_a_strip() -> None:
    frames = np.zeros((8, 64, 96, 3), np.uint8)
    frames[:4] = (200, 30, 30)
    frames[4:] = (30, 30, 200)
    content = frames_picture(frames)
    assert content[:4] + content[8:12] == b"RIFFWEBP"
    picture = decode_picture(content).astype(int)
    assert picture.shape == (64 + 16, 96, 3)
    assert picture[32, 48].tolist() == pytest.approx([30, 30, 200], abs=12)
    assert picture[72, 12].tolist() == pytest.approx([200, 30, 30], abs=12)
    assert picture[72, 84].tolist() == pytest.approx([30, 30, 200], abs=12)


def test_frames_are_no_larger_than_a_card_shows() -> None:
    picture = decode_picture(frames_picture(np.zeros((4, 480, 640, 3), np.uint8)))
    assert picture.shape[1] == 240
    assert picture.shape[0] == pytest.approx(240 * 600 / 640, abs=1)


def test_log_mel_picture_has_low_frequencies_at_the_bottom() -> None:
    log_mel = np.full((40, 99), -10.0)
    log_mel[0] = 0.0
    content = log_mel_picture(log_mel)
    assert content[:4] + content[8:12] == b"RIFFWEBP"
    picture = decode_picture(content).astype(int)
    assert picture.shape == (40, 99, 3)
    assert picture[-1].min() > picture[:-4].max()


def test_a_map_is_bright_where_scores_are_high() -> None:
    picture = decode_picture(similarity_picture(np.eye(8))).astype(int).sum(axis=2)
    assert picture.shape == (8, 8)
    assert picture[0, 0] > 2 * picture[0, 7]


def test_sound_is_playable_and_keeps_its_pitch() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(24_000) / 24_000).astype(np.float32)
    with av.open(io.BytesIO(mp3_audio(tone, 24_000)), "r") as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.sample_rate == 24_000
        decoded = np.concatenate([f.to_ndarray()[0] for f in container.decode(stream)])
    assert len(decoded) == pytest.approx(24_000, abs=3000)
    spectrum = np.abs(np.fft.rfft(decoded[6000:18_000]))
    assert np.argmax(spectrum) * 24_000 / 12_000 == pytest.approx(1000, abs=5)


def test_a_preview_shows_what_stands_for_a_modality() -> None:
    both = Preview(b"frames", b"spectrogram", b"sound")
    assert both.picture("video") == b"frames"
    assert both.picture("audio") == b"spectrogram"
    assert Preview(None, b"spectrogram", None).picture("video") == b"spectrogram"
    assert Preview(b"frames", None, None).picture("audio") == b"frames"
