"""Counts as messages say them: `1 clip`, `2 clips`."""


def plural(number: int, thing: str) -> str:
    """A number of things, thousands apart; `thing` is one of them, and its plural ends in s."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
