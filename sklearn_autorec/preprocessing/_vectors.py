"""Columns of dense vectors: reading, standardising place by place, and telling them from lists of
ids.
"""

import numpy as np
import pandas as pd

from ._columns import as_arrow, is_arrow_list, is_missing, shown

SAMPLED_CELLS = 10_000  # that are looked at to tell vectors from lists of ids


def looks_like_vectors(column):
    """Whether the cells of a column are vectors: lists, tuples or arrays of one length of two or
    more, of floats of which one at least is not whole.

    Whole floats may be ids that a gap made floats, and integers are ids. Of long columns
    `SAMPLED_CELLS` cells at equal distances are looked at.

    Parameters
    ----------
    column : Series or ndarray (n_rows,)

    Returns
    -------
    bool
    """
    if is_arrow_list(column.dtype):
        value_type = str(column.dtype.pyarrow_dtype.value_type)
        if value_type not in ("halffloat", "float", "double"):
            return False
    step = -(-len(column) // SAMPLED_CELLS)
    column = column.iloc[::step] if isinstance(column, pd.Series) else column[::step]
    cells = [cell for cell in np.asarray(column, dtype=object) if not is_missing(cell)]
    if not cells or not all(isinstance(cell, list | tuple | np.ndarray) for cell in cells):
        return False
    lengths = {np.shape(cell) if isinstance(cell, np.ndarray) else (len(cell),) for cell in cells}
    if len(lengths) > 1 or len(next(iter(lengths))) != 1 or next(iter(lengths))[0] < 2:
        return False
    if not all(_holds_floats(cell) for cell in cells):
        return False
    return any(_has_fractions(cell) for cell in cells)


def _holds_floats(cell):
    if isinstance(cell, np.ndarray) and cell.dtype.kind != "O":
        return cell.dtype.kind == "f"
    return all(isinstance(v, float | np.floating) or v is None for v in cell)


def _has_fractions(cell):
    values = np.asarray(cell, dtype=np.float64)
    values = values[np.isfinite(values)]
    return bool((values != np.floor(values)).any())


def vector_length(column, name):
    """Length of the vectors of a column: that of the first that is not missing.

    Raises
    ------
    ValueError
        If there is none, or it is no vector of numbers.
    """
    for cell in np.asarray(column, dtype=object):
        if not _is_missing(cell):
            length = len(_vector(cell, name))
            if length == 0:
                raise ValueError(
                    f"Column {name!r} is a column of vectors, but its first holds no number "
                    f"(length 0)."
                )
            return length
    raise ValueError(
        f"Column {name!r} is a column of vectors, but all its cells are missing, so that their "
        f"length is not known."
    )


def vector_values(column, name, length):
    """The vectors of a column as float64 (n_rows, length); NaN where a vector, or one of its
    numbers, is missing.

    Parameters
    ----------
    column : Series, ndarray or list
        Cells are lists, tuples or arrays of numbers; None, NaN and "" are missing vectors.
    name : str
        Of the column, for messages.
    length : int
        Of every vector.

    Raises
    ------
    ValueError
        For vectors of another length, cells that are no vectors of numbers, infinity, and numbers
        beyond float32; the message names the column.
    """
    if isinstance(column, pd.Series) and is_arrow_list(column.dtype):
        found = _arrow_vectors(column, length)
        if found is not None:
            return _checked(found, name)
    cells = column if isinstance(column, list) else np.asarray(column, dtype=object).tolist()
    present = [k for k, cell in enumerate(cells) if not _is_missing(cell)]
    out = np.full((len(cells), length), np.nan)
    if present:
        out[present] = _stacked([cells[k] for k in present], present, name, length)
    return _checked(out, name)


def _stacked(cells, rows, name, length):
    """Vectors that are not missing, float64 (n, length)."""
    if {type(cell) for cell in cells} <= {list, tuple, np.ndarray}:
        try:
            found = np.array(cells)
        except ValueError:  # of several lengths
            found = None
        if found is not None and found.shape == (len(cells), length) and found.dtype.kind in "fiub":
            return found.astype(np.float64)
    out = np.empty((len(cells), length))
    for row, k, cell in zip(out, rows, cells, strict=True):
        values = _vector(cell, name)
        if len(values) != length:
            raise ValueError(
                f"Column {name!r} is a column of vectors of length {length}, but row {k} has one "
                f"of length {len(values)}."
            )
        row[:] = values
    return out


def _arrow_vectors(column, length):
    """As `vector_values`, straight from arrow memory; None for what only the general path reads."""
    import pyarrow as pa
    import pyarrow.compute as pc  # a column of arrow lists is here, so pyarrow is

    lists = as_arrow(column)
    lengths = pc.list_value_length(lists)
    value_type = lists.type.value_type
    if not (pa.types.is_floating(value_type) or pa.types.is_integer(value_type)):
        return None
    lengths = pc.fill_null(lengths, -1).to_numpy()
    present = pc.is_valid(lists).to_numpy()
    if (lengths[present] != length).any():
        return None
    values = pc.list_flatten(lists.filter(pc.is_valid(lists))).cast(pa.float64())
    out = np.full((len(lengths), length), np.nan)
    out[present] = values.to_numpy(zero_copy_only=False).reshape(-1, length)
    return out


def _is_missing(cell):
    return is_missing(cell) or (isinstance(cell, str) and cell == "")


def _vector(cell, name):
    """One cell as float64 (length,)."""
    if isinstance(cell, list | tuple | np.ndarray):
        plain = np.asarray(cell, dtype=object)
        if plain.ndim == 1 and not any(isinstance(v, str | bytes | complex) for v in plain):
            try:
                return np.array([np.nan if is_missing(v) else float(v) for v in plain])
            except (TypeError, ValueError, OverflowError):
                pass
    raise ValueError(
        f"Column {name!r} is a column of vectors: its cells must be lists or arrays of numbers (or "
        f"missing), got {shown(cell)}."
    )


def _checked(values, name):
    if (np.abs(values) > np.finfo(np.float32).max).any():
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float32') in a vector of "
            f"column {name!r}."
        )
    return values


