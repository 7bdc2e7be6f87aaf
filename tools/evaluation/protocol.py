"""The retrieval protocol as data: a TOML file that says all that the numbers depend on.

The files of tools/evaluation/protocols/ are the presets; one of one's own has the same keys. A
protocol is printed with every result, with the hash of what it says.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from shards.storage.text_files import read_small
from tools.evaluation.encoders import Layer
from tools.evaluation.errors import EvaluationError
from tools.runs.toml_text import parse_toml

PRESETS: Final = Path(__file__).parent / "protocols"
METRIC: Final = re.compile(r"(?P<kind>R|nDCG)@(?P<k>[1-9]\d*)|median rank|mean rank|MRR|mAP")
_NOT_HASHED = ("name", "source", "differs")

Aggregation = Literal[
    "mean of embeddings", "mean of similarities", "max of similarities", "diagonal of similarities"
]
Ties = Literal["expected", "optimistic", "pessimistic", "every tied"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How retrieval is scored.

    Attributes:
        name, source, differs: what it is called, whose it is, and in what ours is not theirs.
        levels: "instance": the right answer is the same clip in the other modality; "class": every
            clip of the query's label, in the same or another modality, the query itself left out.
        layer: what is compared: "features" of the encoder, or "embeddings" of the loss.
        segments: a clip.
        spacing: where they lie: "middles" of equal parts, or from end to end ("ends").
        aggregation: how a clip's segments become one score.
        normalize_segments: scale each segment's vector to length 1 first.
        centring: "own set" subtracts from each set of clips its own mean.
        similarity: "cosine", "dot" or "euclidean" (nearest first).
        ties: where the right answer stands among equal scores: the expectation over their orders,
            the best or the worst of them, or "every tied" of them as a query more (CAV-MAE).
        metrics: R@k, nDCG@k, mAP, MRR, median rank, mean rank, in the order of the table.
        dual_softmax: temperature of a re-weighting by the softmax over all queries (CAMoE, 2021);
            it looks at all queries at once, and is reported apart; 0 for none.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    name: str
    source: str
    differs: str = ""
    levels: tuple[Literal["instance", "class"], ...]
    layer: Layer
    segments: int
    spacing: Literal["middles", "ends"] = "middles"
    aggregation: Aggregation = "mean of embeddings"
    normalize_segments: bool = True
    centring: Literal["none", "own set"] = "none"
    similarity: Literal["cosine", "dot", "euclidean"] = "cosine"
    ties: Ties = "expected"
    metrics: tuple[str, ...]
    dual_softmax: float = 0.0

    def __post_init__(self) -> None:
        wrong = [metric for metric in self.metrics if not METRIC.fullmatch(metric)]
        if wrong or not self.metrics:
            raise ValueError(
                f"metrics = {list(self.metrics)}: takes R@k, nDCG@k, mAP, MRR, median rank and "
                "mean rank, k a whole number from 1 on"
            )
        if not self.levels:
            raise ValueError('levels = []: takes "instance", "class" or both')
        if self.segments < 1:
            raise ValueError(f"segments = {self.segments}, must be at least 1")
        if self.spacing == "ends" and self.segments < 2:
            raise ValueError('spacing = "ends" needs two segments or more')
        if self.dual_softmax < 0:
            raise ValueError(f"dual_softmax = {self.dual_softmax}, must be 0 (off) or greater")
        if self.ties == "every tied" and self.levels != ("instance",):
            raise ValueError('ties = "every tied" counts instances: levels must be ["instance"]')
        if self.similarity == "euclidean" and self.aggregation != "mean of embeddings":
            raise ValueError(
                'similarity = "euclidean" compares points: aggregation must be "mean of embeddings"'
            )

    @property
    def places(self) -> tuple[float, ...]:
        """Where in what a clip allows its segments start, in [0, 1]."""
        if self.spacing == "ends":
            return tuple(np.linspace(0, 1, self.segments).tolist())
        return tuple(((np.arange(self.segments) + 0.5) / self.segments).tolist())

    @property
    def digest(self) -> str:
        """Hash of all that numbers depend on: 12 hexadecimal digits."""
        said = {k: v for k, v in self.to_tables().items() if k not in _NOT_HASHED}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    def to_tables(self) -> dict[str, Any]:
        """Plain values, as in the TOML file."""
        tables: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return tables

    def lines(self) -> list[str]:
        """The protocol in words, for people."""
        words = [
            f"{self.name} ({self.digest}): {', '.join(self.levels)} level, {self.layer}",
            f"{self.segments} segments a clip at the {self.spacing}, {self.aggregation}"
            + ("" if self.normalize_segments else ", segments as long as they are")
            + ("" if self.centring == "none" else ", centred by its own set's mean"),
            f"{self.similarity} similarity; ties: {self.ties}",
        ]
        if self.dual_softmax:
            words.append(f"dual softmax over all queries, temperature {self.dual_softmax:g}")
        words.append(f"source: {self.source}")
        if self.differs:
            words.append(f"differs: {self.differs}")
        return words


def preset_names() -> list[str]:
    """The presets, the default first."""
    return sorted((path.stem for path in PRESETS.glob("*.toml")), key=lambda n: (n != "default", n))


def load_protocol(given: str) -> Protocol:
    """A preset by name, or a TOML file by path.

    Raises:
        EvaluationError: neither, or the file says something that a protocol does not take.
    """
    path = PRESETS / f"{given}.toml" if given in preset_names() else Path(given)
    try:
        tables = parse_toml(read_small(path).decode())
    except OSError as error:
        raise EvaluationError(
            f"--protocol {given}: no preset and no file of that name ({error.strerror}); the "
            f"presets are {', '.join(preset_names())}"
        ) from error
    except ValueError as error:
        raise EvaluationError(f"{path}: not a TOML file: {error}") from error
    return protocol_of(tables, str(path))


def protocol_of(tables: dict[str, Any], where: str) -> Protocol:
    """Check plain values as a file's.

    Raises:
        EvaluationError: an unknown, missing or ill-typed key, or a refused value.
    """
    try:
        # through JSON, where strict mode takes a list for a tuple and nothing else
        return TypeAdapter(Protocol).validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        raise EvaluationError(
            "\n".join(f"{where}: {_explain(dict(details))}" for details in error.errors())
        ) from error


def _explain(details: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in details["loc"] if isinstance(part, str)) or "protocol"
    keys = ", ".join(field.name for field in dataclasses.fields(Protocol))
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {key}; a protocol takes {keys}"
    if details["type"] in ("missing", "missing_argument"):
        return f"key {key} is missing: it has no default"
    if details["type"] == "value_error":
        return str(details["ctx"]["error"])
    return f"{key} = {json.dumps(details['input'], default=str)}, must be " + str(
        details["msg"]
    ).removeprefix("Input should be ")


def read_gallery_list(path: Path) -> tuple[str, ...]:
    """The keys of a gallery list: a text file with one a line; blank lines are left out.

    Raises:
        EvaluationError: it cannot be read, is empty, or names a key twice.
    """
    try:
        lines = read_small(path).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"--list {path}: cannot be read as text: {error}") from error
    keys = [line.strip() for line in lines if line.strip()]
    if not keys:
        raise EvaluationError(f"--list {path}: names no clip; write one key a line")
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise EvaluationError(f"--list {path}: names {key!r} twice; a gallery holds it once")
        seen.add(key)
    return tuple(keys)


def gallery_digest(keys: Sequence[str]) -> str:
    """Hash of a gallery: of its keys, in any order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:12]


def with_segments(protocol: Protocol, segments: int | None) -> Protocol:
    """The protocol with another number of segments a clip, where one is given."""
    if segments is None or segments == protocol.segments:
        return protocol
    differs = f"{protocol.segments} segments a clip there; {protocol.differs}".rstrip("; ")
    return dataclasses.replace(protocol, segments=segments, differs=differs)


def protocol_text(given: str) -> str:
    """The TOML file of a preset.

    Raises:
        EvaluationError: there is no such preset.
    """
    if given not in preset_names():
        raise EvaluationError(f"no protocol {given!r}; there are {', '.join(preset_names())}")
    return (PRESETS / f"{given}.toml").read_text(encoding="utf-8")
