"""Takes an encoder home: weights, or a graph that runs without this program; and a card.

| form | file | runs with |
|---|---|---|
| weights | `.safetensors` | `models.load_encoder`, torchvision |
| `torch.export` | `.pt2` | torch alone |
| ONNX | `.onnx` | onnxruntime and others |

A graph takes any number of rows of the size that the run evaluated with.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from models.encoder_file import EncoderFile, save_encoder
from models.encoders import Encoder
from tools.runs.overview import overview
from tools.runs.run import Run
from tools.runs.run_folder import RunError, RunFolder

FORMS: Final = (".safetensors", ".pt2", ".onnx")
TOKENIZER: Final = ".tokenizer.json"
_TOLERANCE: Final = 1e-3  # of a graph's output, relative to its largest


def export_encoder(run: Run, modality: str, out: Path) -> list[Path]:
    """Write an encoder in the form that the name's ending asks for, and its card beside it.

    Returns:
        The files: the encoder; of text its tokenizer, OUT.tokenizer.json; and the card, OUT.md.

    Raises:
        RunError: the run has no such encoder, no such form, no tokenizer, or the graph does not
            compute what the encoder does.
    """
    encoder = encoder_of(run, modality)
    if out.suffix not in FORMS:
        raise RunError(
            f"--out {out}: its ending says the form, and is one of {', '.join(FORMS)}: weights, "
            "torch.export, ONNX"
        )
    about = describe(run, modality, encoder)
    tokenizer = tokenizer_of(run) if modality == "text" else None
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".safetensors":
        head = run.method.towers.heads[modality].get_submodule("fc") if about.classes else None
        assert head is None or isinstance(head, nn.Linear)
        save_encoder(encoder, about, out, head)
    else:
        example = example_input(run, modality)
        write = _write_onnx if out.suffix == ".onnx" else _write_exported
        partial = out.with_name("partial-" + out.name)
        try:
            found = write(encoder, example, partial)
            with torch.inference_mode():
                wanted = encoder(example)
            worst = float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
            if not worst <= _TOLERANCE:
                raise RunError(
                    f"{out}: the graph does not compute what the encoder does: they differ by "
                    f"{worst:.1e} of the largest value. Export the weights (.safetensors)"
                )
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    files = [out]
    if tokenizer is not None:
        files.append(out.with_name(out.name + TOKENIZER))
        files[-1].write_bytes(tokenizer.read_bytes())
    card = out.with_name(out.name + ".md")
    card.write_text(card_of(run, about, out), encoding="utf-8")
    return [*files, card]


def encoder_of(run: Run, modality: str) -> Encoder:
    """The run's encoder of a modality.

    Raises:
        RunError: it has none.
    """
    encoders = run.method.towers.encoders
    if modality not in encoders:
        raise RunError(
            f"{run.path} has no encoder for {modality!r}: its plan has the modalities "
            f"{', '.join(run.plan.modalities)}; give --modality one of those"
        )
    encoder = encoders[modality]
    assert isinstance(encoder, Encoder)
    return encoder.eval()


def describe(run: Run, modality: str, encoder: Encoder) -> EncoderFile:
    """What the file says beside the weights."""
    config = run.config
    inputs: dict[str, Any] = {"shape": list(encoder.input_shape)}
    if modality != "text":
        inputs["seconds"] = config.segment.seconds_of(modality)
    if modality == "text":
        inputs |= {"max_tokens": config.text.max_tokens, "padding": 0}
    elif modality == "audio" and config.audio_augment.values == "waveform":
        sample_rate_hz, rms = config.segment.sample_rate_hz, config.audio_augment.rms
        inputs |= {"sample_rate_hz": sample_rate_hz} | ({} if rms is None else {"rms": rms})
    elif modality == "audio":
        inputs |= {"log_mel": asdict(config.log_mel)}
    else:
        augment = config.video_augment if modality == "video" else config.image_augment
        inputs |= {"size": augment.size, "mean": list(augment.mean), "std": list(augment.std)}
        if modality == "video":
            inputs["num_frames"] = config.segment.num_frames
    facts = {
        "step": run.step,
        "method": config.method.name,
        "plan": run.plan.fingerprint(),
        "modalities": list(run.plan.modalities),
        "trained_on": run.trained_on,
        "run": run.path.resolve().name,
    }
    return EncoderFile(
        modality,
        getattr(config.encoders, modality),
        encoder.embedding_dim,
        options=config.encoders.choices(modality),
        inputs=inputs,
        facts=facts,
        classes=[] if run.setting.labels is None else list(run.setting.labels.counts),
    )


def example_input(run: Run, modality: str) -> Tensor:
    """Two rows of the size that the run evaluates with, drawn from a fixed seed."""
    config, drawn = run.config, torch.Generator().manual_seed(0)
    if modality == "text":
        size = (2, config.text.max_tokens)
        return torch.randint(1, config.encoders.vocab_size, size, generator=drawn)
    if modality == "audio":
        mel, samples = config.log_mel, config.segment.num_samples
        shape: tuple[int, ...] = (2, 1, mel.num_mels, mel.num_frames(samples))
        if config.audio_augment.values == "waveform":
            shape = (2, 1, samples)
    elif modality == "video":
        side = config.video_augment.size
        shape = (2, 3, config.segment.num_frames, side, side)
    else:
        side = config.image_augment.size
        shape = (2, 3, side, side)
    return torch.randn(shape, generator=drawn)


def beyond_encoder(run: Run) -> str:
    """What a reader must know of a method whose features are more than an encoder's output."""
    return (
        f"What `gdt evaluate` scores of {run.config.method.name} is not this encoder's output as "
        f"it is: {run.method.beyond_encoder}"
    )


