"""What `TargetStatistics` reads of its target, its parameters and its time column."""

from itertools import combinations as subsets
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils.multiclass import type_of_target

from ...utils._sklearn import check_y, safe_indexing
from .._autocross._autocross import AutoCross
from .._reading import position, resolve_crosses
from ._statistics_keys import choose_keys

MOST_CLASSES = 100  # beyond, what looks like classes is rather a number
ALL_PAIRS = 45  # of ten columns: up to so many, crosses="auto" takes all pairs


def read_target(y, estimator, weights=None):
    """The target as float64 (n_rows,) or (n_rows, n_classes), its type and its classes (None for
    numbers).

    What it is and its classes are those of the rows with weight.
    """
    y = check_y(y, estimator)
    counted = y if weights is None or len(weights) != len(y) else y[weights > 0]
    kind = estimator.target_type
    if kind == "auto":
        kind = type_of_target(counted, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass", "continuous"):
            raise ValueError(f"y must be classes or numbers, got a target of type {kind!r}.")
    if kind == "continuous":
        return check_y(y, estimator, y_numeric=True).astype(np.float64), kind, None
    classes = np.unique(counted)
    n_classes, asked = len(classes), estimator.target_type
    if n_classes < 2 or n_classes > MOST_CLASSES or (asked == "binary" and n_classes > 2):
        allowed = "two classes" if asked == "binary" else f"2 to {MOST_CLASSES} classes"
        raise ValueError(
            f"y must have {allowed}, got {n_classes} class(es) in {len(counted)} sample(s). For "
            f"numbers give "
            'target_type="continuous".'
        )
    if n_classes == 2 and asked != "multiclass":
        return (y == classes[1]).astype(np.float64), "binary", classes
    return (y[:, None] == classes).astype(np.float64), "multiclass", classes


def centre_and_scale(numbers, weights):
    """Mean, and largest distance from it, of the rows with weight: statistics of what is left are
    exact in float32.
    """
    if weights is not None:
        numbers, weights = numbers[weights > 0], weights[weights > 0]
    centre = float(np.average(numbers, weights=weights))
    return centre, float(np.abs(numbers - centre).max()) or 1.0


def target_at_hand(y, estimator, weights, of_all):
    """The targets of the rows at hand, numbers centred and scaled; type, classes (or None), centre
    and scale. ``of_all``, a `BlockTargets`, knows them where there are other rows.
    """
    if of_all is not None:
        return of_all.read(y), of_all.kind, of_all.classes, of_all.centre, of_all.scale
    targets, kind, classes = read_target(y, estimator, weights)
    if classes is not None:
        return targets, kind, classes, 0.0, 1.0
    centre, scale = centre_and_scale(targets, weights)
    return (targets - centre) / scale, kind, classes, centre, scale


def given_keys(estimator, X, y, names, labels, at, n_bins, weights=None):
    """Columns and crosses that are known before the table is read (None: not yet), and bins."""
    columns, crosses = estimator.columns, []
    if columns is not None:
        columns = [position(name, names, labels, "columns") for name in list(columns)]
        if len(set(columns)) < len(columns):
            raise ValueError(f"columns names a column twice, got {list(estimator.columns)!r}.")
    if isinstance(estimator.crosses, AutoCross):
        if weights is not None and not weights.all():
            rows = np.flatnonzero(weights)
            X, y = safe_indexing(X, rows), np.asarray(y)[rows]
        search = clone(estimator.crosses).fit(X, y)
        crosses = resolve_crosses(search.crosses_, search.field_names_, search.field_names_)
        crosses = [cross for cross in crosses if at not in cross]
        for name, number in search.n_bins_.items():
            n_bins[labels.index(name)] = number
    elif estimator.crosses is None:
        crosses = []
    elif isinstance(estimator.crosses, str):
        crosses = None
    else:
        crosses = resolve_crosses(estimator.crosses, names, labels)
    for parameter, found in (
        ("columns", columns or []),
        ("crosses", [i for c in crosses or [] for i in c]),
    ):
        if at is not None and at in found:
            raise ValueError(
                f"{parameter} has {labels[at]!r}, the column of order, which cannot have "
                f"statistics."
            )
    return (columns, crosses), n_bins


def all_keys(
    estimator, given, labels, encoder, positions, ids, sizes, targets, weights, order, rng
):
    """All keys by position: columns, then crosses."""
    columns, crosses = given
    for parameter, found in (
        ("columns", columns or []),
        ("crosses", [i for c in crosses or [] for i in c]),
    ):
        for i in found:
            if i not in ids:
                raise ValueError(
                    f"{parameter} has {labels[i]!r}, a sequence column, which cannot have "
                    f"statistics."
                )
    categorical = [positions[i] for i in encoder.categorical_ if positions[i] in ids]
    if columns is None:
        columns = categorical or sorted(ids)
    if crosses is None:
        pairs = (
            list(subsets(categorical, 2))
            if len(categorical) * (len(categorical) - 1) // 2 <= ALL_PAIRS
            else []
        )
        fields = sorted(ids)
        found, _ = choose_keys(
            [ids[i] for i in fields],
            targets,
            weights,
            [sizes[i] for i in fields],
            logistic=estimator.classes_ is not None,
            smoothing=estimator.smoothing,
            order=order,
            rng=rng,
        )
        crosses = list(dict.fromkeys([*pairs, *(tuple(fields[i] for i in key) for key in found)]))
    return [*((i,) for i in columns), *crosses]


def ranks_of(column, label):
    """Ranks of times or numbers, equal for equal ones, int64 (n_rows,).

    Raises
    ------
    ValueError
        If cells are missing or are neither numbers nor times.
    """
    values = pd.Series(column)
    if values.dtype.kind == "O" and pd.api.types.infer_dtype(values) in ("date", "datetime"):
        values = pd.to_datetime(values)
    if not (pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values)):
        if not pd.api.types.is_timedelta64_dtype(values):
            try:
                values = pd.to_numeric(values)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"order={label!r} must be a column of numbers or times: {error}"
                ) from error
    if values.isna().any():
        raise ValueError(
            f"order={label!r} must have no missing cells, got {int(values.isna().sum())} of "
            f"{len(values)}."
        )
    return pd.factorize(values, sort=True)[0].astype(np.int64)


