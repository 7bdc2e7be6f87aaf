"""The teacher of a distillation: a run of `gdt finetune`, frozen, and fed as it was trained."""

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from pipelines.device.options import LogMel
from tools.runs.config import Config
from tools.runs.run import Run, load_run
from tools.runs.run_folder import RunError

#: Keys of what a network sees that must be the teacher's, by modality: its table, its keys.
_INPUTS: Final = {
    "video": ("video_augment", ("channels", "mean", "std")),
    "image": ("image_augment", ("channels", "mean", "std")),
    "audio": ("log_mel", tuple(field.name for field in fields(LogMel))),
}


class RunTeacher:
    """See `models.method.Teacher`.

    Args:
        run: of a classifier.

    Raises:
        RunError: it has none.
    """

    def __init__(self, run: Run) -> None:
        if run.setting.labels is None:
            raise RunError(
                f"method.teacher = {run.path} is a run of {run.config.method.name}, and has no "
                "classifier: `gdt finetune` trains one"
            )
        self.labels = run.setting.labels
        self.method = run.method.eval().requires_grad_(requires_grad=False)
        digest = hashlib.sha256()
        for tensor in self.method.state_dict().values():
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        self.fingerprint = int.from_bytes(digest.digest()[:8], "little", signed=True)

    @torch.no_grad()
    def __call__(self, modality: str, values: Tensor) -> Tensor:
        """Return the logits of rows [B, …]: [B, classes]."""
        return self.method.to(values.device).towers.projection(modality, values)


def load_teacher(path: str, config: Config) -> RunTeacher:
    """Load the teacher of a config's student.

    Raises:
        RunError: there is no such run, it has no classifier, or it was fed otherwise.
    """
    if not path:
        raise RunError("method.teacher is not set: name a run folder of `gdt finetune`")
    run = load_run(Path(path))
    for modality in config.build_plan().modalities:
        if modality not in run.setting.plan.modalities:
            raise RunError(
                f"the teacher {path} knows {', '.join(run.setting.plan.modalities)}, and the "
                f"student's plan has {modality}: name the same in plan.modality.values"
            )
        table, keys = _INPUTS.get(modality, ("", ()))
        for key in keys:
            ours, theirs = (getattr(getattr(c, table), key) for c in (config, run.config))
            if ours != theirs:
                raise RunError(
                    f"{table}.{key} = {ours}, and the teacher {path} was trained with {theirs}: "
                    "both see the same rows, so set it alike"
                )
    return RunTeacher(run)
