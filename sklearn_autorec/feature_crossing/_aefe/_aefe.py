"""AEFE: interpretable features of pairs of columns, built and then selected."""

import math
import time
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ...datasets._table_blocks import is_dataset, opened_blocks, refuse_dataset, takes_datasets
from ...preprocessing._columns import read_columns
from ...preprocessing._dicts import takes_rows
from ...preprocessing._names import labels_of, output_labels, refuse_new_names
from ...utils._defaults import ComponentEstimator
from ...utils._parameters import stores_parameters
from ...utils._progress import FitProgress
from ...utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    check_y,
    of_raw_tables,
    validate_parameters,
    with_callbacks,
)
from ...utils._state import all_or_nothing, reads_once
from ...utils._typing import Array, ArrayLike, Column, Table
from .._crosser_search import warn_of_interruption
from .._distinct import distinct_groups
from .._reading import (
    MAKERS,
    append_named,
    binned_columns,
    column_ids,
    encode_as_fitted,
    resolve_bins,
)
from ._cascade import N_FOLDS
from ._pair_blocks import BlockStatistics
from ._pair_features import Statistic, random_folds
from ._pair_search import PairSearch, encoded, numbers_of, read_targets
from ._paradigms import PARADIGMS, check_paradigms, names_of


class AEFE(CallbackSupportMixin, TransformerMixin, ComponentEstimator):
    r"""Add statistics of pairs of columns that a model gains from.

    Pairs of columns that act together are found by a small factorization machine. Each becomes
    several features: how often a combination occurs, how many partners a value has, what share of a
    value's rows a combination has, and the mean target of its other rows. Three stages choose among
    them: a filter (features that vary and are no copies), an embedded one (importances of a forest
    that sees all), and a wrapper, which adds features as long as the cross-validated score of an
    estimator rises.

    Parameters
    ----------
    estimator : estimator or None, default=None
        What the wrapper scores, on numbers only: scaled numeric columns, target means of the
        categorical columns, and the features. None is a standardised logistic regression, or a
        ridge regression for targets that are numbers with fractions. For ratings that are whole
        numbers give a regressor.
    scoring : "auto", str, callable or None, default="auto"
        scikit-learn's scorer for the wrapper. None is the estimator's own ``score``. "auto": minus
        the log loss of classifiers with ``predict_proba``, the ``score`` of others, minus the mean
        squared error of regressors.
    n_pairs : int, default=20
        Pairs that become features.
    paradigms : tuple of str, default=("count", "nunique", "ratio", "target", "concat")
        What is built of a pair (a, b): log(1 + rows) of the combination; the number of distinct
        values of one column beside a value of the other; the share of the combination in the rows
        of a and in those of b; the mean target of the combination; its id, an integer. As ids are
        no numbers, the id of a pair is judged by the mean target, and stands beside it (or alone,
        without "target").
    n_factors : int, default=8
        Factors of the factorization machine.
    max_epochs : int, default=30
        Its epochs at most; it stops earlier when held-out rows do not gain.
    variance_threshold : float, default=0.0
        Features with no more variance than this are filtered out.
    selector : estimator or None, default=None
        What tells importances, by ``feature_importances_`` or ``coef_``. None is a forest of
        extremely randomised trees.
    importance_quantile : float, default=0.5
        Share of the features that the embedded stage drops.
    cv : int, splitter or iterable, default=3
        Folds of the wrapper. In each, everything is computed from the training rows, as in a
        pipeline.
    max_features : int, default=20
        Features at most.
    block_size : int, default=1
        Features that the wrapper tries together.
    patience : int, default=5
        Blocks without a gain after which the wrapper stops.
    min_gain : float or "auto", default="auto"
        Least gain in the mean score. "auto": more than shuffled features gain, with a chance of 1 %
        that any of the candidates passes by luck (ten of them are tried first).
    smoothing : float or "auto", default="auto"
        Rows that the mean target of all rows counts for in a combination. "auto": as many as the
        spread of the combinations asks for; if they differ no more than by chance, all have the
        same mean.
    min_count : int, default=2
        Combinations in fewer training rows are treated like ones never seen: their count and share
        are 0, their mean target is that of all such rows.
    max_ids : int, default=1_048_576
        Pairs with more combinations than this are hashed into so many.
    n_bins : int or dict of column to int, default=10
        Bins of numeric columns, as in `FieldCrosser`.
    max_rows : int, default=50_000
        The search sees so many rows at most; what it chose is then computed from all.
    max_time : float or None, default=None
        Seconds after which the search stops, with the features that it has.
    append : bool, default=True
        Whether the columns of the table come before the features.
    encoder : FieldEncoder or None, default=None
        As of `FieldCrosser`.
    n_jobs : int or None, default=None
        Processes that fit the folds of the wrapper. The result does not depend on it.
    random_state : int, RandomState or None, default=None

    Attributes
    ----------
    features_ : list of str
        Names of the new columns, such as "count(user, day)", "nunique(day | user)", "share(day |
        user)", "mean(y | user, day)" and "user x day"; with more than two classes "mean(y=c | user,
        day)" for each class c.
    scores_ : ndarray of shape (n_selected,)
        Gain in the wrapper's score of each selected feature (in a block, equal parts), in the order
        of ``features_``; ids have none of their own.
    base_score_ : float
        The wrapper's score of the columns alone.
    pairs_ : list of tuple of str
        Pairs that became features, strongest first.
    pair_scores_ : dict of tuple of str to float
        Strength of every pair: mean over rows of the absolute inner product of the pair's factors.
    interaction_scores_ : dict of tuple of str to float
        The same as ``pair_scores_``.
    crosses_ : list of tuple of str
        Pairs of which a feature was selected, in the order of selection;
        ``FieldCrosser.from_estimator`` takes them.
    stage_counts_ : dict of str to int
        Candidates left after "pairs", "constructed", "filter", "embedded" and "wrapper".
    search_history_ : list of dict
        One record per block of the wrapper: "features", "score", "gain", "min_gain", "taken".
    n_bins_ : dict of str to int
        Bins of the numeric columns.
    field_names_ : list of str
        All columns, by name.
    n_features_in_, feature_names_in_
        As of `FieldCrosser`.

    Notes
    -----
    ``fit(X, y).transform(X)`` is not ``fit_transform(X, y)``: as in scikit-learn's
    ``TargetEncoder``, the latter gives a training row the mean target of rows in four other fifths,
    never its own. A model must be trained on ``fit_transform``, which a pipeline does.

    Of columns that part the rows in the same way (copies, relabelled or not) only the first is
    used; constant and sequence columns are passed on.

    The paper's text was not to be had beyond its abstract. From it are the factorization machine
    that chooses pairs, the construction by paradigms, and selection by several methods in turn;
    formulas and defaults are our own.

    References
    ----------
    .. [1] "AEFE: Automatic Embedded Feature Engineering for Categorical Features".
       https://arxiv.org/abs/2110.09770

    Examples
    --------
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(6000, n_fields=5, cardinality=8, pairs=[(0, 1)], random_state=0)
    >>> aefe = AEFE(paradigms=("target", "concat"), n_pairs=3, random_state=0).fit(X, y)
    >>> aefe.features_
    ['mean(y | f0, f1)', 'f0 x f1']
    >>> aefe.fit_transform(X, y).shape
    (6000, 7)
    """

    _makers = MAKERS
    _parameter_constraints = {
        "estimator": [None, HasMethods(["fit", "predict"])],
        "scoring": [StrOptions({"auto"}), str, callable, None],
        "n_pairs": [Interval(Integral, 1, None, closed="left")],
        "paradigms": [tuple, list],
        "n_factors": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "variance_threshold": [Interval(Real, 0, None, closed="left")],
        "selector": [None, HasMethods(["fit"])],
        "importance_quantile": [Interval(Real, 0, 1, closed="left")],
        "cv": ["cv_object"],
        "max_features": [Interval(Integral, 0, None, closed="left")],
        "block_size": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "min_gain": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "smoothing": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "max_ids": [Interval(Integral, 1, 2**31 - 3, closed="both")],
        "n_bins": [Interval(Integral, 1, 2**20, closed="both"), dict],
        "max_rows": [Interval(Integral, 2, None, closed="left")],
        "max_time": [None, Interval(Real, 0, None, closed="left")],
        "append": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    @stores_parameters
    def __init__(
        self,
        estimator=None,
        *,
        scoring="auto",
        n_pairs=20,
        paradigms=PARADIGMS,
        n_factors=8,
        max_epochs=30,
        variance_threshold=0.0,
        selector=None,
        importance_quantile=0.5,
        cv=3,
        max_features=20,
        block_size=1,
        patience=5,
        min_gain="auto",
        smoothing="auto",
        min_count=2,
        max_ids=2**20,
        n_bins=10,
        max_rows=50_000,
        max_time=None,
        append=True,
        encoder=None,
        n_jobs=None,
        random_state=None,
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit(self, X: Table, y: ArrayLike) -> Self:
        """Find features, then learn their statistics from all rows.

        Parameters
        ----------
        X : any table that `FieldEncoder` reads, of shape (n_rows, n_columns)
            Of a data set (see `ParquetDataset`) about ``sample_rows`` rows are searched, and
            statistics are those of all.
        y : array-like of shape (n_rows,), or str
            Classes, or numbers; of a data set the name of their column.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For targets of one class, or fewer than two with two rows each, and classes that no row
            has which is searched; for parameters out of range, and a new name that is not new.
        KeyboardInterrupt
            If it is stopped before a feature is taken; later on those so far are kept, and a
            `UserWarning` says so.
        """
        if is_dataset(X):
            with opened_blocks(X, y, needs_target=True) as blocks:
                rows, targets, _ = blocks.sample()
                self._fit(rows, targets, blocks)
        else:
            self._fit(X, y)
        return self

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit_transform(self, X: Table, y: ArrayLike) -> Any:
        """Learn from rows and return them with features, target means of other rows (see Notes)."""
        refuse_dataset(X, "fit_transform")
        return self._output(X, self._fit(X, y))

    def _fit(self, X, y, blocks=None):
        """Everything; the new columns of the training rows, one array each, of blocks none."""
        began = time.monotonic()
        validate_parameters(self)
        check_paradigms(self)
        names, columns = read_columns(X, self)
        validate_data(self, X, reset=True, skip_check_array=True)
        self._names = names
        self.field_names_ = labels_of(names, len(columns))
        self._bins = resolve_bins(self.n_bins, names, self.field_names_)
        y = check_y(y, self)
        check_consistent_length(columns[0], y)
        classification, classes, targets = read_targets(y, self)
        rng = check_random_state(self.random_state)
        deadline = math.inf if self.max_time is None else began + self.max_time
        selected = self._search(X, y, targets, classification, classes, rng, deadline)
        # What the search did not choose is not read again.
        used = sorted({i for feature in selected for i in feature.columns}) or [0]
        self._positions = used if self.encoder is None else list(range(len(columns)))
        if blocks is not None:
            labels = np.unique(y) if classification else None
            found = BlockStatistics(selected, self, blocks, self._positions, labels)
            self.encoder_, self._edges = found.encoder, found.edges
            self._statistics = found.statistics
            return []
        self.encoder_, _, self._edges, ids, sizes = encoded(self, X, self._positions)
        self.encoder_.discard_counts()
        folds = random_folds(y, N_FOLDS, rng, classification)
        self._statistics = [Statistic(feature, self) for feature in selected]
        columns = [s.fit_transform(ids, sizes, targets, folds) for s in self._statistics]
        return self._columns(columns, ids)

    def _search(self, X, y, targets, classification, classes, rng, deadline):
        """The selected features; sets what the search is remembered by."""
        encoder, table, _, ids, sizes = encoded(self, X, list(range(self.n_features_in_)))
        if len(y) > self.max_rows:
            rows = np.flatnonzero(
                random_folds(y, -(-len(y) // self.max_rows), rng, classification) == 0
            )
            table, y, targets = table.take(rows), y[rows], targets[rows]
            ids = {i: column[rows] for i, column in ids.items()}
        fields = [group[0] for group in distinct_groups(ids)]
        ids = {i: ids[i] for i in fields}
        numbers = numbers_of(table, encoder, fields)
        categorical = set(fields) - {i for _, i in binned_columns(encoder)}
        with FitProgress(self, X, y).within() as progress:
            search = PairSearch(self, classification, rng, deadline, progress)
            selected = search.run(ids, sizes, categorical, numbers, y, targets)
        if search.interrupted:
            warn_of_interruption(self, f"{len(selected)} features")
        labels = self.field_names_
        self.n_bins_ = {labels[i]: self._bins[i] for _, i in binned_columns(encoder)}
        strengths = search.strengths.items()
        self.pair_scores_ = {tuple(labels[i] for i in pair): score for pair, score in strengths}
        self.pairs_ = list(self.pair_scores_)[: self.n_pairs]
        self.stage_counts_, self.base_score_ = search.counts, search.base_score
        self.scores_ = np.array(search.gains, dtype=np.float64)
        self.search_history_ = [
            record
            | {"features": [name for f in record["features"] for name in f.names(labels, classes)]}
            for record in search.history
        ]
        self.features_, self.crosses_ = names_of(selected, labels, classes, self.paradigms)
        refuse_new_names(labels if self.append else [], self.features_, "feature")
        return selected

    @reads_once
    @takes_rows
    def transform(self, X: Table) -> Any:
        """Rows with their features.

        Parameters
        ----------
        X : table with the columns of ``fit``

        Returns
        -------
        table or array of shape (n_rows, n_columns + n_new)
            The columns of X (unless ``append=False``), then float64 statistics, then int32 ids: 0
            all missing, 1 unseen or rare, 2.. by frequency.
        """
        check_is_fitted(self, "_statistics")
        table = encode_as_fitted(self, X)
        ids = column_ids(table, self.encoder_, self._positions, self._edges)
        return self._output(X, self._columns([s.transform(ids) for s in self._statistics], ids))

    def _columns(self, blocks, ids):
        """New columns in the order of ``features_``, given those of each statistic."""
        numbers, crosses = [], []
        for statistic, block in zip(self._statistics, blocks, strict=True):
            if statistic.feature.kind != "mean" or "target" in self.paradigms:
                numbers += list(block.T)
            if statistic.feature.kind == "mean" and "concat" in self.paradigms:
                own = [ids[i] for i in statistic.feature.columns]
                crosses.append(statistic.combinations.ids(own))
        return [*numbers, *crosses]

    def _output(self, X, columns):
        return append_named(X, dict(zip(self.features_, columns, strict=True)), self.append)

    @reads_once
    def get_feature_names_out(self, input_features: Column = None) -> Array:
        """Names of the columns of ``transform``; see `FieldEncoder.get_feature_names_out`."""
        check_is_fitted(self, "_statistics")
        labels = output_labels(self, self.field_names_, input_features)
        return np.array([*(labels if self.append else []), *self.features_], dtype=object)

    @property
    def interaction_scores_(self):
        return self.pair_scores_

    def __sklearn_tags__(self):
        tags = of_raw_tables(super().__sklearn_tags__())
        tags.target_tags.required = True
        return tags
