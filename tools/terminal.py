"""Tables, colours and progress bars on the terminal, by rich, which takes a while to load."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from shards.shown import shown_lines


class Terminal(Console):
    """rich's console, to which names are only text: no markup in brackets, no escape sequences."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, markup=False, highlight=False)

    def say(self, text: str, style: str | None = None) -> None:
        """Print a line, which the terminal may wrap."""
        self.print(text, style=style, soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """A text to print, and the width it takes; see rich."""
        return super().render_str(shown_lines(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is printed, in pieces; see rich."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown_lines(segment.text))
