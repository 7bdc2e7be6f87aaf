"""What pages have in common: the frame of a page, cards of clips, tables, one look, light and dark.

A page is one HTML file that needs nothing else: pictures and sounds lie in it, each once however
many cards show it, or are addresses of the server that sends it; and all text is escaped.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape as escape_html
from typing import Final

from shards.shown import shown_lines

#: First bytes of what a card may carry → its media type.
MEDIA_TYPES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG", "image/png"),
    (b"RIFF", "image/webp"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
)


@dataclass(frozen=True)
class Card:
    """One clip as seen through one modality.

    Attributes:
        name: source and time.
        label: what it shows, or nothing.
        key: the sample's key.
        picture: bytes of its frames or spectrogram, or nothing.
        sound: bytes of its sound, or nothing.
    """

    name: str
    label: str
    key: str
    picture: bytes | None = None
    sound: bytes | None = None


@dataclass(frozen=True)
class Cell:
    """A number of a table, as text, and its interval."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table: what it is of, its cells, and whether it is one to compare with."""

    name: str
    cells: Sequence[Cell]
    is_faint: bool = False


@dataclass(frozen=True)
class Table:
    """A table under a title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Row]


class Media:
    """The pictures and sounds that a page's cards show, each kept once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}

    def place(self, content: bytes) -> int:
        """The number under which the page has this content."""
        return self._places.setdefault(content, len(self._places))

    def html(self) -> str:
        """What a page ends with: the content, and the script that gives it to who shows it."""
        entries = [[media_type(c), base64.b64encode(c).decode()] for c in self._places]
        return (
            f'<script type="application/json" id="media">{json.dumps(entries)}</script>'
            f"<script>{_SHOW_MEDIA}</script>"
            "<noscript><p class=note>Pictures and sounds need JavaScript.</p></noscript>"
        )


_SHOW_MEDIA: Final = """
"use strict";
{
  const entries = JSON.parse(document.getElementById("media").textContent), addresses = [];
  const address = number => {
    if (!addresses[number]) {
      const [type, text] = entries[number];
      const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
      addresses[number] = URL.createObjectURL(new Blob([bytes], {type}));
    }
    return addresses[number];
  };
  for (const shown of document.querySelectorAll("[data-media]"))
    shown.src = address(shown.dataset.media);
}
"""


def escape(text: str) -> str:
    """Text for a page: no markup, nothing that steers or turns text around."""
    return escape_html(shown_lines(text))


def data_uri(content: bytes | None) -> str:
    """Bytes of a picture or sound as an address; nothing for None.

    Raises:
        ValueError: bytes that are none of `MEDIA_TYPES`.
    """
    if content is None:
        return ""
    return f"data:{media_type(content)};base64,{base64.b64encode(content).decode()}"


def media_type(content: bytes) -> str:
    """The media type of a picture's or sound's bytes.

    Raises:
        ValueError: bytes that are none of `MEDIA_TYPES`.
    """
    for first_bytes, found in MEDIA_TYPES:
        if content.startswith(first_bytes):
            return found
    raise ValueError(f"page: content begins with {content[:4]!r}; expected JPEG, PNG, WebP or MP3")


def page_html(title: str, body: str, script: str = "") -> str:
    """A whole HTML document, in the one look."""
    scripted = f"<script>{script}</script>" if script else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
{scripted}</body>
</html>
"""


def table_html(table: Table) -> str:
    """A table; on a narrow screen each row becomes a small block."""
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in table.columns)
    rows = []
    for row in table.rows:
        cells = "".join(
            f'<td data-name="{escape(name)}"><b>{escape(cell.text)}</b>'
            f"<small>{escape(cell.interval)}</small></td>"
            for name, cell in zip(table.columns, row.cells, strict=True)
        )
        faint = ' class="faint"' if row.is_faint else ""
        rows.append(f"<tr{faint}><th scope=row>{escape(row.name)}</th>{cells}</tr>")
    return (
        f'<h2>{escape(table.title)}</h2><table class="numbers"><thead><tr><td></td>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table>"
    )


def card_html(card: Card, head: str, media: Media, style: str = "") -> str:
    """A card: a line of HTML on top, the picture, the sound to play, name and label."""
    name, picture, sound = escape(card.name), "", ""
    if card.picture is not None:
        picture = f'<img data-media="{media.place(card.picture)}" alt="{name}">'
    if card.sound is not None:
        number = media.place(card.sound)
        sound = f'<audio controls preload="none" data-media="{number}"></audio>'
    label = f'<span class="label">{escape(card.label)}</span>' if card.label else ""
    return (
        f'<figure class="card{style}" title="{escape(card.key)}"><div class="head">{head}</div>'
        f"{picture}{sound}<figcaption>{name}{label}</figcaption></figure>"
    )


STYLE: Final = """
:root { --page: #f6f7f9; --card: #fff; --ink: #1f2329; --faint: #5f6672; --line: #dde1e7;
  --good: #17734a; --good-soft: #e3f4ea; --bad: #b3402c; --accent: #2a6fb0;
  --shade: rgb(20 30 50 / 8%); }
