"""Tables of other libraries as those that are read here."""

import functools
from typing import Any, cast

import numpy as np
import pandas as pd

from ._typing import Method

__all__ = [
    "column_of",
    "columns_of",
    "eager",
    "is_arrow_frame",
    "is_foreign",
    "native",
    "table_names",
    "takes_frames",
]

# Tables of these libraries are read as they are, unless their rows are not there yet; data sets of
# files are refused by name where rows must be there.
_READ = ("sklearn_autorec", "pandas", "numpy", "pyarrow", "polars", "scipy", "builtins")


def is_arrow_frame(X):
    """Whether a table is read through arrow: of polars or pyarrow."""
    return hasattr(X, "columns") and hasattr(X, "__arrow_c_stream__")


def is_foreign(X):
    """Whether a table must be collected or converted before it is read."""
    return _foreign(X) is not None


def native(X):
    """A table without the wrapping of narwhals."""
    return X.to_native() if type(X).__module__.partition(".")[0] == "narwhals" else X


def eager(X, check=None):
    """A table whose rows are there: of pandas, polars or pyarrow, or X itself if it is none.

    Lazy tables (LazyFrames, relations of duckdb, dask) are collected, tables of other libraries
    that narwhals knows (modin, cuDF) converted.

    Parameters
    ----------
    X : table
    check : callable (list of names) or None
        Called with the names of the columns before any row of a lazy table is collected.

    Raises
    ------
    ImportError
        If narwhals is needed and not installed.
    """
    frame = _foreign(X)
    if frame is None:
        return X
    import narwhals as nw

    if check is not None:
        check(frame.collect_schema().names())
    return _collected(frame, nw)


def columns_of(X, names):
    """Some columns of a table, by name; of a lazy one no others are collected."""
    frame = _foreign(X)
    if frame is None:
        return X.select(names) if is_arrow_frame(X) and not hasattr(X, "iloc") else X[names]
    import narwhals as nw

    return _collected(frame.select(names), nw)


def column_of(X, name):
    """The cells of one column of a table, by name: a Series, or a list."""
    column = columns_of(X, [name])[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else column


def table_names(X):
    """Names of the columns of a table as a list, None of arrays and lists; no row is collected."""
    frame = _foreign(X)
    if frame is not None:
        return frame.collect_schema().names()
    if hasattr(X, "column_names"):  # pyarrow, where ``columns`` are the columns
        return list(X.column_names)
    return list(X.columns) if hasattr(X, "columns") else None


def _collected(frame, nw):
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    native = frame.to_native()
    return native if type(native).__module__.split(".")[0] in _READ else frame.to_pandas()


def _foreign(X):
    """A table of another library as narwhals has it, None where it is one that is read as it is, or
    no table.
    """
    if isinstance(X, pd.DataFrame | np.ndarray):
        return None
    library = type(X).__module__.partition(".")[0]
    if library in _READ and not (library == "polars" and hasattr(X, "collect")):
        return None
    if not (hasattr(X, "collect_schema") or hasattr(X, "columns")):
        return None
    try:
        import narwhals as nw
    except ImportError as error:
        raise ImportError(
            f"A {type(X).__module__}.{type(X).__name__} is read by narwhals, which is not "
            f'installed: pip install "sklearn-autorec[frames]"; or give a table of pandas, polars '
            f"or pyarrow."
        ) from error
    frame = nw.from_native(X, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame | nw.LazyFrame) else None


def takes_frames(method: Method) -> Method:
    """Decorate a method that fits: its first argument may be a table that `eager` reads."""

    @functools.wraps(method)
    def with_rows(self: Any, X: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, eager(X), *args, **kwargs)

    return cast(Method, with_rows)
