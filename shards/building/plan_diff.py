"""What changed between two plans of a build, in words: why it cannot continue."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from shards.building.worker_pool import TOOK_TOO_LONG
from shards.format.json_text import read_jsonl
from shards.plural import plural
from shards.storage.opening import Location

_BACK = "Put it back as it was to go on"


def first_change(before: Path, now: Path) -> tuple[str, str]:
    """The first source in which two plans differ and in what, and how to go on; "" if in none.

    Reads both side by side; memory does not grow with them.
    """
    old, new = read_jsonl(before), read_jsonl(now)
    for was, is_ in zip_longest(old, new):
        if was == is_:
            continue
        if was is not None and is_ is not None and _identity(was) == _identity(is_):
            return f"{_named(was)}: {_change(was, is_)}", _way_on(was, is_)
        if was is None or (is_ is not None and not _holds(old, is_)):
            return f"{_named(is_)} is new", "Leave it out to go on"
        return f"{_named(was)} is not there any more, or not in its place", _BACK
    return "", ""


def _identity(line: dict[str, Any]) -> tuple[str, Any]:
    return line["name"], line.get("listed")


def _holds(rest: Iterator[dict[str, Any]], wanted: dict[str, Any]) -> bool:
    return any(line["name"] == wanted["name"] for line in rest)


def _named(line: dict[str, Any]) -> str:
    listed = f" ({line['listed']})" if "listed" in line else ""
    return f"{line['name']}{listed}"


def _change(was: dict[str, Any], is_: dict[str, Any]) -> str:
    if was.get("skip") != is_.get("skip"):
        return f"{_use(was)} then, {_use(is_)} now"
    changes = []
    for name in sorted((was.keys() | is_.keys()) - {"number"}):
        then: Any = was.get(name)
        now: Any = is_.get(name)
        if then == now:
            continue
        if name == "size":
            changes.append(f"{plural(then, 'byte')} then, {plural(now, 'byte')} now")
        elif name == "version":
            changes.append(f"changed {_time(then)} then, {_time(now)} now")
        elif name == "row":
            changes.append("other labels, caption or metadata")
        elif name == "location":
            changes.append(f"at {Location(*then)} then, at {Location(*now)} now")
        elif name == "borders":
            changes.append("other keyframes")
        else:
            changes.append(f"another {name}")
    return "; ".join(changes) or "another place in the order"


def _use(line: dict[str, Any]) -> str:
    if "skip" not in line:
        return "it could be used"
    stage, cause, _ = line["skip"]
    return f"it was left out ({stage}: {cause})"


def _time(version: str) -> str:
    """A file's time of change, to the nanosecond; of anything else its version as it is."""
    if not version.isdecimal():
        return version or "(unknown)"
    seconds, rest = divmod(int(version), 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"


def _way_on(was: dict[str, Any], is_: dict[str, Any]) -> str:
    took_too_long = [TOOK_TOO_LONG in line.get("skip", ()) for line in (was, is_)]
    if any(took_too_long) and not all(took_too_long):
        return "Give the --time-limit it had to go on"
    return _BACK
