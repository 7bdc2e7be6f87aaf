"""Take an encoder out of a run, and use it without the rest of the project.

    python examples/export_encoder.py runs/mine video encoder.safetensors

`gdt export` does the same from the shell. A torchvision network takes the weights under its own
names, but for the classifier that it is to have.
"""

import sys
from pathlib import Path

import torch

from models import load_encoder
from tools.runs.export import example_input, export_encoder
from tools.runs.run import load_run


def main(run_folder: str, modality: str, out: str) -> None:
    """Export, load the file again, and compare the two on one random input."""
    run = load_run(Path(run_folder))
    for path in export_encoder(run, modality, Path(out)):
        print(f"wrote {path}")
    encoder = load_encoder(out)
    values = example_input(run, modality)  # of the shape that the run's config gives
    with torch.inference_mode():
        features = encoder(values)
        difference = (features - run.method.features(modality, values)).abs().max()
    print(f"{modality} {list(values.shape)} → features {list(features.shape)}")
    print(f"the run's own encoder differs by {difference:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