@media (prefers-color-scheme: dark) {
  :root { --page: #14161a; --card: #1e2127; --ink: #e8eaee; --faint: #a0a8b4; --line: #333842;
    --good: #4cc38a; --good-soft: #173326; --bad: #f0866f; --accent: #6fb1ee;
    --shade: rgb(0 0 0 / 40%); } }
* { box-sizing: border-box; margin: 0; }
body { font: 15px/1.45 system-ui, sans-serif; background: var(--page); color: var(--ink);
  max-width: 1280px; margin: 0 auto; padding: 28px 20px 60px; overflow-wrap: anywhere; }
h1 { font-size: 24px; } h2 { font-size: 18px; margin: 30px 0 10px; }
a { color: var(--accent); }
.facts { display: flex; flex-wrap: wrap; gap: 4px 28px; margin: 10px 0 0; }
.facts dt { font-size: 12px; color: var(--faint); }
.note, .facts + p { color: var(--faint); font-size: 13px; max-width: 90ch; margin-top: 10px; }
.warning { color: var(--bad); max-width: 90ch; margin-top: 10px; }
.numbers { border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; font-variant-numeric: tabular-nums; }
.numbers th, .numbers td { padding: 5px 12px; text-align: right; font-weight: 500; }
.numbers th[scope=row] { text-align: left; } .numbers small { display: block; color: var(--faint); }
.numbers thead { color: var(--faint); font-size: 13px; }
.numbers tbody tr { border-top: 1px solid var(--line); } .numbers .faint * { color: var(--faint); }
.charts { display: flex; flex-wrap: wrap; gap: 18px; align-items: flex-start; margin: 10px 0; }
.charts figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px; max-width: 100%; }
.charts svg, .charts img { display: block; max-width: 100%; height: auto; }
.charts img { image-rendering: pixelated; width: 320px; }
.charts figcaption { color: var(--faint); font-size: 12.5px; max-width: 420px; margin-top: 6px; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg .bar { fill: var(--accent); } svg .chance { stroke: var(--bad); stroke-width: 2; }
.controls { display: flex; flex-wrap: wrap; gap: 10px; position: sticky; top: 0; z-index: 1;
  background: var(--page); padding: 10px 0; margin-top: 22px; }
input, select, button { font: inherit; color: inherit; background: var(--card); padding: 6px 10px;
  border: 1px solid var(--line); border-radius: 6px; max-width: 100%; }
input[type=search], input[type=text] { flex: 1 1 200px; min-width: 0; }
button { cursor: pointer; }
article { display: flex; gap: 14px; padding: 14px; margin-bottom: 14px; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; box-shadow: 0 1px 3px var(--shade); }
.query { flex: 0 0 180px; min-width: 0; padding-right: 14px; border-right: 1px solid var(--line); }
.hits { flex: 1; min-width: 0; display: grid; gap: 8px;
  grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); align-items: start; }
.card { min-width: 0; padding: 6px; border: 2px solid transparent; border-radius: 8px; }
.query .card { padding: 0; border: 0; }
.card.right { border-color: var(--good); background: var(--good-soft); }
.card.apart { border-style: dashed; }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 6px; font-size: 13px;
  color: var(--faint); margin-bottom: 4px; font-variant-numeric: tabular-nums; }
.head b { color: var(--ink); } .tick { color: var(--good); font-weight: 600; }
.kind { font-size: 12px; font-weight: 600; } .best { color: var(--good); }
.worst { color: var(--bad); }
.card img { width: 100%; display: block; border-radius: 4px; }
.card audio { width: 100%; height: 32px; margin-top: 4px; }
figcaption { font-size: 12px; margin-top: 5px; } .label { display: block; color: var(--faint); }
[hidden] { display: none !important; }
@media (max-width: 640px) {
  body { padding: 18px 12px 40px; } .controls { position: static; }
  article { flex-direction: column; padding: 10px; }
  .query { flex-basis: auto; border: 0; padding: 0; } .query .card { max-width: 220px; }
  .hits { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
  .numbers, .numbers tbody { display: block; } .numbers thead { display: none; }
  .numbers tr { display: grid; grid-template-columns: repeat(3, 1fr); padding: 6px 10px; }
  .numbers th[scope=row] { grid-column: 1 / -1; padding: 0; font-weight: 600; }
  .numbers td { text-align: left; padding: 3px 0; }
  .numbers td::before { content: attr(data-name); display: block; font-size: 11.5px;
    color: var(--faint); } }
"""