def tokenizer_of(run: Run) -> Path:
    """The run's copy of its tokenizer.

    Raises:
        RunError: it is gone.
    """
    path = RunFolder(run.path).tokenizer
    if not path.is_file():
        raise RunError(
            f"{path} is missing: without the tokenizer that it learned with, a text encoder is of "
            "no use; put that file back"
        )
    return path


def card_of(run: Run, about: EncoderFile, out: Path) -> str:
    """A model card: what it is, what went in, how it did, how to use it."""
    seen, config = overview(run.path), run.config
    plan = [f"| {name} | {_words(table)} |" for name, table in config.plan.items()]
    results = [f"- {name}: {value}" for name, value in seen.results.items()]
    if seen.best is not None:
        results.append(f"- best validation: {seen.best.value:.3f} after step {seen.best.step}")
    beside = f"{len(about.classes)} classes beside" if about.classes else "no projection head"
    lines = [
        f"# {about.modality} encoder {about.name}, {run.step} steps",
        "",
        f"One of {', '.join(run.plan.modalities)}, trained together by {config.method.name} on "
        f"{'' if about.classes else 'un'}labelled clips. Gives {about.embedding_dim} features a "
        f"row ({beside}).",
        "",
        *([] if not run.method.beyond_encoder else [f"{beyond_encoder(run)}.", ""]),
        "| input | |",
        "|---|---|",
        *(f"| {name} | {_words(value)} |" for name, value in about.inputs.items()),
        "",
        "| training | |",
        "|---|---|",
        f"| steps, samples a step | {run.step}, {config.data.batch_size} |",
        f"| data set (fingerprint) | {run.trained_on} |",
        f"| plan (fingerprint) | {run.plan.fingerprint()} |",
        *([] if seen.loss is None else [f"| loss, mean of the last steps | {seen.loss:.3f} |"]),
        "",
        "| factor of the plan | |",
        "|---|---|",
        *plan,
        "",
        "## Results",
        "",
        *(results or ["None yet: `gdt evaluate` has not been run."]),
        "",
        "## Use",
        "",
        *_usage(about, out),
        "",
        "Not stated, as it is not known here: the licence of the training data, and what biases "
        "are in it.",
        "",
    ]
    return "\n".join(lines)


def _usage(about: EncoderFile, out: Path) -> list[str]:
    if out.suffix == ".pt2":
        code = ["import torch", f'encoder = torch.export.load("{out.name}").module()']
    elif out.suffix == ".onnx":
        code = ["import onnxruntime", f'encoder = onnxruntime.InferenceSession("{out.name}")']
    else:
        code = ["from models import load_encoder", f'encoder = load_encoder("{out.name}")']
        if about.classes:
            code = [
                "from models import load_classifier",
                f'logits_of = load_classifier("{out.name}")',
            ]
    if about.modality == "text":
        code += [
            "from tokenizers import Tokenizer",
            f'tokenizer = Tokenizer.from_file("{out.name}{TOKENIZER}")',
        ]
    return ["```python", *code, "```"]


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return " × ".join(str(inner) for inner in value)
    return str(value)


def _write_exported(encoder: nn.Module, example: Tensor, path: Path) -> Tensor:
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(encoder, (example,), dynamic_shapes=({0: rows},))
    torch.export.save(program, path)
    with torch.inference_mode():
        found: Tensor = torch.export.load(path).module()(example)
    return found


def _write_onnx(encoder: nn.Module, example: Tensor, path: Path) -> Tensor:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it, and says so less plainly
    except ImportError as error:
        raise RunError(
            f"{path}: ONNX needs libraries that are missing; pip install 'gdt-stream[onnx]'"
        ) from error
    torch.onnx.export(
        encoder,
        (example,),
        path,
        input_names=["values"],
        output_names=["features"],
        dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
        external_data=False,
        verbose=False,
        dynamo=True,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"values": example.numpy()})
    return torch.from_numpy(found)
