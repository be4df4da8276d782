"""Tables in which some cells are replaced, for asking a fitted model about single columns."""

import numpy as np
import pandas as pd

GONE = -1  # source row of a cell that is made missing


def as_pandas_or_array(X):
    """A table in a form whose cells can be replaced: a DataFrame or a 2-D array, the given one if
    it is one already.
    """
    if isinstance(X, pd.DataFrame | np.ndarray):
        return X
    if hasattr(X, "columns") and hasattr(X, "to_pandas"):  # polars, pyarrow
        return X.to_pandas()
    array = np.asarray(X)
    # An array of [[1, "a"]] would hold text only; as objects, cells keep their types.
    return np.array([list(row) for row in X], dtype=object) if array.dtype.kind in "US" else array


def take_rows(X, rows):
    """Rows of a DataFrame (index 0, 1, ...) or an array."""
    return X.iloc[rows].reset_index(drop=True) if isinstance(X, pd.DataFrame) else X[rows]


def perturbed(X, source):
    """A table whose cell (i, j) is that of column j in row ``source[i, j]`` of X, or missing where
    that is `GONE`.

    Parameters
    ----------
    X : DataFrame or ndarray of shape (n_rows, n_columns)
    source : int ndarray of shape (n_new_rows, n_columns)

    Returns
    -------
    DataFrame or ndarray
        With the types of X; columns of integers or booleans become floats or objects if some cell
        is made missing.
    """
    if isinstance(X, pd.DataFrame):
        columns = (column.reset_index(drop=True) for _, column in X.items())
        new = [column.reindex(rows).array for column, rows in zip(columns, source.T, strict=True)]
        return pd.DataFrame(dict(enumerate(new)), copy=False).set_axis(X.columns, axis=1)
    new = X[source, np.arange(X.shape[1])]
    gone = source == GONE
    if gone.any():
        if X.dtype.kind in "biu":
            new = new.astype(np.float64)
        elif X.dtype.kind in "US":
            new = new.astype(object)
        new[gone] = np.nan if new.dtype.kind in "fc" else None
    return new


def typical_rows(X):
    """For each column a row with its most frequent value; of numbers with fractions, with their
    median.

    Returns
    -------
    int ndarray of shape (n_columns,)
        0 for columns without any value.
    """
    rows = []
    columns = X.items() if isinstance(X, pd.DataFrame) else enumerate(X.T)
    for _, column in columns:
        rows.append(
            _typical_row(
                pd.Series(np.asarray(column) if isinstance(X, np.ndarray) else column.array)
            )
        )
    return np.array(rows)


def _typical_row(column):
    if column.dtype.kind == "f":
        present = column.dropna()
        if not len(present):
            return 0
        return int(present.sort_values(kind="stable").index[len(present) // 2])
    try:
        codes = pd.factorize(column)[0]
    except TypeError:  # cells that are lists
        return 0
    if not (codes >= 0).any():
        return 0
    return int(np.argmax(codes == np.bincount(codes[codes >= 0]).argmax()))
