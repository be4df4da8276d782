"""The target as numbers, for bins that go by it."""

import numpy as np
import pandas as pd

MAX_CLASSES = 100  # labels that are no numbers


def targets_of(y, n_rows, labels, counters):
    """Targets and their squares side by side, float64 (n_rows, 2 * n_targets).

    Parameters
    ----------
    y : array-like of shape (n_rows,) or (n_rows, n_targets), or None
    n_rows : int
    labels : bool
        Whether y may hold labels, of which each becomes a target: over chunks they are not known.
    counters : list
        Of the chunks before, whose number of targets must be the same.

    Raises
    ------
    ValueError
        If there is no target, or it does not fit.
    """
    if y is None:
        raise ValueError(
            'numeric_bins="target" needs a target: y=None was given to fit or partial_fit.'
        )
    values = y.to_numpy() if hasattr(y, "to_numpy") else np.asarray(y)
    if values.ndim not in (1, 2) or len(values) != n_rows:
        raise ValueError(
            f"y must have shape ({n_rows},) or ({n_rows}, n_targets), got {values.shape}."
        )
    if values.dtype.kind not in "biuf":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError):
            values = _indicators(values, labels)
    values = values.astype(np.float64).reshape(n_rows, -1)
    if not np.isfinite(values).all():
        raise ValueError('numeric_bins="target" needs a y without missing or infinite values.')
    for counter in counters:
        known = getattr(counter, "sums", None)
        if known is not None and known.shape[1] != 2 * values.shape[1]:
            raise ValueError(
                f"y has {values.shape[1]} target(s), the chunks before had {known.shape[1] // 2}."
            )
    return np.hstack([values, values**2])


def _indicators(values, labels):
    if not labels or values.ndim > 1:
        raise ValueError(
            f'numeric_bins="target": y must be numbers in partial_fit, got {values.ravel()[0]!r}; '
            f"give 0 and 1, or one "
            "column for each class."
        )
    codes, classes = pd.factorize(values)
    if len(classes) > MAX_CLASSES or (codes < 0).any():
        raise ValueError(
            f'numeric_bins="target": y must be numbers or at most {MAX_CLASSES} labels, none of '
            f"them missing, got "
            f"{len(classes)} different ones."
        )
    return codes[:, None] == np.arange(1 if len(classes) == 2 else len(classes))
