"""Results of several runs, steps and data sets beside each other, from their metrics.json."""

from collections.abc import Sequence
from pathlib import Path

from tools.evaluation.errors import EvaluationError
from tools.evaluation.result import METRICS, Evaluation, print_table


def find_evaluations(folders: Sequence[Path]) -> list[tuple[Path, Evaluation]]:
    """The evaluations below folders, by task and data set.

    Raises:
        EvaluationError: there is none, or one cannot be read.
    """
    paths = sorted({path for folder in folders for path in folder.rglob(METRICS)})
    if not paths:
        raise EvaluationError(
            f"no results under {', '.join(map(str, folders))}: `gdt evaluate TASK --run R …` "
            "writes them into R/evaluation"
        )
    found = [(path.parent, Evaluation.read(path)) for path in paths]
    return sorted(found, key=lambda pair: (pair[1].task, pair[1].data["test"].path, str(pair[0])))


def print_side_by_side(found: Sequence[tuple[Path, Evaluation]]) -> None:
    """Print one table for each task and data set, a row for each run, encoder and direction."""
    groups: dict[tuple[str, str, str], list[tuple[str, Evaluation]]] = {}
    for _, result in found:
        test = result.data["test"]
        group = groups.setdefault((result.task, test.path, test.fingerprint), [])
        group.append((_name(result), result))
    for (task, path, _), named in groups.items():
        print_table(f"{task} on {path}", named)


def _name(result: Evaluation) -> str:
    protocol = result.settings.get("protocol")
    said = f" {protocol['name']} {result.settings['protocol_hash']}" if protocol else ""
    return f"{result.run['path']}{said}"
