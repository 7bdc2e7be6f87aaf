"""Confidence intervals by bootstrap: how far a number moves when other clips had been drawn."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
_RESAMPLES = 1000
_NUMBERS_AT_ONCE = 1 << 22


def bootstrap(
    values: npt.ArrayLike,
    statistic: Callable[..., npt.NDArray[np.float64]] = np.mean,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile interval of a statistic (Efron 1979), by resampling the values.

    Args:
        values: [N], one a clip, a draw or a fold.
        statistic: takes an array and `axis`: np.mean, np.median.
        seed: of the resampling: the same values give the same interval.

    Returns:
        Low and high; the statistic itself, twice, where there is but one value.
    """
    from scipy.stats import bootstrap as resample

    array = np.asarray(values, float)
    if len(array) < 2 or (array == array[0]).all():
        only = float(statistic(array, axis=0))
        return only, only
    found = resample(
        (array,),
        statistic,
        n_resamples=_RESAMPLES,
        batch=max(1, _NUMBERS_AT_ONCE // len(array)),
        method="percentile",
        confidence_level=LEVEL,
        rng=np.random.default_rng(seed),
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)
