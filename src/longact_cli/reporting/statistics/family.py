"""Many tests at once: Holm's correction over a declared family."""

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return p-values after Holm's correction, in the order given; NaN stays and is not counted.

    Source: Holm 1979, https://www.jstor.org/stable/4615733; equal to statsmodels'
    `multipletests(..., method="holm")`.
    """
    values = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    ordered = known[np.argsort(values[known], kind="stable")]
    steps = values[ordered] * np.arange(len(ordered), 0, -1)
    values[ordered] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return tuple(values.tolist())
