"""The captions of a sample, wherever its metadata have them."""

from collections.abc import Mapping
from typing import Any

__all__ = ["captions_of"]


def captions_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """All captions of a sample, in order; none where it has none.

    Args:
        metadata: of `Samples.metadata`. `captions`, a list of texts, comes before `caption`, one
            text or a list (a .txt member is one); either may lie under `metadata`, where a build
            keeps what its sources knew. Blank ones do not count.
    """
    inner = metadata.get("metadata")
    places = (metadata, inner if isinstance(inner, Mapping) else {})
    for name in ("captions", "caption"):
        for place in places:
            value = place.get(name)
            texts = value if isinstance(value, list | tuple) else [value]
            found = tuple(text.strip() for text in texts if isinstance(text, str) and text.strip())
            if found:
                return found
    return ()
