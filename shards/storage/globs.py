"""Glob patterns over the files of a folder, local or remote: `videos/**/*.mp4`.

`*` and `?` stand for characters of one name, `[a-z]` for one of a set, and `**` for any number of
folders, as in the shell.
"""

import re

_MAGIC = re.compile(r"[*?[]")
_PIECE = re.compile(r"\*+|\?|\[!?\]?[^\]/]*\]|.", re.DOTALL)


def is_pattern(text: str) -> bool:
    """Whether a text has a wildcard in it."""
    return _MAGIC.search(text) is not None


def split_pattern(text: str) -> tuple[str, str]:
    """The folder that a pattern begins with, and the rest: what is asked of paths within it."""
    parts = text.split("/")
    first = next(i for i, part in enumerate(parts) if is_pattern(part))
    folder = "/".join(parts[:first])
    return folder or ("/" if text.startswith("/") else "."), "/".join(parts[first:])


def compiled(pattern: str) -> re.Pattern[str]:
    """A regular expression for whole paths with slashes; `**` at the end means all files."""
    *folders, last = pattern.split("/")
    parts = ["(?:[^/]+/)*" if part == "**" else _name(part) + "/" for part in folders]
    parts.append("(?:[^/]+/)*[^/]+" if last == "**" else _name(last))
    return re.compile("".join(parts), re.DOTALL)


def _name(part: str) -> str:
    """A regular expression for one name of a path."""
    found = []
    for piece in _PIECE.findall(part):
        if piece[0] == "*":
            found.append("[^/]*")
        elif piece == "?":
            found.append("[^/]")
        elif piece[0] == "[" and len(piece) > 1:
            inside = piece[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            found.append(f"(?!/)[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]")
        else:
            found.append(re.escape(piece))
    return "".join(found)
