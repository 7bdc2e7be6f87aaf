"""From raw batch to batch: rows, codes, draws."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gdt.plan import Plan
from pipelines.device.augment import augment_frames
from pipelines.device.log_mel import LogMelSpectrogram
from pipelines.device.options import AudioAugment, ImageAugment, LogMel, VideoAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch

HEIGHT, WIDTH, FRAMES, SAMPLES = 32, 48, 4, 4800
STILL = VideoAugment(
    size=16, flip_probability=0.0, brightness=0.0, contrast=0.0, saturation=0.0, scales=(0.5, 0.5)
)
QUIET = AudioAugment(volume=0.0, frequency_masks=0, time_masks=0)


def plan_of(**factors: Mapping[str, Any]) -> Plan:
    tables: dict[str, Mapping[str, Any]] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
    return Plan.from_tables(tables | factors)


GDT = plan_of(
    time_shift={"relation": "distinctive", "draws": 2},
    time_reversal={"relation": "distinctive", "draws": 2},
    augmentation={"relation": "invariant", "draws": 3},
)


def raw_batch(samples: tuple[int, ...] = (7, 3), shifts: int = 2, **changes: Any) -> RawBatch:
    generator = torch.Generator().manual_seed(0)
    rows = len(samples) * shifts
    frames = torch.randint(
        60, 180, (rows, FRAMES, HEIGHT * WIDTH * 3 // 2), dtype=torch.uint8, generator=generator
    )
    raw = RawBatch(
        frames=frames,
        audio=torch.randn(rows, SAMPLES, generator=generator) * 0.1,
        sample=torch.tensor(samples).repeat_interleave(shifts),
        shift=torch.arange(shifts).repeat(len(samples)),
        start_seconds=torch.zeros(rows, dtype=torch.float64),
        keys=tuple(str(i) for i in range(rows)),
        height=HEIGHT,
        width=WIDTH,
        color_matrix="bt709",
        color_range="limited",
        sample_rate_hz=24_000,
        epoch=1,
        step=0,
    )
    return replace(raw, **changes)


def test_codes_are_the_plans_full_grid_in_its_order() -> None:
    batch = DeviceTransform(GDT, DeviceOptions())(raw_batch())
    full = GDT.codes(torch.tensor([7, 3]))
    column = GDT.names.index("modality")
    for number, name in enumerate(("video", "audio")):
        assert torch.equal(batch.view(name).codes, full[full[:, column] == number])
    assert batch.view("video").values.shape == (24, 3, FRAMES, 112, 112)
    assert batch.view("audio").values.shape == (24, 1, 40, 19)
    assert (batch.epoch, batch.step) == (1, 0)


def test_reversal_plays_backwards() -> None:
    plan = plan_of(time_reversal={"relation": "distinctive", "draws": 2})
    options = DeviceOptions(video_augment=STILL, audio_augment=QUIET)
    # A random crop of one size still moves, so the whole frame is one colour here.
    frames = torch.arange(FRAMES, dtype=torch.uint8).view(1, FRAMES, 1) * 20 + 100
    raw = raw_batch((5,), shifts=1, frames=frames.expand(1, FRAMES, HEIGHT * WIDTH * 3 // 2))
    batch = DeviceTransform(plan, options)(raw)
    view = batch.view("video")
    video, codes = view.values, view.codes
    assert codes[:, plan.names.index("time_reversal")].tolist() == [0, 1]
    torch.testing.assert_close(video[1], video[0].flip(1))
    assert not torch.allclose(video[0], video[0].flip(1))
    audio = batch.view("audio").values
    torch.testing.assert_close(audio[1], audio[0].flip(-1))
    expected = LogMelSpectrogram(options.log_mel)(raw.audio)
    torch.testing.assert_close(audio[:1], expected)


def test_waveforms_are_louder_or_backwards_and_nothing_else() -> None:
    plan = plan_of(time_reversal={"relation": "distinctive", "draws": 2})
    raw = raw_batch((5, 6), shifts=1, sample_rate_hz=16_000)  # log-mel would refuse the rate
    assert raw.audio is not None
    still = AudioAugment(values="waveform", volume=0.0)
    batch = DeviceTransform(plan, DeviceOptions(audio_augment=still))(raw)
    values = batch.view("audio").values
    assert values.shape == (4, 1, SAMPLES)
    assert torch.equal(values[::2, 0], raw.audio)
    assert torch.equal(values[1::2, 0], raw.audio.flip(-1))
    louder = AudioAugment(values="waveform", volume=0.5)
    values = DeviceTransform(plan, DeviceOptions(audio_augment=louder))(raw).view("audio").values
    gains = (values[::2, 0] / raw.audio).mean(dim=1)
    torch.testing.assert_close(values[::2, 0], raw.audio * gains[:, None])
    assert all(0.5 <= gain <= 1.5 for gain in gains)
    assert len(set(gains.tolist())) == 2
    with pytest.raises(ValueError, match=r"values = 'mfcc', must be one of log_mel, waveform"):
        AudioAugment(values="mfcc")


def test_quiet_waveforms_are_brought_to_one_level_and_silence_stays() -> None:
    raw = raw_batch((5, 6), shifts=1, sample_rate_hz=16_000)
    assert raw.audio is not None
    sounds = raw.audio * torch.tensor([[0.01], [0.0]])
    options = DeviceOptions(audio_augment=AudioAugment(values="waveform", rms=0.1, volume=0.0))
    batch = DeviceTransform(plan_of(), options)(replace(raw, audio=sounds))
    loud, silent = batch.view("audio").values[:, 0]
    torch.testing.assert_close(loud, 0.1 * raw.audio[0] / raw.audio[0].square().mean().sqrt())
    assert not silent.any()
    for wrong in ({"rms": 0.0, "values": "waveform"}, {"rms": 0.1}):
        with pytest.raises(ValueError, match=r"must be above 0, with values = \"waveform\""):
            AudioAugment(**wrong)


def test_all_frames_of_a_row_get_the_same_crop_and_colours() -> None:
    frames = raw_batch().frames
    assert frames is not None
    still = raw_batch(frames=frames[:, :1].expand(-1, FRAMES, -1).contiguous())
    video = DeviceTransform(GDT, DeviceOptions())(still).view("video").values
    torch.testing.assert_close(video[:, :, :1].expand_as(video), video)


def test_draws_depend_on_what_names_the_row_and_on_nothing_else() -> None:
    transform = DeviceTransform(GDT, DeviceOptions(), seed=1)
    whole = transform(raw_batch())
    alone = transform(raw_batch())  # asked again
    part = raw_batch()
    part = replace(
        part,
        **{
            name: getattr(part, name)[2:]
            for name in ("frames", "audio", "sample", "shift", "start_seconds", "keys")
        },
    )
    second = transform(part)  # as if another rank held the second sample
    for name in ("video", "audio"):
        values = whole.view(name).values
        assert torch.equal(values, alone.view(name).values)
        torch.testing.assert_close(values[12:], second.view(name).values)
    for changed in (raw_batch(epoch=2), raw_batch(samples=(8, 4))):
        assert not torch.equal(transform(changed).view("video").values, whole.view("video").values)
    other_seed = DeviceTransform(GDT, DeviceOptions(), seed=2)(raw_batch())
    assert not torch.equal(other_seed.view("audio").values, whole.view("audio").values)


def test_every_row_has_draws_of_its_own() -> None:
    frames = torch.randint(60, 180, (1, 1, HEIGHT * WIDTH * 3 // 2), dtype=torch.uint8)
    raw = raw_batch(frames=frames.expand(4, FRAMES, -1).contiguous())
    video = DeviceTransform(GDT, DeviceOptions())(raw).view("video").values
    first = video[:, :, 0].flatten(1)
    distances = torch.cdist(first, first) + 1e3 * torch.eye(len(first))
    assert distances.min() > 1


def test_evaluation_has_one_row_a_segment_and_is_the_same_whatever_the_seed() -> None:
    one = DeviceTransform(GDT, DeviceOptions(), seed=1, training=False)(raw_batch())
    two = DeviceTransform(GDT, DeviceOptions(), seed=2, training=False)(raw_batch(epoch=5))
    for name in ("video", "audio"):
        assert len(one.view(name).values) == 4
        assert torch.equal(one.view(name).values, two.view(name).values)
        for factor in ("time_reversal", "augmentation"):
            assert (one.view(name).codes[:, GDT.names.index(factor)] == 0).all()


def test_images_are_single_frames_in_two_views() -> None:
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["image"]},
            "augmentation": {"relation": "invariant", "draws": 2},
        }
    )
    raw = raw_batch((7, 3, 9), shifts=1, audio=None)
    assert raw.frames is not None
    single = replace(raw, frames=raw.frames[:, :1])
    options = DeviceOptions(image_augment=ImageAugment(size=24))
    view = DeviceTransform(plan, options)(single).view("image")
    image, codes = view.values, view.codes
    assert image.shape == (6, 3, 24, 24)
    assert codes.tolist() == [[s, 0, view] for s in (7, 3, 9) for view in (0, 1)]
    assert not torch.allclose(image[0], image[1])
    with pytest.raises(ValueError, match=r"set segment\.num_frames = 1"):
        DeviceTransform(plan, options)(raw)


def test_passes_over_few_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.device import augment

    whole = DeviceTransform(GDT, DeviceOptions())(raw_batch())
    monkeypatch.setitem(augment._BYTES_A_PASS, "cpu", 1)
    single = DeviceTransform(GDT, DeviceOptions())(raw_batch())
    torch.testing.assert_close(single.view("video").values, whole.view("video").values)


def test_what_is_missing_is_said() -> None:
    transform = DeviceTransform(GDT, DeviceOptions())
    with pytest.raises(ValueError, match="modality 'audio', but the batch has no audio"):
        transform(raw_batch(audio=None))
    with pytest.raises(ValueError, match="modality 'video', but the batch has no frames"):
        transform(raw_batch(frames=None))
    with pytest.raises(ValueError, match=r"16000 Hz and log_mel\.sample_rate_hz is 24000"):
        transform(raw_batch(sample_rate_hz=16_000))


def test_log_mel_options_reach_the_spectrogram() -> None:
    options = DeviceOptions(
        audio_augment=QUIET, log_mel=LogMel(num_mels=20, window_samples=600, hop_samples=300)
    )
    audio = DeviceTransform(plan_of(), options)(raw_batch(shifts=1)).view("audio").values
    assert audio.shape == (2, 1, 20, 15)
    assert np.isfinite(audio.numpy()).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton runs here")
def test_where_triton_does_not_run_torch_does_its_work() -> None:
    from pipelines.device import transform

    transform._fused_kernel.cache_clear()
    with pytest.warns(UserWarning, match="by torch's functions .*needs a C compiler"):
        found = transform._augmenter(torch.device("cuda"), VideoAugment(), training=True)
    assert found is augment_frames


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_makes_what_the_cpu_makes() -> None:
    transform = DeviceTransform(GDT, DeviceOptions())
    on_cpu, on_gpu = transform(raw_batch()), transform(raw_batch().to("cuda"))
    for name in ("video", "audio"):
        torch.testing.assert_close(
            on_gpu.view(name).values.cpu(), on_cpu.view(name).values, atol=2e-3, rtol=0
        )
        assert torch.equal(on_gpu.view(name).codes.cpu(), on_cpu.view(name).codes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_type_and_layout_change_no_value(dtype: torch.dtype, channels_last: bool) -> None:
    """Beyond rounding, which is autocast's: float32 is made first, and rounded to nearest."""
    expected = DeviceTransform(GDT, DeviceOptions())(raw_batch())
    transform = DeviceTransform(GDT, DeviceOptions(), dtype=dtype, channels_last=channels_last)
    batch = transform(raw_batch())
    video = batch.view("video").values
    assert torch.equal(video, expected.view("video").values.to(dtype))
    layout = torch.channels_last_3d if channels_last else torch.contiguous_format
    assert video.is_contiguous(memory_format=layout)
    audio = batch.view("audio").values
    assert torch.equal(audio, expected.view("audio").values)


def test_images_have_their_channels_last_too() -> None:
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["image"]},
            "augmentation": {"relation": "invariant", "draws": 2},
        }
    )
    raw = raw_batch()
    assert raw.frames is not None
    raw = replace(raw, frames=raw.frames[:, :1].contiguous(), audio=None)
    expected = DeviceTransform(plan, DeviceOptions())(raw).view("image").values
    image = DeviceTransform(plan, DeviceOptions(), channels_last=True)(raw)
    values = image.view("image").values
    assert torch.equal(values, expected)
    assert values.is_contiguous(memory_format=torch.channels_last)
