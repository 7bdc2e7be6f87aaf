"""Text as it may be shown: what steers a terminal, or turns text around, is written out.

Names, labels, captions and servers' answers are strangers' texts. Escape sequences in them could
move a cursor, rename a window or forge a line; marks of right-to-left text can make a name read as
another one; and half of a surrogate pair cannot be written at all.
"""

import re

_CONTROL = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029"  # line ends and tabs apart
_DIRECTION = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
_SURROGATE = "\\ud800-\\udfff"
_IN_LINES = re.compile(f"[{_CONTROL}{_DIRECTION}{_SURROGATE}]")
_IN_A_LINE = re.compile(f"[{_CONTROL}{_DIRECTION}{_SURROGATE}\\n\\t]")


def shown(text: str) -> str:
    """The text in one line; a character that is not to be shown becomes its number in hex."""
    return _IN_A_LINE.sub(_escape, text)


def shown_lines(text: str) -> str:
    """The same for text of several lines: line ends and tabs stay."""
    return _IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
