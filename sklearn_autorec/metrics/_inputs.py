"""Arrays of labels, scores, weights and groups, as all metrics read them; and what a score is
where these do not define it.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from ..utils._typing import Array, ArrayLike, Column, Floats


def read_scores(name: str, values: ArrayLike) -> Array:
    """One finite number a row, float64 (n_rows,)."""
    values = np.asarray(values)
    if values.ndim == 2 and values.shape[1] != 1:
        raise ValueError(
            f"{name} must have one number a row, got an array of shape {values.shape}; of "
            f"predict_proba take the column of the positive class, [:, 1]."
        )
    return check_array(
        values.reshape(len(values), -1), dtype=np.float64, input_name=name, ensure_min_samples=1
    )[:, 0]


def read_probabilities(values: ArrayLike) -> Array:
    """Probabilities of the positive class, float64 (n_rows,)."""
    values = read_scores("y_prob", values)
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise ValueError(
            f"y_prob must be probabilities in [0, 1], got {values[outside][0]} in row "
            f"{int(np.argmax(outside))}."
        )
    return values


def read_labels(y_true: ArrayLike, pos_label: Any) -> Array:
    """Which rows are of the positive class, bool (n_rows,)."""
    y_true = column_or_1d(y_true)
    if pd.isna(y_true).any():
        raise ValueError("y_true has missing values.")
    labels = np.unique(y_true)
    if len(labels) > 2:
        raise ValueError(f"y_true must have two classes, got {len(labels)}: {labels[:5]} ...")
    if pos_label is None:
        if not set(labels.tolist()) <= {0, 1} and not set(labels.tolist()) <= {-1, 1}:
            raise ValueError(
                f"y_true takes the values {labels.tolist()}: say by pos_label which of them is the "
                f"positive class."
            )
        pos_label = 1
    elif pos_label not in labels.tolist() and len(labels) == 2:
        raise ValueError(f"pos_label={pos_label!r} is not in y_true, which has {labels.tolist()}.")
    return y_true == pos_label


def read_relevance(y_true: ArrayLike) -> Array:
    """How relevant each row is: numbers of at least 0, float64 (n_rows,)."""
    relevance = read_scores("y_true", y_true)
    if (relevance < 0).any():
        raise ValueError(f"y_true must not be negative, got {relevance.min()}.")
    return relevance


def read_weights(sample_weight: Column, n_rows: int) -> Floats:
    """Weights of the rows, float64 (n_rows,); ones where there are none."""
    if sample_weight is None:
        return np.ones(n_rows)
    weight = read_scores("sample_weight", sample_weight)
    check_consistent_length(np.empty(n_rows), weight)
    if (weight < 0).any():
        raise ValueError(f"sample_weight must not be negative, got {weight.min()}.")
    if not weight.any():
        raise ValueError("sample_weight has no weight above 0.")
    return weight


def read_groups(groups: Any, n_rows: int) -> tuple[Array, Array]:
    """Code of the group of each row, and the labels of the groups.

    Returns
    -------
    codes : int64 ndarray of shape (n_rows,)
    labels : ndarray of shape (n_groups,)
        In sorted order where they can be sorted, else in that of their first row.
    """
    if groups is None:
        raise ValueError("groups must be given: a label, such as the user, for every row.")
    groups = groups if isinstance(groups, pd.Series) else pd.Series(list(groups), dtype=None)
    if len(groups) != n_rows:
        raise ValueError(f"groups has {len(groups)} labels for {n_rows} rows.")
    missing = groups.isna().to_numpy()
    if missing.any():
        raise ValueError(
            f"groups has {int(missing.sum())} missing labels, the first in row "
            f"{int(np.argmax(missing))}; leave these rows out or give them a label."
        )
    try:
        codes, labels = pd.factorize(groups, sort=True)
    except TypeError:
        codes, labels = pd.factorize(groups)
    return codes.astype(np.int64), np.asarray(labels)


def undefined(reason: str) -> float:
    """NaN, with a warning that says why; to be called by the metric itself."""
    warnings.warn(reason, UndefinedMetricWarning, stacklevel=3)
    return float("nan")
