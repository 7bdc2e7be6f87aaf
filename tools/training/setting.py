"""What a method is told of its run: plan, encoders, lengths, and labels or a teacher if it asks."""

from models import METHODS, Labels, RunFacts, Setting
from shards import Samples
from tools.evaluation.actions import actions_if_any
from tools.evaluation.labels import labels_of
from tools.runs.config import Config
from tools.training.teacher import load_teacher

__all__ = ["setting_of"]


def setting_of(config: Config, dataset: Samples, facts: RunFacts) -> Setting:
    """The setting of a new method; loading a teacher draws from torch's generator.

    Raises:
        ValueError: the data set, or the teacher's run, has not what the method needs.
    """
    needs = METHODS[config.method.name].needs
    labels = Labels.of(labels_of(dataset)) if needs.labels else None
    teacher, actions = None, None
    if needs.teacher:
        teacher = load_teacher(getattr(config.method, "teacher"), config)  # noqa: B009
        labels = Labels(teacher.labels.counts)
    if needs.actions:
        found = actions_if_any(dataset, config.segment.window_seconds)
        actions = None if found is None else found.tolist()
    return Setting(config.build_plan(), config.encoders, facts, labels, teacher, actions)
