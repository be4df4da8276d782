"""FieldEncoder: raw columns to contiguous ids and numbers."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral, Real

import numpy as np
import pandas as pd
from joblib import cpu_count
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..exceptions import DataTypeDriftWarning, UnknownCategoryWarning
from ..utils._sklearn import Interval, StrOptions, validate_parameters
from ._columns import (
    CATEGORICAL,
    NUMERIC,
    SEQUENCE,
    column_kind,
    factorize,
    flatten_sequences,
    numeric_values,
    read_columns,
)
from ._numeric import NumericSummary
from ._table import EncodedTable
from ._vocabulary import KINDS, MISSING, ValueCounter

FEW_ROWS = 16  # up to so many rows, dictionary look-ups beat whole-column operations
THREAD_ROWS = 100_000  # from so many rows, columns are read in parallel
REPORT_ROWS = 100  # shares of unknown values are reported from so many rows


class FieldEncoder(TransformerMixin, BaseEstimator):
    """Encode the columns of a raw table as ids, scaled numbers and padded sequences of ids.

    It is both the first step of training and the serving path: a single row takes a fraction of a millisecond,
    whatever the number of categories.

    Parameters
    ----------
    categorical_features : "auto", array-like of names, indices or a mask, or None, default="auto"
        Columns whose values are ids. "auto" goes by dtype: strings, integers, booleans, categories and other objects
        are categorical, floating-point numbers and times are numeric. (pandas turns an integer column with
        missing values into floats; name such columns.) With anything but "auto" all other columns are numeric.
    sequence_features : "auto", array-like of names or indices, dict or None, default="auto"
        Columns whose cells hold several ids. "auto": columns with lists in their cells. A dict
        ``{column: separator}`` splits text cells, such as ``{"genres": "|"}``.
    min_frequency : int or float, default=1
        Values seen in fewer training cells (a float: in a smaller share of them) are rare and share the unknown id.
    max_categories : int or None, default=None
        Keep at most so many values of each column, the most frequent.
    numeric : {"quantile", "log_square", "standard"} or None, default="quantile"
        How numeric columns are scaled: by the share of training values below (clipped at the extremes), by
        sign(x) log(1 + |x|)^2, or not at all but for mean and variance; None leaves them.
    n_quantiles : int, default=100
        Points of the quantile scale.
    max_length : int, default=20
        Items of a sequence; the last ones are kept, since histories are in time order.
    hash_threshold : int or None, default=None
        Columns with more distinct values than this are hashed into ``n_hash_buckets`` ids and keep no vocabulary.
    n_hash_buckets : int, default=65536
        Ids of a hashed column.
    unknown_warning : float or None, default=0.5
        Warn if more than this share of a column (of 100 rows or more) was never seen in training.

    Attributes
    ----------
    categories_ : list of ndarray
        Values of each categorical column, most frequent first (at equal counts, first seen first): the values of ids
        2, 3, ... Empty for hashed columns.
    counts_ : list of int64 ndarray of shape (n_ids,)
        Training cells per id of each categorical column: missing, rare, then as ``categories_``.
    n_ids_ : list of int
        Number of ids of each categorical column.
    sequence_categories_, sequence_n_ids_ : list
        The same for the items of sequence columns.
    categorical_, numeric_, sequence_ : ndarray of int
        Positions of the columns of each kind.
    field_names_ : list of str
        Names of categorical, then numeric, then sequence columns ("x0", "x1", ... where there are none).
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)

    Notes
    -----
    nan, None, NA, NaT, null and the empty string are all missing, in every container. ``partial_fit`` over chunks equals
    ``fit`` on their concatenation: vocabularies, order and counts exactly, numeric scales exactly while a column has at
    most 100,000 distinct values and up to a sketch of 20,000 quantiles beyond.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"user": ["ann", "bob", "ann", None], "price": [1.0, 2.0, 3.0, 4.0]})
    >>> encoder = FieldEncoder().fit(X)
    >>> encoder.encode(X).ids.ravel()
    array([2, 3, 2, 0], dtype=int32)
    >>> encoder.get_feature_names_out().tolist()
    ['user', 'price', 'price_missing']
    """

    _parameter_constraints = {
        "categorical_features": [StrOptions({"auto"}), "array-like", None],
        "sequence_features": [StrOptions({"auto"}), "array-like", dict, None],
        "min_frequency": [Interval(Integral, 1, None, closed="left"), Interval(Real, 0, 1, closed="neither")],
        "max_categories": [None, Interval(Integral, 1, None, closed="left")],
        "numeric": [StrOptions({"quantile", "log_square", "standard"}), None],
        "n_quantiles": [Interval(Integral, 2, None, closed="left")],
        "max_length": [Interval(Integral, 1, None, closed="left")],
        "hash_threshold": [None, Interval(Integral, 1, None, closed="left")],
        "n_hash_buckets": [Interval(Integral, 1, None, closed="left")],
        "unknown_warning": [None, Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        *,
        categorical_features="auto",
        sequence_features="auto",
        min_frequency=1,
        max_categories=None,
        numeric="quantile",
        n_quantiles=100,
        max_length=20,
        hash_threshold=None,
        n_hash_buckets=2**16,
        unknown_warning=0.5,
    ):
        self.categorical_features = categorical_features
        self.sequence_features = sequence_features
        self.min_frequency = min_frequency
        self.max_categories = max_categories
        self.numeric = numeric
        self.n_quantiles = n_quantiles
        self.max_length = max_length
        self.hash_threshold = hash_threshold
        self.n_hash_buckets = n_hash_buckets
        self.unknown_warning = unknown_warning

    # fit -----------------------------------------------------------------------------------------------

    def fit(self, X, y=None):
        """Learn kinds, vocabularies and scales from a table.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table or array of shape (n_rows, n_columns)
        y : ignored

        Returns
        -------
        self
        """
        self._count(X, reset=True)
        self._finish()
        return self

    def fit_encode(self, X):
        """``fit(X).encode(X)``, reading the table once."""
        parsed = self._count(X, reset=True)
        self._finish()
        return self._assemble(parsed, len(parsed[0][0]) if parsed else 0)

    def fit_transform(self, X, y=None):
        """``fit(X).transform(X)``, reading the table once; see ``transform``."""
        return self._as_matrix(self.fit_encode(X))

    def partial_fit(self, X, y=None):
        """Count one more chunk of rows; the kinds of the columns are those of the first chunk."""
        if hasattr(self, "n_features_in_") and not hasattr(self, "_counters"):
            raise ValueError("partial_fit cannot go on from a FieldEncoder whose counts were discarded; fit it again.")
        self._count(X, reset=not hasattr(self, "_counters"))
        self._finish()
        return self

    def _count(self, X, reset):
        if reset:
            validate_parameters(self)
        names, columns = read_columns(X, self)
        validate_data(self, X, reset=reset, skip_check_array=True)
        if reset:
            self._choose_kinds(names, columns)
            self._counters = {
                i: NumericSummary() if kind == NUMERIC else ValueCounter(self.hash_threshold, self.n_hash_buckets)
                for i, kind in enumerate(self._kinds)
            }
        parsed = self._each_column(columns, self._parse)
        for i, kind in enumerate(self._kinds):
            self._counters[i].add(*(parsed[i][:1] if kind == NUMERIC else parsed[i][:2]))
        return parsed

    def _choose_kinds(self, names, columns):
        self._names = names
        labels = [f"x{i}" for i in range(len(columns))] if names is None else [str(n) for n in names]
        kinds = []
        for column, label in zip(columns, labels, strict=True):
            kinds.append(column_kind(column))
            if kinds[-1] == SEQUENCE and self.sequence_features is None:
                raise ValueError(f"Column {label!r} holds lists, but sequence_features=None.")
        if not isinstance(self.categorical_features, str):
            chosen = self._positions("categorical_features", self.categorical_features, names, len(columns))
            for i in range(len(columns)):
                kinds[i] = CATEGORICAL if i in chosen else (SEQUENCE if kinds[i] == SEQUENCE else NUMERIC)
        self._separators = {}
        if self.sequence_features is not None and not isinstance(self.sequence_features, str):
            given = self.sequence_features
            for i in self._positions("sequence_features", list(given), names, len(columns)):
                kinds[i] = SEQUENCE
                if isinstance(given, dict):
                    self._separators[i] = given[i] if names is None or i in given else given[names[i]]
        self._kinds, self._labels = kinds, labels
        self.categorical_, self.numeric_, self.sequence_ = (
            np.array([i for i, k in enumerate(kinds) if k == kind], dtype=np.int64)
            for kind in (CATEGORICAL, NUMERIC, SEQUENCE)
        )
        self.field_names_ = [labels[i] for i in (*self.categorical_, *self.numeric_, *self.sequence_)]

    @staticmethod
    def _positions(parameter, given, names, n_columns):
        """Column positions of names, indices or a mask."""
        given = [] if given is None else list(given)
        if given and all(isinstance(g, bool | np.bool_) for g in given):
            if len(given) != n_columns:
                raise ValueError(f"{parameter} is a mask of length {len(given)}, the table has {n_columns} columns.")
            return set(np.flatnonzero(given))
        positions = set()
        for g in given:
            if names is not None and g in names:
                positions.add(names.index(g))
            elif isinstance(g, Integral) and -n_columns <= g < n_columns and not isinstance(g, bool):
                positions.add(int(g) % n_columns)
            else:
                raise ValueError(
                    f"{parameter} has {g!r}, which is neither a column of {names} nor an index below {n_columns}."
                )
        return positions

    def discard_counts(self):
        """Forget what only ``partial_fit`` needs: the values that were too rare, the distribution of numbers."""
        self.__dict__.pop("_counters", None)
        return self

    def _finish(self):
        """Derive ids and scales from the counts."""
        self._fields = {
            i: c.scaler(self.numeric, self.n_quantiles)
            if isinstance(c, NumericSummary)
            else c.vocabulary(self.min_frequency, self.max_categories)
            for i, c in self._counters.items()
        }
        vocabularies = [self._fields[i] for i in self.categorical_]
        self.categories_ = [v.categories for v in vocabularies]
        self.counts_ = [v.counts for v in vocabularies]
        self.n_ids_ = [v.n_ids for v in vocabularies]
        self.sequence_categories_ = [self._fields[i].categories for i in self.sequence_]
        self.sequence_n_ids_ = [self._fields[i].n_ids for i in self.sequence_]

    # encode --------------------------------------------------------------------------------------------

    def encode(self, X):
        """Raw rows to an `EncodedTable`.

        Parameters
        ----------
        X : table with the columns of ``fit``

        Returns
        -------
        EncodedTable

        Raises
        ------
        ValueError
            If columns are missing, extra, reordered or twice there, or a numeric column holds infinity or text.

        Warns
        -----
        DataTypeDriftWarning
            If a column holds another kind of values than in ``fit``; they are converted.
        UnknownCategoryWarning
            If most of a column was never seen in ``fit``.
        """
        check_is_fitted(self, "n_features_in_")
        if isinstance(X, pd.DataFrame) and len(X) <= FEW_ROWS and not len(self.sequence_) and self._has_my_columns(X):
            table = self._encode_few(X)
            if table is not None:
                return table
        _, columns = read_columns(X, self)
        validate_data(self, X, reset=False, skip_check_array=True)
        table = self._assemble(self._each_column(columns, self._parse), len(columns[0]))
        self._report_unknown(table)
        return table

    def _has_my_columns(self, X):
        return len(X) > 0 and self._names is not None and X.columns.tolist() == self._names

    def _encode_few(self, X):
        """A few rows by look-ups of Python values; None if a value needs the general path."""
        n = len(X)
        values = X.to_numpy(dtype=object).T
        ids = np.empty((n, len(self.categorical_)), np.int32)
        for j, i in enumerate(self.categorical_):
            found = self._fields[i].ids_of_few(values[i])
            if found is None:
                return None
            ids[:, j] = found
        m = len(self.numeric_)
        numeric = np.empty((n, 2 * m), np.float32)
        for j, i in enumerate(self.numeric_):
            numeric[:, j], numeric[:, m + j] = self._fields[i].transform(numeric_values(values[i], self._labels[i]))
        return EncodedTable(ids, numeric, np.empty((n, 0), np.int32))

    def _each_column(self, columns, work):
        tasks = range(len(columns))
        if len(columns[0]) < THREAD_ROWS or cpu_count() == 1:
            return [work(i, columns[i]) for i in tasks]
        with ThreadPoolExecutor(min(cpu_count(), len(columns))) as pool:
            return list(pool.map(lambda i: work(i, columns[i]), tasks))

    def _parse(self, i, column):
        """What a column holds, before any vocabulary: values, or codes and distinct values (and places)."""
        label, kind = self._labels[i], self._kinds[i]
        if kind == NUMERIC:
            return (numeric_values(column, label),)
        if kind == CATEGORICAL:
            if column.dtype == object and column_kind(column) == SEQUENCE:
                raise ValueError(f"Column {label!r} is categorical, but holds lists; name it in sequence_features.")
            return factorize(column, label)
        items, rows, positions = flatten_sequences(column, label, self._separators.get(i), self.max_length)
        return (*factorize(items, label), rows, positions)

    def _assemble(self, parsed, n):
        """Ids and scaled numbers of parsed columns."""
        ids = np.empty((n, len(self.categorical_)), np.int32)
        for j, i in enumerate(self.categorical_):
            ids[:, j] = self._ids(i, *parsed[i])
        m = len(self.numeric_)
        numeric = np.empty((n, 2 * m), np.float32)
        for j, i in enumerate(self.numeric_):
            numeric[:, j], numeric[:, m + j] = self._fields[i].transform(parsed[i][0])
        sequences = np.zeros((n, len(self.sequence_) * self.max_length), np.int32)
        for j, i in enumerate(self.sequence_):
            codes, keys, rows, positions = parsed[i]
            sequences[rows, j * self.max_length + positions] = self._ids(i, codes, keys)
        return EncodedTable(ids, numeric, sequences)

    def _ids(self, i, codes, keys):
        field = self._fields[i]
        converted, drifted = field.convert(keys)
        if drifted is not None:
            warnings.warn(
                f"Column {self._labels[i]!r} held {KINDS[field.kind]} in fit and holds {KINDS[drifted]} now; the values are "
                f"converted, {keys[0]!r} is looked up as {converted[0]!r}.",
                DataTypeDriftWarning,
                stacklevel=4,
            )
        return field.ids(codes, converted)

    def _report_unknown(self, table):
        if self.unknown_warning is None or len(table) < REPORT_ROWS:
            return
        shares = table.n_unknown / len(table)
        reports = [
            f"{share:.0%} of column {name!r}"
            for name, share in zip(self.field_names_, shares, strict=False)
            if share > self.unknown_warning
        ]
        if reports:
            warnings.warn(
                f"{', '.join(reports)} are values that fit has not seen (or seen too rarely); they are encoded as unknown.",
                UnknownCategoryWarning,
                stacklevel=3,
            )

    def transform(self, X):
        """Raw rows to a matrix.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Ids of categorical columns, scaled numbers, missing indicators of the numeric columns, then ids of sequence
            columns, padded to ``max_length`` each. int32 if no column is numeric, else float64.
        """
        return self._as_matrix(self.encode(X))

    def _as_matrix(self, table):
        if not len(self.numeric_):
            return np.hstack([table.ids, table.sequences])
        return np.hstack([table.ids, table.numeric, table.sequences], dtype=np.float64)

    def inverse_transform(self, ids):
        """Ids of the categorical columns back to values.

        Parameters
        ----------
        ids : int array of shape (n_rows, n_categorical), matrix of ``transform``, or EncodedTable

        Returns
        -------
        object ndarray of shape (n_rows, n_categorical)
            None where missing, "<rare>" where unknown or rare, "<hash k>" for hashed columns.
        """
        check_is_fitted(self, "n_features_in_")
        ids = np.asarray(ids.ids if isinstance(ids, EncodedTable) else ids)
        if ids.ndim == 2 and ids.shape[1] == len(self.get_feature_names_out()):
            ids = ids[:, : len(self.categorical_)]
        if ids.ndim != 2 or ids.shape[1] != len(self.categorical_):
            raise ValueError(f"ids must have shape (n_rows, {len(self.categorical_)}), got {ids.shape}.")
        out = np.empty(ids.shape, object)
        for j, i in enumerate(self.categorical_):
            if len(ids) and not (ids[:, j].min() >= MISSING and ids[:, j].max() < self.n_ids_[j]):
                raise ValueError(f"ids of column {self._labels[i]!r} must be in [0, {self.n_ids_[j]}).")
            out[:, j] = self._fields[i].values(ids[:, j].astype(np.int64))
        return out

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of ``transform``, object ndarray."""
        check_is_fitted(self, "n_features_in_")
        if input_features is not None and len(input_features) != self.n_features_in_:
            raise ValueError(
                f"input_features should have length equal to number of features ({self.n_features_in_}), got {len(input_features)}"
            )
        if (
            input_features is not None
            and hasattr(self, "feature_names_in_")
            and list(input_features) != list(self.feature_names_in_)
        ):
            raise ValueError("input_features is not equal to feature_names_in_")
        labels = self._labels if input_features is None else [str(n) for n in input_features]
        numeric = [labels[i] for i in self.numeric_]
        return np.array(
            [
                *(labels[i] for i in self.categorical_),
                *numeric,
                *(f"{name}_missing" for name in numeric),
                *(f"{labels[i]}_{k}" for i in self.sequence_ for k in range(self.max_length)),
            ],
            dtype=object,
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
