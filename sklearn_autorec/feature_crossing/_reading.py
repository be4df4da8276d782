"""Columns of a table as ids, numeric ones in bins; what users say about columns as positions."""

import warnings
from itertools import pairwise
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import clone

from ..exceptions import SuspiciousColumnWarning
from ..preprocessing import FieldEncoder
from ..preprocessing._columns import read_columns
from ..preprocessing._names import check_columns, find_column
from ..preprocessing._numeric import GRIDS
from ..preprocessing._vocabulary import FIRST, MISSING
from ..utils._frames import is_arrow_frame

HALF_WIDTH = np.sqrt(3)  # quantile scores lie in [-sqrt(3), sqrt(3)], ranks in [0, 1]
N_QUANTILES = 1000  # so that values of skewed columns keep apart as float32 scores


def position(name, names, labels, parameter):
    """Position of a column given by name, or by position where names are no integers."""
    found = find_column(name, names, labels)
    if found is not None:
        return found
    known = f"one of the columns {labels}" if names is not None else "a column"
    raise ValueError(
        f"{parameter} has {name!r}, which is neither {known} nor a position below {len(labels)} "
        f"feature(s)."
    )


def resolve_crosses(crosses, names, labels):
    """Crosses as tuples of positions in ascending order; refuses what is none, and repetitions."""
    found = []
    for cross in crosses:
        if isinstance(cross, str) or not isinstance(cross, tuple | list) or len(cross) < 2:
            raise ValueError(f"crosses must hold tuples of two or more columns, got {cross!r}.")
        columns = tuple(sorted(position(name, names, labels, "crosses") for name in cross))
        if len(set(columns)) < len(columns):
            raise ValueError(f"crosses has {cross!r}, which names a column twice.")
        if columns in found:
            raise ValueError(
                f"crosses has {cross!r} more than once (the order of columns does not matter)."
            )
        found.append(columns)
    return found


def resolve_bins(n_bins, names, labels, default=10):
    """Number of bins of each column, were it numeric: list of int."""
    if not isinstance(n_bins, dict):
        return [n_bins] * len(labels)
    bins = [default] * len(labels)
    for name, number in n_bins.items():
        if not isinstance(number, Integral) or isinstance(number, bool) or not 1 <= number <= 2**20:
            raise ValueError(
                f"n_bins must be an int in [1, {2**20}] for each column, got {number!r} for "
                f"{name!r}."
            )
        bins[position(name, names, labels, "n_bins")] = int(number)
    return bins


def default_encoder(encoder=None, parameter=None):
    """What ``encoder=None`` stands for: one with fine quantiles."""
    return FieldEncoder(n_quantiles=N_QUANTILES, time_features=None)


MAKERS = {"encoder": default_encoder}  # of components that are left out


def checked_encoder(encoder):
    """An encoder to fit: a clone of the given one, or the default."""
    if encoder is None:
        return default_encoder()
    if (
        not isinstance(encoder, FieldEncoder)
        or encoder.numeric not in GRIDS
        or encoder.numeric_bins != "quantile"
    ):
        raise ValueError(
            'encoder must be a FieldEncoder with numeric="rank" or "quantile" and '
            'numeric_bins="quantile", '
            f"got {encoder!r}."
        )
    if encoder.time_features not in ("auto", None):
        raise ValueError(
            f"encoder has time_features={encoder.time_features!r}, but columns are crossed as they "
            f"are, times by their age: give time_features=None, or columns of the hour, the "
            f"weekday and so on of their own."
        )
    return clone(encoder).set_params(time_features=None)


def warn_of_vectors(encoder, what):
    """Say, once, which columns of vectors are left out of something that has no place for them.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted.
    what : str
        Such as "The linear model".

    Warns
    -----
    SuspiciousColumnWarning
    """
    names = [name for name, kind in encoder.kinds_.items() if kind == "vector"]
    if names:
        warnings.warn(
            f"{what} leaves out the vectors of {names}: give each of their places a column of its "
            f"own, or drop these columns.",
            SuspiciousColumnWarning,
            stacklevel=3,
        )


def binned_columns(encoder):
    """Place among the numbers and position of each column to be cut into bins; one that is an id as
    well stays an id.
    """
    ids = set(encoder.categorical_.tolist())
    return [(j, i) for j, i in enumerate(encoder.numeric_.tolist()) if i not in ids]


def select(X, positions, names, n_columns):
    """The columns at some positions, in a table of the same kind."""
    if len(positions) == n_columns:
        return X
    if isinstance(X, pd.DataFrame):
        return X.iloc[:, positions]
    if is_arrow_frame(X):
        return X.select([names[i] for i in positions])
    if isinstance(X, list | tuple):
        return [[row[i] for i in positions] for row in X]
    return np.asarray(X)[:, positions]


def check_as_fitted(estimator, X, names):
    """Refuse a table without rows or without the columns of ``fit``, whose names these are."""
    if not (isinstance(X, pd.DataFrame) and X.columns.tolist() == names and len(X)):
        read_columns(X, estimator)
        check_columns(estimator, X, names)


def encode_as_fitted(transformer, X):
    """New rows as an `EncodedTable`: the columns that a transformer reads, by its encoder."""
    names = transformer._names
    check_as_fitted(transformer, X, names)
    return transformer.encoder_.encode(
        select(X, transformer._positions, names, transformer.n_features_in_)
    )


