"""What a build is made of: a `Source` is a stretch of video, its location, and its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from shards.errors import SourceError
from shards.format.json_text import whole_text
from shards.storage.opening import Location


@dataclass(frozen=True)
class Source:
    """One video to make clips of; `name` is its path within what was given, with slashes.

    row: what goes into its samples' json, see `row_of`. start_seconds, stop_seconds: the range to
    cut, on the source's clock; None is its end. listed: the list and line that name it
    ("clips.csv:3"), "" where no list does. fault: stage, cause and detail of why it is skipped,
    where that was found as it was listed.
    """

    name: str
    location: Location
    row: Mapping[str, Any] = field(default_factory=dict)
    start_seconds: Fraction = Fraction(0)
    stop_seconds: Fraction | None = None
    listed: str = ""
    fault: tuple[str, str, str] | None = None

    @property
    def range_text(self) -> str:
        """The range as keys see it; "" where it is the whole video."""
        if not self.start_seconds and self.stop_seconds is None:
            return ""
        return f"{self.start_seconds}:{self.stop_seconds or ''}"

    def range_within(self, duration_seconds: Fraction) -> tuple[Fraction, Fraction]:
        """The range, [start, stop), in a source of this length; empty where that ends before it."""
        start, stop = self.start_seconds, self.stop_seconds
        end = duration_seconds if stop is None else min(duration_seconds, stop)
        return start, max(start, end)

    def check(self) -> None:
        """Raise the fault that was found as the source was listed, if there is one."""
        if self.fault is not None:
            raise SourceError(*self.fault)


def row_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a sample's json says of what was said of its source.

    `label`, `labels` (several) and `caption` are texts; all other fields go under `metadata`. Empty
    ones are left out.

    Raises:
        ValueError: a label or caption is no text; says which, and what is allowed.
    """
    others = {n: v for n, v in whole_text(dict(fields)).items() if v not in (None, "")}
    row: dict[str, Any] = {}
    for name in ("label", "caption"):
        if name in others:
            row[name] = _text(others.pop(name), f"the {name}")
    if "labels" in others:
        given = others.pop("labels")
        if not isinstance(given, list):
            raise ValueError(f"the labels {given!r}; write a list of texts")
        row["labels"] = [_text(value, "among its labels") for value in given]
    if others:
        row["metadata"] = others
    return row


def _text(value: Any, what: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"{what} {value!r}; write a text")
    return str(value)


def split_labels(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a line of a table, in which a `;` stands between several labels."""
    if fields.get("labels"):
        texts = (text.strip() for text in fields["labels"].split(";"))
        fields["labels"] = [text for text in texts if text]
    return fields
