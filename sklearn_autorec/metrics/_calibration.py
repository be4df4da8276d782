"""Whether predicted probabilities are as high as clicks are frequent."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss
from sklearn.utils import check_consistent_length

from ..utils._docs import takes_entries
from ..utils._typing import ArrayLike, Column, Floats
from ._inputs import read_groups, read_labels, read_probabilities, read_weights, undefined

STRATEGIES = ("quantile", "uniform")


def _read(
    y_true: ArrayLike, y_prob: ArrayLike, sample_weight: Column, pos_label: Any
) -> tuple[Floats, Floats, Floats]:
    probability = read_probabilities(y_prob)
    positive = read_labels(y_true, pos_label)
    check_consistent_length(positive, probability)
    return positive.astype(np.float64), probability, read_weights(sample_weight, len(positive))


def normalized_entropy(
    y_true: ArrayLike, y_prob: ArrayLike, *, sample_weight: Column = None, pos_label: Any = None
) -> float:
    """Log loss, divided by that of predicting the mean click rate for every row.

    Unlike the log loss itself it can be compared between tables of different click rates: 1 is
    as good as knowing the rate alone.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Labels of two classes.
    y_prob : array-like of shape (n_rows,)
        Probabilities of the positive class.
    sample_weight : array-like of shape (n_rows,), default=None
    pos_label : label, default=None
        The positive class; 1 if None.

    Returns
    -------
    float
        At least 0, the lower the better. NaN, with a warning, where all rows have one class.

    References
    ----------
    .. [1] He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014.
       https://doi.org/10.1145/2648584.2648589

    Examples
    --------
    >>> from sklearn_autorec.metrics import normalized_entropy
    >>> normalized_entropy([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
    1.0
    """
    positive, probability, weight = _read(y_true, y_prob, sample_weight, pos_label)
    rate = np.average(positive, weights=weight)
    if rate in (0.0, 1.0):
        return undefined("All rows have one class: the normalised entropy is not defined.")
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return float(log_loss(positive, probability, sample_weight=weight, labels=[0, 1]) / entropy)


@takes_entries(normalized_entropy)
def calibration_ratio(
    y_true: ArrayLike, y_prob: ArrayLike, *, sample_weight: Column = None, pos_label: Any = None
) -> float:
    """Predicted clicks for each click that happened.

    Parameters
    ----------
    {y_true to pos_label}

    Returns
    -------
    float
        1 if both are as many; above 1 too many are predicted. NaN, with a warning, without clicks.

    Examples
    --------
    >>> from sklearn_autorec.metrics import calibration_ratio
    >>> calibration_ratio([0, 1, 0, 1], [0.5, 0.75, 0.5, 0.75])
    1.25
    """
    positive, probability, weight = _read(y_true, y_prob, sample_weight, pos_label)
    clicks = positive @ weight
    if not clicks:
        return undefined("No row is of the positive class: the calibration ratio is not defined.")
    return float(probability @ weight / clicks)


@takes_entries(normalized_entropy)
def calibration_error(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
    sample_weight: Column = None,
    pos_label: Any = None,
) -> float:
    """Mean distance between predicted and true click rate over buckets of rows (ECE).

    Parameters
    ----------
    {y_true, y_prob}
    n_bins : int, default=10
        Buckets, at most: rows of equal probability are in one.
    strategy : {"quantile", "uniform"}, default="quantile"
        Whether buckets have equally many rows or are equally wide. Clicks are rare, so that with
        "uniform" nearly all rows may share the first bucket.
    {sample_weight, pos_label}

    Returns
    -------
    float
        In [0, 1]: how far the mean probability of a bucket lies from its click rate, weighed by its
        rows.

    Examples
    --------
    >>> from sklearn_autorec.metrics import calibration_error
    >>> calibration_error([0, 1, 1, 1], [0.5, 0.5, 0.9, 0.9], n_bins=2)
    0.05
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {STRATEGIES}, got {strategy!r}.")
    if not isinstance(n_bins, (int, np.integer)) or isinstance(n_bins, bool) or n_bins < 1:
        raise ValueError(f"n_bins must be an int of at least 1, got {n_bins!r}.")
    positive, probability, weight = _read(y_true, y_prob, sample_weight, pos_label)
    parts = np.linspace(0, 1, n_bins + 1)[1:-1]
    edges = np.quantile(probability, parts) if strategy == "quantile" else parts
    bucket = np.searchsorted(edges, probability, side="right")
    distance = np.bincount(bucket, weight * (probability - positive))
    return float(round(np.abs(distance).sum() / weight.sum(), 15))


@takes_entries(normalized_entropy)
def calibration_by_group(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    groups: ArrayLike,
    sample_weight: Column = None,
    pos_label: Any = None,
) -> pd.DataFrame:
    """Predicted and true click rate of each group, such as each value of a column.

    Parameters
    ----------
    {y_true, y_prob}
    groups : array-like of shape (n_rows,)
        Label of the group of each row.
    {sample_weight, pos_label}

    Returns
    -------
    DataFrame
        Indexed by group, the largest first. "n_rows"; "rate", of clicks; "predicted", the mean
        probability; "ratio", predicted clicks for each click (NaN without any); "error", predicted
        less true rate; "standard_error" of that, were the probabilities right: beyond two of them
        the group is hardly off by chance.

    Examples
    --------
    >>> from sklearn_autorec.metrics import calibration_by_group
    >>> table = calibration_by_group([0, 1, 1], [0.5, 0.5, 0.8], groups=["a", "a", "b"])
    >>> table[["n_rows", "rate", "predicted"]].to_dict("index")["a"]
    {'n_rows': 2, 'rate': 0.5, 'predicted': 0.5}
    """
    positive, probability, weight = _read(y_true, y_prob, sample_weight, pos_label)
    codes, labels = read_groups(groups, len(positive))
    n_rows, total = np.bincount(codes), np.bincount(codes, weight)
    clicks, predicted = (
        np.bincount(codes, weight * positive),
        np.bincount(codes, weight * probability),
    )
    variance = np.bincount(codes, weight**2 * probability * (1 - probability))
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "n_rows": n_rows,
            "rate": clicks / total,
            "predicted": predicted / total,
            "ratio": np.where(clicks > 0, predicted / clicks, np.nan),
            "error": (predicted - clicks) / total,
            "standard_error": np.sqrt(variance) / total,
        }
    index = pd.Index(labels, tupleize_cols=False, name="group")
    table = pd.DataFrame(columns, index=index)
    return table.iloc[np.argsort(-n_rows, kind="stable")]
