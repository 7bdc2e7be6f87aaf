"""Ranges that the options of a config must lie in."""

__all__ = ["check_pair", "check_range"]


def check_range(name: str, key: str, value: float, low: float, high: float) -> None:
    """Raise ValueError where a value is not between `low` and `high`, both allowed."""
    if not low <= value <= high:
        raise ValueError(f"{name}: {key} = {value}, must lie in [{low}, {high}]")


def check_pair(name: str, key: str, pair: tuple[float, float], low: float, high: float) -> None:
    """Raise ValueError where two values are not in order, or not between `low` and `high`."""
    if not low <= pair[0] <= pair[1] <= high:
        raise ValueError(
            f"{name}: {key} = {list(pair)}, must be least and greatest, both in [{low}, {high}]"
        )