def folds_of(cv, X, y):
    """Fold of each row, int64 (n_rows,), of a splitter or an iterable of splits whose test rows are
    every row once.
    """
    folds = np.full(len(y), -1)
    times = np.zeros(len(y), np.int64)
    for k, (_, test) in enumerate(check_cv(cv).split(X, y)):
        rows = np.arange(len(y))[test]
        folds[rows] = k
        times[rows] += 1
    if (times != 1).any():
        raise ValueError(
            f"cv must hold out every row once, got {cv!r:.200}, which holds out "
            f"{int((times != 1).sum())} of "
            f"{len(y)} rows never or more than once."
        )
    return folds


def folds_are_drawn(cv, order, method):
    """Whether ``cv`` is a number of folds; refuses what is none, nor a splitter or splits."""
    if order is not None and method == "folds":
        raise ValueError(f'order={order!r} needs method="ordered", got method="folds".')
    drawn = isinstance(cv, Integral) and not isinstance(cv, bool)
    if cv is None or isinstance(cv, bool) or (drawn and cv < 2):
        raise ValueError(f"cv must be an int of at least 2, a splitter or splits, got {cv!r}.")
    return drawn


def sources_of(keys, positions, edges, encoder):
    """Of each used column: whether it is a number, its place among these, and its edges of bins."""
    place = {p: j for j, p in enumerate(positions)}
    categorical = {i: j for j, i in enumerate(encoder.categorical_.tolist())}
    numeric = {i: j for j, i in enumerate(encoder.numeric_.tolist())}
    return [
        (
            place[i] not in categorical,
            categorical.get(place[i], numeric.get(place[i])),
            edges.get(i),
        )
        for i in sorted({i for key in keys for i in key})
    ]
