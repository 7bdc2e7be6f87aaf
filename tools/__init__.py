"""The gdt command: the only place where all rooms meet. `fit` is `gdt pretrain` for a script."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from tools.runs.config import Config
    from tools.runs.run_folder import RunFolder

__all__ = ["fit"]


def fit(
    config: "Config | Path | str",
    out: Path | str,
    *,
    overrides: Sequence[str] = (),
    resume: bool = False,
    callbacks: "Sequence[Callback]" = (),
) -> "RunFolder":
    """Train a run in a folder, as `gdt pretrain` does, with callbacks of one's own.

    Args:
        config: a config, a TOML file, or the name of one that comes along.
        out: the run folder.
        overrides: "a.b=c", as `--set` takes them; for a file or a name.
        resume: go on with the run that is in the folder.
        callbacks: Lightning's, called after the run's own at every hook.

    Returns:
        The folder, with the last checkpoint and the losses.

    Raises:
        ConfigError, RunError, TrainingError: what `gdt pretrain` would say.
        Stopped: by a signal; what was trained is saved.
    """
    import os

    from tools.runs.config import Config, load_config
    from tools.runs.config_files import find_config
    from tools.runs.ranks import is_first_rank
    from tools.runs.run_folder import RunFolder
    from tools.training.fit import fit as train

    if not isinstance(config, Config):
        config = load_config(find_config(str(config)), overrides)
    folder = RunFolder(Path(out))
    with folder.claimed(config, resume=resume, is_first=is_first_rank(os.environ)):
        train(config, folder, resume=resume, callbacks=callbacks)
    return folder