class VectorSummary:
    """Mean and variance of every place of the vectors of a column, mergeable over chunks.

    What chunks give equals what all rows give up to rounding. Numbers that are missing within a
    vector do not count.

    Parameters
    ----------
    length : int
    """

    def __init__(self, length):
        self.n = np.zeros(length)
        self.mean = np.zeros(length)
        self.squares = np.zeros(length)

    def add(self, values, weight=None):
        """Count one chunk, float64 (n_rows, length) with NaN where missing; rows may have
        weights.
        """
        there = ~np.isnan(values)
        own = there.astype(np.float64) if weight is None else there * weight[:, None]
        n = own.sum(0)
        safe = np.maximum(n, np.finfo(np.float64).tiny)
        x = np.where(there, values, 0.0)
        mean = (own * x).sum(0) / safe
        squares = (own * (x - mean) ** 2).sum(0)
        total = self.n + n
        share = np.divide(n, total, out=np.zeros_like(n), where=total > 0)
        gap = mean - self.mean
        self.squares = self.squares + squares + gap**2 * self.n * share
        self.mean = self.mean + gap * share
        self.n = total

    def scaler(self):
        """The fitted scaler of the column."""
        variance = np.divide(self.squares, self.n, out=np.zeros_like(self.n), where=self.n > 0)
        scale = np.sqrt(variance)
        # A place that does not vary (but for rounding) is 0, as constant numbers are.
        constant = scale <= 1e-12 * np.maximum(np.abs(self.mean), 1e-300)
        return VectorScaler(self.mean, np.where(constant, 1.0, scale), constant)


class VectorScaler:
    """Vectors to mean 0 and variance 1, place by place.

    Parameters
    ----------
    mean, scale : float64 ndarray (length,)
    constant : bool ndarray (length,)
        Places that did not vary, which are 0.
    """

    def __init__(self, mean, scale, constant):
        self.mean, self.scale, self.constant = mean, scale, constant

    def __len__(self):
        return len(self.mean)

    def transform(self, values):
        """Vectors (n_rows, length) as float64 (n_rows, length + 1): standardised, 0 where a number
        is missing, and last 1 where the whole vector is.
        """
        out = np.empty((len(values), len(self.mean) + 1))
        there = ~np.isnan(values)
        out[:, :-1] = np.where(there & ~self.constant, (values - self.mean) / self.scale, 0.0)
        out[:, -1] = ~there.any(1)
        return out.clip(-np.finfo(np.float32).max, np.finfo(np.float32).max)
