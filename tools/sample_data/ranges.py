"""Refuse options out of range, in the same words for all corpora."""


def check(corpus: str, *options: tuple[bool, str, object, str]) -> None:
    """Check (is it right, its name, its value, what is allowed) of each option.

    Raises:
        ValueError: the first one that is not right; the message says which and what is allowed.
    """
    for is_right, name, got, allowed in options:
        if not is_right:
            raise ValueError(f"{corpus}: {name} is {got}; allowed: {allowed}")
