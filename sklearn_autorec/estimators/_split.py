"""Which rows of a fit are trained on, and which judge."""

import dataclasses

import numpy as np
from sklearn.model_selection import train_test_split

from .._ensemble._order import order_matters
from ..engine._group_parts import group_parts, newest_rows
from ._settings import is_default

__all__ = ["Split", "split_rows"]

EARLY_STOPPING_ROWS = 10_000  # early_stopping="auto" needs so many with a network of the user's own
DEFAULT_STOPPING_ROWS = 200  # and so many with network="auto"
FOLDED_ROWS = 5_000  # fewer are all held out in turn then
N_FOLDS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Which rows are trained on and which judge.

    Parameters
    ----------
    kept : Rows
        Which the network (the first of several) is trained on.
    held_out : Rows or None
        Which say when to stop; None where nothing does, or where all rows do in turn.
    validation : Rows or None
        ``held_out``, if they came from the user and are never trained on.
    parts : int ndarray of shape (n_rows,) or None
        Number of the part in which each row is held out, -1 where never; None where the user gave
        rows, or none are held out.
    n_parts : int
    refit : bool
        Whether a network is trained without each part, for outputs and a number of epochs, and then
        one on all rows.
    """

    kept: object
    held_out: object = None
    validation: object = None
    parts: np.ndarray | None = None
    n_parts: int = 0
    refit: bool = False


def split_rows(estimator, rows, validation, methods, companions, seed):
    """Training rows and those that judge.

    Searched parts that are not trained again have seen the rows of their search, so that rows that
    judge must be held out of that for good. Of groups of rows, each is in one part, but where the
    last rows judge because the user says so; of times, the newest groups judge.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
        Whose parameters say whether rows judge, and which.
    rows : Rows
    validation : Rows or None
        Those of the user.
    methods : list of SearchMethod
        Which search before the training.
    companions : list of str
        What is wanted beside the network.
    seed : int

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If ``validation_fraction`` leaves no rows on one side, or there is a single group or time.
    """
    untrained = [method for method in methods if method.retrain == "none"]
    if untrained and len(untrained) == len(methods) and not companions:
        return Split(rows)  # nothing that rows could judge
    wanted, n = estimator.early_stopping, len(rows)
    if wanted == "auto":
        least = DEFAULT_STOPPING_ROWS if is_default(estimator.network) else EARLY_STOPPING_ROWS
        wanted = n >= least or validation is not None
    if not wanted:
        return Split(rows)
    if validation is not None:
        return Split(rows, validation, validation)
    n_groups = n if rows.groups is None else len(np.unique(rows.groups))
    ordered = estimator.validation in ("last", "time")
    if n_groups == 1 < n and not ordered:
        if estimator.early_stopping == "auto":
            return Split(rows)  # a part of the group would not tell how others fare
        raise ValueError(
            "groups has the same label in all rows, so that none can be held out for early "
            "stopping; set early_stopping=False, or give X_val and y_val."
        )
    if (
        not untrained
        and is_default(estimator.network)
        and n < FOLDED_ROWS
        and estimator.early_stopping == "auto"
        and not ordered
    ):
        n_parts = min(N_FOLDS, n_groups)
        return Split(rows, None, None, _folds(rows, n_parts, seed), n_parts, refit=True)
    newest = _newest(estimator, rows, seed)
    if newest is not None:
        parts = np.where(newest, 0, -1)
        if untrained:
            kept, out = np.flatnonzero(parts != 0), np.flatnonzero(parts == 0)
            return Split(rows.take(kept), rows.take(out), None, parts, 1)
        # What is newest is also the most like what will come: in the end it is trained on, too.
        return Split(rows, None, None, parts, 1, refit=True)
    kept, out = _random_part(rows, estimator.validation_fraction, seed)
    parts = np.full(n, -1)
    parts[out] = 0
    # In the order of the table, as all who look at the rows of a part see them.
    return Split(rows.take(kept), rows.take(np.flatnonzero(parts == 0)), None, parts, 1)


def _folds(rows, n_parts, seed):
    """Number of the part of each row; all rows are in one, and each class spreads evenly."""
    random, stratify = np.random.RandomState(seed), rows.target.stratify(rows.y)
    if rows.groups is not None:
        return group_parts(rows.groups, [1 / n_parts] * n_parts, random, stratify)
    order = random.permutation(len(rows))
    if stratify is not None:
        order = order[np.argsort(stratify[order], kind="stable")]
    parts = np.empty(len(rows), np.int64)
    parts[order] = np.arange(len(rows)) % n_parts
    return parts


def _newest(estimator, rows, seed):
    """Which rows are held out as the newest, bool (n_rows,); None where rows (or groups of them)
    are drawn at random.
    """
    if estimator.validation == "time":
        newest = newest_rows(rows.times, estimator.validation_fraction, rows.groups)
        if newest is None:
            raise ValueError(
                f"time_column={estimator.time_column!r} holds the same time for all rows or groups "
                f"of them, so that none are newer; choose another column, another validation, or "
                f"early_stopping=False."
            )
        return newest
    if not _judged_by_last(estimator, rows, seed):
        return None
    n = len(rows)
    return np.arange(n) >= n - max(int(estimator.validation_fraction * n), 1)


def _judged_by_last(estimator, rows, seed):
    """Whether the last rows are held out, not rows (or groups of them) drawn at random."""
    if (
        estimator.validation != "auto"
        or rows.groups is not None
        or rows.target.n_outputs > 1
        or not is_default(estimator.network)
    ):
        return estimator.validation == "last"
    return order_matters(
        rows.table,
        rows.encoder.n_ids_,
        rows.y.astype(np.float64),
        rows.target.is_class,
        np.random.RandomState(seed),
    )


def _random_part(rows, fraction, seed):
    """Positions of the rows that are kept and of those held out, the latter of so large a share."""
    positions = np.arange(len(rows))
    stratify = rows.target.stratify(rows.y)
    if rows.groups is not None:
        random = np.random.RandomState(seed)
        part = group_parts(rows.groups, (1 - fraction, fraction), random, stratify)
        return positions[part == 0], positions[part == 1]
    options = {"test_size": fraction, "random_state": seed, "shuffle": True}
    try:
        return train_test_split(positions, stratify=stratify, **options)
    except ValueError as error:
        if stratify is None:
            raise ValueError(
                f"validation_fraction={fraction} leaves no rows to train or to validate on "
                f"({len(positions)} rows): {error}"
            ) from error
    # A class with a single row cannot be stratified.
    return train_test_split(positions, **options)
