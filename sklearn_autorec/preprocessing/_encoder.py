"""FieldEncoder: raw columns to contiguous ids and numbers."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import validate_data

from ..utils._docs import inherits_entries
from ..utils._frames import takes_frames
from ..utils._parameters import stores_parameters
from ..utils._sklearn import validate_parameters
from ..utils._state import all_or_nothing, reads_once
from ..utils._typing import Column, Table
from ._columns import read_columns
from ._constraints import CONSTRAINTS
from ._counting import compress, count, derive, each_column, new_counters, twins
from ._describe import MissingCells
from ._encoding import assemble, parse_column
from ._fitted import FittedFields
from ._hints import hint_at_columns
from ._names import check_columns
from ._schema import choose_schema
from ._table import EncodedTable
from ._targets import targets_of
from ._weights import row_weights, weighted_rows


@inherits_entries
class FieldEncoder(FittedFields, TransformerMixin, BaseEstimator):
    """Encode the columns of a raw table as ids, scaled numbers and padded sequences of ids.

    It is both the first step of training and the serving path: a single row takes a fraction of a
    millisecond, whatever the number of categories.

    Parameters
    ----------
    categorical_features : "auto", dict, array-like (names, indices or mask) or None, default="auto"
        Columns whose values are ids. "auto" goes by dtype and values: strings, booleans and
        categories are ids, decimals and durations (in seconds) are numbers, of times several fields
        are derived (``time_features``). What integers are, and
        floats of few distinct values, is decided by what they look like (see Notes): ids, numbers,
        or both at once, two fields of one column. ``kinds_`` tells. A dict ``{column: "id",
        "number" or "both"}`` says it for some columns and leaves the others to "auto". With an
        array or None all columns that it does not name are numbers.
    sequence_features : "auto", array-like of names or indices, dict or None, default="auto"
        Columns whose cells hold several ids. "auto": columns whose first cell that is not missing
        is a list, tuple, set or array. Named ones are sequences in any case. A dict ``{column:
        separator}`` splits text cells, such as ``{"genres": "|"}``.
    vector_features : "auto", array-like of names or indices, or None, default="auto"
        Columns of dense vectors. "auto": lists that ``sequence_features`` does not name, of one
        length of two or more, of floats that are not all whole. None: lists are sequences.
    time_features : "auto", list of {"age", "hour", "weekday", "month"} or None, default="auto"
        What times are taken for if ``categorical_features`` does not say it: the number "age",
        seconds before the newest training time, and ids, on the clock of the column's time zone.
        "auto": the age, and where there are several the hour, from two weeks of training times the
        weekday, from a year the month. None: one number, seconds since 1970.
    min_frequency : int or float, default=1
        Values seen in fewer training cells (a float: in a smaller share of them) are rare and share
        the unknown id.
    max_categories : int or None, default=None
        Keep at most so many values of each column, the most frequent.
    numeric : {"rank", "quantile", "log_square", "standard"} or None, default="rank"
        How numeric columns are scaled. "rank": to [0, 1] by the share of training values below, in
        which no value counts for more than one of ``n_bins`` of them (zeros in nine rows of ten
        leave nearly the whole scale to the tenth); "quantile": by the plain share, with mean 0 and
        variance 1; both are clipped at the extremes. "log_square": by ``sign(x) log(1 + |x|)^2``,
        then, like "standard", to mean 0 and variance 1. None leaves numbers as they are.
    n_bins : int, default=24
        Bins of the rank scale, and steps of the piecewise-linear embedding of numbers in the
        networks.
    numeric_bins : {"quantile", "target"}, default="quantile"
        Where the bins of the rank scale lie: at equal steps of it, or where a regression tree on
        the column cuts the target, which ``fit`` needs then; every cut takes one bin, so that the
        network can jump there, and the other bins lie evenly between.
    n_quantiles : int, default=100
        Points of the rank and the quantile scale.
    max_length : int, default=20
        Items of a sequence; of longer ones the last are kept, since histories are in time order.
    hash_threshold : int or None, default=None
        Columns with more distinct values than this are hashed into ``n_hash_buckets`` ids and keep
        no vocabulary.
    n_hash_buckets : int, default=65536
        Ids of a hashed column.
    shared_vocabularies : dict or None, default=None
        ``{column: other column}``, where both, of ids or of lists of ids, hold values of one kind,
        such as ``{"clicked_items": "item", "last_item": "item"}``: one value then has one id in
        all of them, and networks have one table for all. Values are ordered, and are rare, by what
        all columns hold. Named columns of integers and text are ids under "auto".
    unknown_warning : float or None, default=0.5
        Warn if more than this share of a column (of 100 rows or more) was never seen in training.

    Attributes
    ----------
    categories_ : list of ndarray
        Values of each categorical column, most frequent first (equal counts in the order of the
        values): those of ids 2, 3, ... int64, float64 or object (strings). Empty for hashed
        columns.
    counts_ : list of int64 ndarray of shape (n_ids,)
        Training cells per id of each categorical column: missing, rare, then as ``categories_``.
    n_ids_ : list of int
        Number of ids of each categorical column.
    sequence_categories_, sequence_counts_, sequence_n_ids_ : list
        The same for the items of sequence columns.
    shared_with_ : tuple of (int or None)
        For each sequence column the number of the categorical column (of ``categorical_``) whose
        vocabulary it shares, None where it has its own or shares that of another sequence.
    shared_fields_ : dict of int to int
        Fields that share the vocabulary of another one, and that, as positions in
        ``field_names_``: the named column or, if that is of lists, the first of ids.
    vector_lengths_ : list of int
        Length of the vectors of each vector column.
    kinds_ : dict of str to {"id", "number", "both", "sequence", "vector", "time"}
        What each column is, by name.
    times_ : dict of str to {"time", "zoned time", "duration"}
        What columns of times held in fit, by name. Encoders in files of version 0.1 tell none.
    categorical_, numeric_, sequence_, vector_ : ndarray of int
        Positions of the columns of each kind, one for each field: a column that is both id and
        number is in two of them, one of times as often as it has fields.
    field_names_ : list of str
        Names of categorical, then numeric, sequence and vector fields: those of their columns
        ("x0", "x1", ... where there are none). The number of a column "age" that is both is "age
        (number)", the fields of a column "time" of times are "time:age", "time:hour" and so on.
    numeric_range_ : (float, float)
        Lowest and highest of scaled numbers; (-3, 3), between which most lie, where the scale has
        no bounds.
    {n_features_in_, feature_names_in_}

    Notes
    -----
    Missing are nan, None, NA, NaT, null and the empty string, in every container alike.

    One rule tells which spellings are one value, here, in crossers, model files and `onnx_inputs`.
    Integers are exact, also as digits in text and as Decimals. A whole float is that integer below
    2^53 (float32: 2^24, float16: 2^11); beyond, it is unknown, with a `DataTypeDriftWarning`. Other
    floats go by their fewest digits: 0.1 is one value in every width. True is 1, and where booleans
    were, "true" in any case. In columns of text 1 is "1". Text for numbers is converted, with that
    warning.

    A column of times goes on as such: other units and zones, dates, ISO 8601 text and numbers since
    1970 are converted; what is not certain, such as a zone on one side only, is refused. What looks
    like a mistake in ``fit`` (ids that a gap made floats, lists of floats, times as integers) is
    named by a `SuspiciousColumnWarning`.

    Whole numbers under "auto" go by at most 50,000 cells at equal distances. With fewer than 100
    cells, or two values, they are what their dtype says: integers are ids, floats are numbers.
    Integers of up to 12 values are ids; other whole numbers of up to 100 values are both. Of more
    values they are numbers, if some are negative, no value comes twice, or they lie like times or
    round amounts; both, if they lie like counts; ids, if they are spread evenly over their range,
    as the numbers of users are (floats are both then). What is none of these is both, and said with
    a `DoubtfulKindWarning` if it has more than 1,000 values. Decimals of up to 100 values are both,
    if each has ten rows or more.

    ``partial_fit`` over chunks equals ``fit`` on their concatenation, however it is cut, where the
    first chunk shows the same kinds of columns: vocabularies, ids, counts and missing cells
    exactly; scales of a numeric column exactly while it has at most 100,000 distinct values.
    Beyond, its minimum and maximum are exact, mean and variance equal up to rounding, and quantiles
    come from a sketch of 20,000 points.

    Vectors are standardised place by place; a missing one, or number in it, is the mean, the former
    with an indicator. Other lengths than that of the first of ``fit``, and infinity, are refused.

    A hashed column has no rare or unknown values: ``min_frequency`` and ``max_categories`` do not
    apply to it, and each new value shares a bucket with old ones. The hash is that of the value's
    text, the same in all processes.

    Encoding does not change the fitted encoder but for look-up tables, which are built once under a
    lock; threads may share one.

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

    _parameter_constraints = CONSTRAINTS

    @stores_parameters
    def __init__(
        self,
        *,
        categorical_features="auto",
        sequence_features="auto",
        vector_features="auto",
        time_features="auto",
        min_frequency=1,
        max_categories=None,
        numeric="rank",
        n_bins=24,
        numeric_bins="quantile",
        n_quantiles=100,
        max_length=20,
        hash_threshold=None,
        n_hash_buckets=2**16,
        shared_vocabularies=None,
        unknown_warning=0.5,
    ):
        """Store the parameters."""

    # fit
    # ----------------------------------------------------------------------------------------------

    @all_or_nothing
    @takes_frames
    def fit(self, X: Table, y: Column = None, sample_weight: Column = None) -> Self:
        """Learn kinds, vocabularies and scales from a table.

        Parameters
        ----------
        X : DataFrame (pandas, polars and others), LazyFrame, pyarrow Table, array or list of lists
            Of shape (n_rows, n_columns). What is neither pandas, polars, pyarrow nor an array, and
            what is lazy, is read by narwhals, of the extra ``frames``.
        y : array-like of shape (n_rows,) or (n_rows, n_targets), default=None
            Targets, for ``numeric_bins="target"`` only: numbers (more than one column of them for
            more than two classes), or labels.
        sample_weight : array-like of shape (n_rows,), default=None
            What a row counts in frequencies and quantiles. Whole weights are the same as repeating
            the row, a zero is the same as leaving it out. ``min_frequency`` is in the unit of the
            weights; 1 keeps every value, whatever it weighs.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For what is no table of at least one row and column, column names that occur twice,
            numeric columns that hold infinity or what is no number, and ``numeric_bins="target"``
            without a target. A fitted encoder then stays as it was.
        """
        self._fit(X, y, sample_weight)
        return self

    @all_or_nothing
    @takes_frames
    def fit_encode(self, X: Table, y: Column = None, sample_weight: Column = None) -> EncodedTable:
        """``fit(X, y, sample_weight).encode(X)``, reading the table once.

        Returns
        -------
        EncodedTable
        """
        n, parsed = self._fit(X, y, sample_weight)
        if parsed is None:  # rows of weight zero were left out
            return self.encode(X)
        return assemble(n, parsed, self._schema, self.max_length, self._fields, self._text_numbers)

    def fit_transform(self, X: Table, y: Column = None, sample_weight: Column = None) -> Any:
        """``fit(X, y, sample_weight).transform(X)``, reading the table once."""
        return self._as_matrix(self.fit_encode(X, y, sample_weight))

    @all_or_nothing
    @takes_frames
    def partial_fit(self, X: Table, y: Column = None, sample_weight: Column = None) -> Self:
        """Count one more chunk of rows; the kinds of the columns are those of the first chunk (or
        of ``fit``).

        Ids change with every chunk, since they go by frequency. With ``numeric_bins="target"`` y
        must be numbers.

        Parameters
        ----------
        X, y, sample_weight
            As in ``fit``. A chunk whose weights are all zero is skipped.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As ``fit``, and after ``discard_counts``. What was counted before then stays.
        """
        first = not hasattr(self, "_derived")
        if not first and not hasattr(self, "_counters"):
            raise ValueError(
                "partial_fit cannot go on from a FieldEncoder whose counts were discarded; fit it "
                "again."
            )
        if sample_weight is not None and not np.asarray(sample_weight).any():
            # Of the right length?
            row_weights(np.ones(np.shape(sample_weight)), len(read_columns(X, self)[1][0]))
            return self
        self._count(X, y, sample_weight, reset=first)
        compress(self._counters)
        self._derived = None
        return self

    def _fit(self, X, y, sample_weight=None):
        n, parsed = self._count(X, y, sample_weight, reset=True, labels=True)
        self._derived = derive(self._counters, self)
        compress(self._counters)
        return n, parsed

    def _count(self, X, y, sample_weight, reset, labels=False):
        """Count the values of a table; its number of rows and parsed parts (None if rows were left
        out).
        """
        if reset:
            validate_parameters(self)
        X, names, columns, weight, left_out = weighted_rows(X, sample_weight, self)
        if reset:
            validate_data(self, X, reset=True, skip_check_array=True)
            schema = choose_schema(names, columns, self, weight)
            # The former: numeric columns that came as text.
            text_numbers, counters = set(), new_counters(schema, self)
            missing_cells = MissingCells(0.0, ())
        else:
            check_columns(self, X, self._schema.names)
            schema, text_numbers, counters = self._schema, self._text_numbers, twins(self._counters)
            missing_cells = getattr(self, "_missing_cells", None)  # not of older pickles
        targets = None
        if self.numeric_bins == "target" and self.numeric == "rank":
            targets = targets_of(y, len(columns[0]), labels, counters)
        parts = schema.parts(columns)
        parsed = each_column(
            parts, lambda i, column: parse_column(i, column, schema, self.max_length)
        )
        if reset:
            hint_at_columns(columns, parsed, schema, self.categorical_features)
        text_numbers = text_numbers | count(counters, parsed, weight, targets)
        if missing_cells is not None:
            missing_cells = missing_cells.with_chunk(len(columns[0]), parsed, schema, weight)
        self._schema, self._text_numbers, self._counters = schema, text_numbers, counters
        self._missing_cells = missing_cells
        self._set_positions()
        return len(columns[0]), None if left_out else parsed

    # encode
    # --------------------------------------------------------------------------------------------

    @reads_once
    def transform(self, X: Table) -> Any:
        """Raw rows to a matrix.

        Returns
        -------
        ndarray of shape (n_rows, n_features_out)
            Ids of categorical columns, scaled numbers, missing indicators of the numeric columns,
            then ids of sequence columns, padded to ``max_length`` each, then of each vector column
            its standardised numbers and a missing indicator. int32 if no column is numeric or a
            vector, else float64.
        """
        return self._as_matrix(self.encode(X))
