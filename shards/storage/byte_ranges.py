"""Arithmetic of byte ranges: which are missing, which to request as one, and their assembly.

A range is (start, stop), stop excluded. A piece is bytes and where they begin.
"""

from collections.abc import Sequence
from typing import NamedTuple

#: Bytes read for nothing between merged ranges, at most this part of those that are wanted.
MAX_WASTE = 0.2


class Piece(NamedTuple):
    """Bytes of a file from `start` on."""

    start: int
    data: bytes

    @property
    def stop(self) -> int:
        """Where they end, excluded."""
        return self.start + len(self.data)


def missing(ranges: Sequence[tuple[int, int]], pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """The parts of `ranges` that no piece covers: sorted, apart from each other.

    Args:
        ranges: any order, may overlap.
        pieces: sorted by start.
    """
    gaps = []
    for start, stop in joined(ranges, gap=0, waste=0.0):
        at = start
        for piece in pieces:
            if piece.stop <= at:
                continue
            if piece.start >= stop:
                break
            if piece.start > at:
                gaps.append((at, piece.start))
            at = max(at, piece.stop)
        if at < stop:
            gaps.append((at, stop))
    return gaps


def joined(
    ranges: Sequence[tuple[int, int]], gap: int, waste: float = MAX_WASTE
) -> list[tuple[int, int]]:
    """Ranges that are at most `gap` bytes apart made one, sorted.

    A joined range holds at most `waste` × its wanted bytes of others. Overlapping and touching
    ranges are always joined, empty ones dropped.
    """
    groups: list[tuple[int, int, int]] = []  # start, stop, wanted bytes
    for start, stop in sorted(r for r in ranges if r[0] < r[1]):
        if groups:
            first, last, wanted = groups[-1]
            both = wanted + stop - max(start, last)
            fits = start - last <= gap and stop - first - both <= waste * both
            if start <= last or fits:
                groups[-1] = (first, max(last, stop), wanted + max(0, stop - max(start, last)))
                continue
        groups.append((start, stop, stop - start))
    return [(start, stop) for start, stop, _ in groups]


def assemble(start: int, stop: int, pieces: Sequence[Piece]) -> bytes:
    """Bytes [start, stop) out of sorted pieces that cover them, overlapping or not."""
    parts, at = [], start
    for piece in pieces:
        if piece.start <= at < piece.stop:
            end = min(stop, piece.stop)
            parts.append(piece.data[at - piece.start : end - piece.start])
            at = end
            if at == stop:
                break
    if at < stop:
        raise ValueError(f"no piece covers byte {at} of [{start}, {stop})")
    return parts[0] if len(parts) == 1 else b"".join(parts)