def bin_edges(values, counts, scaler, n_bins):
    """Scores between which a numeric column is cut, rising, at most ``n_bins - 1``.

    Bins have about equally many rows. A value with more rows than that has a bin of its own, and
    the others share the remaining bins: in a column that is 0 in nine rows of ten, the tenth is
    still told apart.

    Parameters
    ----------
    values, counts : ndarray of shape (n_distinct,)
        Distinct values, rising, and their training rows.
    scaler : NumericScaler
        Fitted, from values to scores.
    n_bins : int
    """
    if len(values) <= n_bins:
        new = np.ones(max(len(values) - 1, 0), bool)
    else:
        heavy = counts * n_bins > counts.sum()
        while True:
            light = np.where(heavy, 0, counts)
            # A heavy value may split the bin around it in two.
            n_light = max(n_bins - 2 * int(heavy.sum()), 1)
            group = np.floor((np.cumsum(light) - light / 2) * n_light / max(light.sum(), 1))
            new = (np.diff(group) != 0) | heavy[1:] | heavy[:-1]
            if new.sum() < n_bins or not heavy.any():
                break
            heavy[heavy] = counts[heavy] > counts[heavy].min()
    at = np.flatnonzero(new)
    edges = scaler.scale_values((values[at] + values[at + 1]) / 2)
    return np.unique(edges)  # values closer than rounding share a bin


def bins_of(scores, missing, edges):
    """int32 ids of scores (n_rows,): 0 missing, 2.. bins."""
    bins = np.searchsorted(edges, scores, side="right").astype(np.int32)
    bins += FIRST
    bins[missing] = MISSING
    return bins


def column_edges(encoder, positions, n_bins):
    """Edges of the bins of each numeric column, by position in the whole table, given the number of
    bins by position there.
    """
    found = {}
    for _, i in binned_columns(encoder):
        summary = encoder._counters[i]
        found[positions[i]] = bin_edges(
            summary.values, summary.counts, encoder._fields[i], n_bins[positions[i]]
        )
    return found


def column_ids(table, encoder, positions, edges):
    """Ids (n_rows,) of each column that is no sequence, by position in the whole table.

    Parameters
    ----------
    table : EncodedTable
    encoder : FieldEncoder
        Fitted on the columns at ``positions``.
    positions : list of int
    edges : dict of int to ndarray
        Of `column_edges`.
    """
    ids = {positions[i]: table.ids[:, j] for j, i in enumerate(encoder.categorical_)}
    m = len(encoder.numeric_)
    for j, i in binned_columns(encoder):
        at = positions[i]
        ids[at] = bins_of(table.numeric[:, j], table.numeric[:, m + j] > 0, edges[at])
    return ids


def column_sizes(encoder, positions, edges):
    """Number of ids of each column that is no sequence, by position; parameters as of
    `column_ids`.
    """
    sizes = dict(zip((positions[i] for i in encoder.categorical_), encoder.n_ids_, strict=True))
    return sizes | {i: FIRST + len(cuts) + 1 for i, cuts in edges.items()}


def bin_names(scaler, edges):
    """Names of the ids of a numeric column, object array: its bins are intervals in its own
    unit.
    """
    names = ["any"]
    if len(edges):
        cuts = [f"{x:.5g}" for x in np.interp(edges, scaler.score, scaler.grid)]
        names = [f"< {cuts[0]}", *(f"[{a}, {b})" for a, b in pairwise(cuts)), f">= {cuts[-1]}"]
    return np.array(["<missing>", "<unused>", *names], dtype=object)


def value_names(vocabulary):
    """Names of the ids of a categorical column or of the items of a sequence column, object
    array.
    """
    names = vocabulary.values(np.arange(vocabulary.n_ids))
    return np.array(["<missing>", *(str(name) for name in names[FIRST - 1 :])], dtype=object)


def append_columns(X, columns, append):
    """A polars or pyarrow table with further columns (dict of name to array), or of these alone."""
    if hasattr(X, "append_column"):
        X = X if append else X.select([])
        for name, values in columns.items():
            X = X.append_column(name, [values])
        return X
    return X.hstack(type(X)(columns)) if append else type(X)(columns)


def append_to_array(X, *blocks):
    """An array or a list of lists with further columns on the right, arrays (n_rows, n), as one
    array.
    """
    if not isinstance(X, np.ndarray):
        array = np.asarray(X)
        # An array of [[1, "a"]] would hold text only; as objects, cells keep their types.
        X = np.array([list(row) for row in X], dtype=object) if array.dtype.kind in "US" else array
    if X.dtype.kind in "US":
        X = X.astype(object)  # else numbers would become text
    return np.hstack([X, *blocks])


def append_block(X, block, names, append):
    """A table of the kind of X with a block (n_rows, n) of named columns on the right, or the block
    alone.
    """
    if isinstance(X, pd.DataFrame):
        new = pd.DataFrame(block, columns=names, index=X.index, copy=False)
        return pd.concat([X, new], axis=1) if append else new
    if is_arrow_frame(X):
        columns = np.ascontiguousarray(block.T)
        return append_columns(X, dict(zip(names, columns, strict=True)), append)
    return append_to_array(X, block) if append else block


def append_named(X, new, append):
    """A table and new columns of any types, by name; of arrays without names.

    Parameters
    ----------
    X : table or array
    new : dict of str to ndarray of shape (n_rows,)
    append : bool
        Whether the columns of X come first, or only the new ones.
    """
    if isinstance(X, pd.DataFrame):
        frame = pd.DataFrame(new, index=X.index, copy=False)
        return pd.concat([X, frame], axis=1) if append else frame
    if is_arrow_frame(X):
        return append_columns(X, new, append)
    return append_to_array(
        X if append else np.empty((len(X), 0)), *(column[:, None] for column in new.values())
    )
