"""Rows of a fitted table that come as dicts, or in a table of another library."""

import functools
from typing import Any, cast

import numpy as np
import pandas as pd

from ..utils._frames import columns_of, eager, is_foreign, table_names
from ..utils._typing import Method
from ._names import compare_names

__all__ = [
    "cells_of_dicts",
    "eager_as_fitted",
    "frame_of_dicts",
    "is_dicts",
    "kept_columns",
    "objects",
    "takes_rows",
]


def eager_as_fitted(X, estimator, fitted):
    """`eager`, refusing other columns than those of ``fit`` before a row is collected."""
    return eager(X, lambda names: compare_names(estimator, names, fitted))


def kept_columns(X, estimator, fitted, support):
    """The columns of a table of another library that a selector keeps, of which no others are
    collected; None of tables that are read as they are.
    """
    if not is_foreign(X):
        return None
    compare_names(estimator, table_names(X), fitted)
    return columns_of(X, [fitted[i] for i in np.flatnonzero(support)])


def is_dicts(X):
    """Whether rows come as dicts: one of them, or a list of them. One kind of sparse matrix is a
    dict as well, but has a shape.
    """
    return (isinstance(X, dict) and not hasattr(X, "shape")) or (
        isinstance(X, list | tuple) and len(X) > 0 and isinstance(X[0], dict)
    )


def cells_of_dicts(X, fitted, estimator):
    """Rows that come as dicts, column by column.

    A key that is not there is a missing value; a key that is no column is refused, since it may be
    a column misspelt, which would go missing in silence.

    Parameters
    ----------
    X : dict, or list of dict
    fitted : list or None
        Names of the columns in ``fit``.
    estimator : estimator
        For messages.

    Returns
    -------
    list of list
        Cells by column, of any types; None where missing.

    Raises
    ------
    TypeError
        If some rows are no dicts.
    ValueError
        For keys that are no columns, a row without any column, and columns that had no names.
    """
    rows, cls = [X] if isinstance(X, dict) else X, type(estimator).__name__
    if fitted is None:
        raise ValueError(
            f"X holds rows as dicts, and {cls} was fitted on columns without names; give lists."
        )
    known = set(fitted)
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TypeError(f"X holds rows as dicts, but row {at} is of type {type(row).__name__}.")
        if not row.keys() <= known:
            new = [key for key in row if key not in known]
            missing = [name for name in fitted if name not in row]
            raise ValueError(
                f"Row {at} has keys that are no columns of the table that {cls} was fitted on: "
                f"{new[:10]}" + (f"; it lacks {missing[:10]}." if missing else ".")
            )
        if not row:
            raise ValueError(
                f"Row {at} is an empty dict; give one column at least of {fitted[:10]}."
            )
    return [[row.get(name) for row in rows] for name in fitted]


def frame_of_dicts(X, fitted, estimator):
    """Rows that come as dicts as a DataFrame of objects, so that no cell changes its type."""
    cells = cells_of_dicts(X, fitted, estimator)
    columns = {i: objects(column) for i, column in enumerate(cells)}
    return pd.DataFrame(columns).set_axis(fitted, axis=1)


def objects(cells):
    """A list of cells as an object array (n_cells,); cells may be lists."""
    return np.fromiter(cells, object, len(cells))


def takes_rows(method: Method) -> Method:
    """Decorate a method of a fitted transformer: the same, and rows may come as dicts.

    The transformer's ``_names`` are the columns of ``fit``."""

    @functools.wraps(method)
    def with_rows(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        fitted = getattr(self, "_names", None)
        if is_dicts(X) and "n_features_in_" in vars(self):
            X = frame_of_dicts(X, fitted, self)
        return method(self, eager_as_fitted(X, self, fitted), *args, **kwargs)

    return cast(Method, with_rows)
