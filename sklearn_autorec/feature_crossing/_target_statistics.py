"""TargetStatistics: mean target and number of the rows that share a value, or a combination of values."""

from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..preprocessing._columns import read_columns
from ..preprocessing._weights import row_weights
from ..utils._sklearn import HasMethods, Interval, StrOptions, validate_parameters
from ..utils._state import all_or_nothing, reads_once
from ._keys import choose_keys
from ._reading import (
    append_columns,
    append_to_array,
    binned_columns,
    checked_encoder,
    column_edges,
    column_ids,
    column_sizes,
    output_labels,
    resolve_bins,
    resolve_columns,
    resolve_crosses,
    select,
)
from ._statistics import Statistics
from ._statistics_inputs import Target, folds_of, searched_crosses, times_of

MAX_JUDGING_CLASSES = 10  # that choose crosses: the most frequent


class TargetStatistics(TransformerMixin, BaseEstimator):
    r"""Add the mean target and the number of training rows of each row's values, and of combinations of values.

    Ids of many values (users, items, and what a user does on Mondays) become a few numbers that any
    estimator takes, trees above all. In ``fit_transform`` a training row gets the statistics of other
    rows, never of its own target; in ``transform`` new rows look up those of all training rows.

    Parameters
    ----------
    columns : list of column names or positions, or None, default=None
        Columns with statistics of their own. None: all that hold ids, not numbers, and are not ``order``.
        Numeric columns that are named here or in ``crosses`` are cut into bins.
    crosses : list of tuples of columns, "auto", estimator or None, default=None
        Combinations with statistics beside those of ``columns``. "auto" takes up to ``max_crosses`` pairs
        whose statistics say more than those of their columns together. Of an estimator with ``crosses_``
        (such as `AutoCross`) a clone is fitted on the same rows; what one has found already is given
        as ``crosses=autocross.crosses_``.
    cv : int, splitter or iterable, default=5
        A training row sees the statistics of all parts but its own. A number makes that many random parts
        with evenly spread targets; the test rows of a splitter must hold each row exactly once.
        Not used where there is an ``order``.
    order : column name or position, or None, default=None
        Column of numbers or times. A training row then sees the rows that are earlier (not those of
        the same time), as it would have been when it happened.
    smoothing : float, default=10
        Rows that the mean of all rows counts for in each combination.
    counts : bool, default=True
        Whether numbers of rows are added as well, as log(1 + rows).
    max_crosses : int, default=20
        Crosses that "auto" takes at most.
    target_type : {"auto", "binary", "multiclass", "continuous"}, default="auto"
        What ``y`` is, as in scikit-learn's ``TargetEncoder``. Under "auto" whole numbers are classes: for
        ratings say "continuous".
    n_bins : int or dict of column to int, default=10
        Bins of numeric columns, as in `FieldCrosser`. Bins of a search with ``n_bins_`` come before them.
    append : bool, default=True
        Whether the columns of the table come before the statistics.
    random_state : int, RandomState or None, default=None
        Draws the parts, and the rows that choose crosses in large tables.
    encoder : FieldEncoder or None, default=None
        Tells how columns are read, as in `FieldCrosser`.

    Attributes
    ----------
    columns_ : list of str
        Columns with statistics of their own ("x0", "x1", ... where columns have no names).
    crosses_ : list of tuple of str
        Combinations with statistics; ``FieldCrosser.from_estimator`` takes them.
    features_ : list of str
        Names of the new columns: "mean(y | user, day)", then "log_count(user, day)"; with more than two
        classes "mean(y=c | user, day)" for each class c.
    classes_ : ndarray of shape (n_classes,), or None
        Classes, rising; of two, the statistics are shares of the second. None for numbers.
    target_mean_ : float, or ndarray of shape (n_classes,)
        What a combination never seen in training gets.
    n_ids_ : list of int
        Number of combinations seen of each column, then of each cross.
    target_type_ : str
        "binary", "multiclass" or "continuous".
    encoder_ : FieldEncoder
        The fitted encoder.
    n_features_in_, feature_names_in_
        As of `FieldCrosser`.

    Notes
    -----
    The statistic of a combination of weight n and mean m is (n m + s p) / (n + s) with smoothing s and
    the mean p of all rows. Counts of training rows are scaled up as if all parts had been seen; with
    ``order`` they are those of the earlier rows, so that the first rows have none.

    ``fit(X, y).transform(X)`` is not ``fit_transform(X, y)``: the former looks up what a row itself has
    added to, and a model that is trained on it believes it too much. A pipeline does the latter.

    A missing cell is a value like any other. A value never met gets the mean of all rows and the count 0 (or
    the statistics of rare values, where ``encoder`` has a ``min_frequency``). Sequence columns have no
    statistics. Rows of weight zero change nothing.

    "auto" judges pairs by up to 30,000 rows, of several classes by the ten most frequent.

    scikit-learn's ``TargetEncoder`` is not used inside: it knows neither combinations nor counts, neither
    orders nor weights.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"user": ["ann", "bob", "ann", "bob", "ann"], "day": ["mon", "mon", "tue", "tue", "tue"]})
    >>> y = [1, 0, 1, 1, 0]
    >>> encoder = TargetStatistics(crosses=[("user", "day")], smoothing=1, append=False).fit(X, y)
    >>> encoder.features_[:3]
    ['mean(y | user)', 'mean(y | day)', 'mean(y | user, day)']
    >>> encoder.transform(pd.DataFrame({"user": ["ann", "eve"], "day": ["tue", "tue"]})).round(2).iloc[:, :3]
       mean(y | user)  mean(y | day)  mean(y | user, day)
    0            0.65           0.65                 0.53
    1            0.60           0.65                 0.60
    """

    _parameter_constraints = {
        "columns": [None, list, tuple],
        "crosses": [None, list, tuple, StrOptions({"auto"}), HasMethods(["fit", "get_params"])],
        "cv": ["cv_object"],
        "order": [None, str, Integral],
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "counts": ["boolean"],
        "max_crosses": [Interval(Integral, 0, None, closed="left")],
        "target_type": [StrOptions({"auto", "binary", "multiclass", "continuous"})],
        "n_bins": [Interval(Integral, 1, 2**20, closed="both"), dict],
        "append": ["boolean"],
        "random_state": ["random_state"],
        "encoder": [None, HasMethods(["fit", "encode"])],
    }

    def __init__(
        self,
        columns=None,
        crosses=None,
        *,
        cv=5,
        order=None,
        smoothing=10.0,
        counts=True,
        max_crosses=20,
        target_type="auto",
        n_bins=10,
        append=True,
        random_state=None,
        encoder=None,
    ):
        self.columns = columns
        self.crosses = crosses
        self.cv = cv
        self.order = order
        self.smoothing = smoothing
        self.counts = counts
        self.max_crosses = max_crosses
        self.target_type = target_type
        self.n_bins = n_bins
        self.append = append
        self.random_state = random_state
        self.encoder = encoder

    # fit -----------------------------------------------------------------------------------------------

    @all_or_nothing
    def fit(self, X, y, sample_weight=None):
        """Learn the statistics of all rows.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table, array or list of lists, of shape (n_rows, n_columns)
        y : array-like of shape (n_rows,)
            Classes, or numbers.
        sample_weight : array-like of shape (n_rows,), default=None
            Not negative; whole weights are repetitions of rows. A search in ``crosses`` that takes no weights
            sees the rows of positive weight alike.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For columns that are not there, named twice or sequences; missing values in the column of
            ``order``; a splitter whose test rows are not each row once; targets of one class, or not of
            ``target_type``; and if the table already has a column of a new name.
        """
        ids, target, weight, _, _ = self._prepare(X, y, sample_weight)
        self._statistics.fit(ids, target.values, weight, self._sizes)
        self._publish(target)
        return self

    @all_or_nothing
    def fit_transform(self, X, y, sample_weight=None):
        """Learn from rows and return them with statistics of other rows than themselves (see Notes).

        Parameters
        ----------
        X, y, sample_weight
            As of ``fit``.

        Returns
        -------
        table or array
            As of ``transform``.
        """
        ids, target, weight, times, rng = self._prepare(X, y, sample_weight)
        draw = {"order": times} if times is not None else {"folds": folds_of(self.cv, X, y, target, weight, rng)}
        found = self._statistics.fit_transform(ids, target.values, weight, self._sizes, **draw)
        self._publish(target)
        return self._output(X, found)

    def _prepare(self, X, y, sample_weight):
        """Ids by column, targets, weights, times and random numbers; sets all but what is learned from targets."""
        validate_parameters(self)
        names, columns = read_columns(X, self)
        validate_data(self, X, reset=True, skip_check_array=True)
        labels = [f"x{i}" for i in range(len(columns))] if names is None else [str(name) for name in names]
        weight = row_weights(sample_weight, len(columns[0]))
        target = Target(y, self, len(columns[0]), weight)
        rng = check_random_state(self.random_state)
        singles = None if self.columns is None else resolve_columns(self.columns, names, labels, "columns")
        at = times = None
        if self.order is not None:
            (at,) = resolve_columns([self.order], names, labels, "order")
            times = times_of(columns[at], labels[at])
        free = [i for i in range(len(columns)) if i != at]
        n_bins, crosses = resolve_bins(self.n_bins, names, labels), self.crosses
        if hasattr(crosses, "fit"):
            given = select(X, free, names, len(columns))
            its_labels = [f"x{j}" for j in range(len(free))] if names is None else [labels[i] for i in free]
            found, bins = searched_crosses(crosses, given, its_labels, y, weight)
            crosses = [tuple(free[j] for j in cross) for cross in found]
            n_bins = [bins.get(free.index(i), n) if i in free else n for i, n in enumerate(n_bins)]
        automatic = isinstance(crosses, str)
        crosses = None if automatic else resolve_crosses(crosses or [], names, labels)
        named = {*(singles or []), *(i for key in crosses or [] for i in key)}
        positions = sorted({*free, *named} if automatic or singles is None else named)
        if self.encoder is not None or not positions:
            positions = list(range(len(columns)))
        encoder = checked_encoder(self.encoder)
        table = encoder.fit_encode(select(X, positions, names, len(columns)), sample_weight=weight)
        edges = column_edges(encoder, positions, n_bins)
        encoder.discard_counts()
        ids, sizes = column_ids(table, encoder, positions, edges), column_sizes(encoder, positions, edges)
        if singles is None:
            numbers = {positions[i] for _, i in binned_columns(encoder)}
            singles = [i for i in sorted(ids) if i not in numbers and i != at]
        for parameter, used in (("columns", singles), ("crosses", [i for key in crosses or [] for i in key])):
            for i in used:
                if i not in ids:
                    raise ValueError(f"{parameter} has {labels[i]!r}, a sequence column, which has no statistics.")
        if crosses is None:
            crosses = self._chosen(ids, sizes, [i for i in sorted(ids) if i != at], target, weight, rng)
        self._names, self._labels, self._positions, self._edges = names, labels, positions, edges
        self._singles, self._crosses, self.encoder_ = singles, crosses, encoder
        self._fields = sorted(ids)
        place = {i: j for j, i in enumerate(self._fields)}
        keys = [tuple(place[i] for i in key) for key in [*((i,) for i in singles), *crosses]]
        method = "folds" if times is None else "ordered"
        self._statistics = Statistics(keys, smoothing=self.smoothing, method=method)
        self._sizes = [sizes[i] for i in self._fields]
        self.classes_, self.target_type_ = target.classes, target.kind
        self.columns_ = [labels[i] for i in singles]
        self.crosses_ = [tuple(labels[i] for i in key) for key in crosses]
        self.features_ = self._feature_names(labels)
        twice = [name for name in self.features_ if name in labels]
        if self.append and twice:
            raise ValueError(f"The table already has a column {twice[0]!r}, the name of a statistic.")
        return [ids[i] for i in self._fields], target, weight, times, rng

    def _chosen(self, ids, sizes, fields, target, weight, rng):
        """Crosses as tuples of positions, best first."""
        values = target.values
        if values.shape[1] > MAX_JUDGING_CLASSES:
            values = values[:, np.argsort(-target.mean, kind="stable")[:MAX_JUDGING_CLASSES]]
        found = choose_keys(
            [ids[i] for i in fields],
            [sizes[i] for i in fields],
            values,
            logistic=target.classes is not None,
            weight=weight,
            rng=rng,
            max_crosses=self.max_crosses,
            max_order=2,
        )
        return [tuple(fields[i] for i in key) for key in found]

    def _publish(self, target):
        """Set what was learned from the targets."""
        self._centre, self._scale = target.centre, target.scale
        self.target_mean_ = target.mean if target.kind == "multiclass" else float(target.mean[0])
        self.n_ids_ = [len(seen) for seen in self._statistics.combinations]

    # transform -----------------------------------------------------------------------------------------

    @reads_once
    def transform(self, X):
        """Rows with their statistics, as of all training rows.

        Parameters
        ----------
        X : table with the columns of ``fit``
            That of ``order`` is not read.

        Returns
        -------
        table or array of shape (n_rows, n_columns + n_statistics)
            The columns of X (unless ``append=False``), then float64 statistics, named by ``features_``.
            pandas, polars and pyarrow tables come out as they came in.
        """
        check_is_fitted(self, "_statistics")
        if not (isinstance(X, pd.DataFrame) and X.columns.tolist() == self._names and len(X)):
            read_columns(X, self)
            validate_data(self, X, reset=False, skip_check_array=True)
        table = self.encoder_.encode(select(X, self._positions, self._names, self.n_features_in_))
        ids = column_ids(table, self.encoder_, self._positions, self._edges)
        return self._output(X, self._statistics.transform([ids[i] for i in self._fields]))

    def _output(self, X, found):
        """The table with features of `Statistics`."""
        n_means = len(self._statistics.keys) * self._statistics.n_targets
        values = found[:, : len(self.features_)].astype(np.float64)
        values[:, :n_means] = values[:, :n_means] * self._scale + self._centre
        if isinstance(X, pd.DataFrame):
            new = pd.DataFrame(values, columns=self.features_, index=X.index, copy=False)
            return pd.concat([X, new], axis=1) if self.append else new
        if hasattr(X, "columns") and hasattr(X, "__arrow_c_stream__"):
            return append_columns(X, dict(zip(self.features_, values.T, strict=True)), self.append)
        return append_to_array(X, values) if self.append else values

    @reads_once
    def get_feature_names_out(self, input_features=None):
        """Names of the columns of ``transform``, object ndarray (n_features_out,).

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of ``fit``, if these had none; else the same names again.
        """
        check_is_fitted(self, "_statistics")
        labels = output_labels(self, self._labels, input_features)
        return np.array([*(labels if self.append else []), *self._feature_names(labels)], dtype=object)

    def _feature_names(self, labels):
        """Names of the statistics, given those of the columns."""
        classes = self.classes_ if self.target_type_ == "multiclass" else None
        names = self._statistics.names([labels[i] for i in self._fields], classes)
        return names if self.counts else names[: -len(self._statistics.keys) or None]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags
