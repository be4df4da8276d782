"""GLIDER: crosses from the interactions that a fitted model has learnt."""

from collections import Counter, defaultdict
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import MetaEstimatorMixin, clone, is_classifier
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, validate_data

from ...datasets._table_blocks import (
    is_dataset,
    opened_blocks,
    refuse_dataset,
    takes_datasets,
)
from ...preprocessing._columns import read_columns
from ...preprocessing._names import labels_of
from ...utils._docs import inherits_entries
from ...utils._parameters import stores_parameters
from ...utils._progress import FitProgress
from ...utils._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_y,
    validate_parameters,
    with_callbacks,
)
from ...utils._state import all_or_nothing
from ...utils._typing import Column, Table
from .._crosser_search import CrosserSearch, warn_of_interruption
from .._distinct import distinct_groups
from .._reading import (
    binned_columns,
    checked_encoder,
    column_edges,
    column_ids,
    resolve_bins,
)
from .._threads import one_thread
from ._explaining import check_options, fitted_and_explained, strengths_of
from ._nid import GRADIENT_NID, NID
from ._perturbing import GONE, as_pandas_or_array, take_rows, typical_rows

# Nets trained side by side; what a job gets does not depend on n_jobs, nor does the result.
INSTANCES_PER_JOB = 16


@inherits_entries
class GLIDER(MetaEstimatorMixin, CrosserSearch):
    r"""Find crosses of columns by asking a model which columns it does not treat one by one.

    A row is explained by perturbing it: random sets of its columns are replaced, the model is asked
    again, and a small network learns its answer (log odds, or the predicted number) from the mask
    of what was kept. Sets of columns that the network binds together are interactions, and those
    strongest on average over many rows become crosses.

    Parameters
    ----------
    estimator : estimator
        Any classifier with ``predict_proba`` or any regressor, which takes the table as it is: a
        `CTRClassifier`, or a pipeline that encodes. It is cloned and fitted unless ``prefit``. It
        can only give away what it has learnt: a linear model has no interactions.
    prefit : bool, default=False
        Whether the estimator is fitted already. ``fit`` then needs no y, and explains rows of its
        table, best such that the estimator has not seen.
    detector : {"nid", "gradient_nid"}, default="nid"
        How a network is read: products of its absolute weights, for sets of any size, or squared
        second derivatives, for pairs.
    max_crosses : int, default=10
        Crosses at most.
    max_order : int, default=2
        Columns of a cross at most.
    n_instances : int, default=100
        Rows that are explained.
    n_perturbations : int, default=1000
        Masks of each.
    background : {"row", "typical", "missing"}, default="row"
        What replaces a cell: that of another row, drawn once for each explained one; the most
        frequent value of the column (the median of numbers with fractions); or nothing, for
        estimators that take missing cells (of which networks make a zero or learnt embedding, as in
        the paper).
    validation_fraction : float, default=0.2
        Share of rows that the estimator is not fitted on, and of which the explained ones are
        drawn.
    hidden_units : tuple of int, default=(64, 32)
        Layers of the networks.
    l1 : float, default=2e-3
        Penalty on their absolute weights, "nid" only. The target of a network has unit variance.
    max_epochs : int, default=100
        Epochs of each network at most; it stops earlier when held-out masks do not gain for five
        epochs.
    min_count, max_ids, n_bins, output, append, encoder
        As of `FieldCrosser`, which ``transform`` uses.
    n_jobs : int or None, default=None
        Processes that ask the estimator and train networks. The result does not depend on it.
    random_state : int, RandomState or None, default=None
        Draws rows, masks and initial weights. The estimator has its own.

    Attributes
    ----------
    crosses_ : list of tuple of str
        Columns of each cross, strongest first, by name ("x0", "x1", ... where there are none).
    scores_ : ndarray of shape (n_crosses,)
        Mean strength of each cross over the explained rows, in log odds or the unit of the target
        (squared for "gradient_nid").
    interactions_ : list of tuple of str
        The same as ``crosses_``.
    interaction_scores_ : dict of tuple of str to float
        Mean strength of all sets of columns that came up, strongest first.
    interaction_counts_ : dict of tuple of str to int
        Explained rows in which each set was among the ``max_crosses`` strongest.
    n_bins_ : dict of str to int
        Bins of the numeric columns.
    {field_names_}
    estimator_ : estimator
        The fitted estimator.
    {crosser_, n_features_in_}

    Notes
    -----
    Strengths rank interactions; they do not test them. From a model that fitted noise GLIDER
    returns crosses all the same, and what they are worth shows in a model trained with them.

    Columns that part the rows in the same way (copies, relabelled or not) are replaced together,
    and only the first can be in a cross. Constant and sequence columns are left alone. With several
    classes, the log odds are those of the class that is likeliest for the explained row.

    Departures from the paper and its code: a linear part takes the main effects of a mask, by least
    squares before and jointly during training, without which pure sums of columns look like
    interactions; networks are small; the penalty is larger, since targets are standardised; the
    best epoch is restored; columns are ranked by mean strength instead of by the number of rows in
    whose lists of the hundred strongest they stand (nearly every pair does, with a dozen columns),
    and a set that contains or is contained in a stronger one is dropped; replaced cells come from
    another row, so that any estimator will do (``background="missing"`` is the paper's choice for
    categories).

    References
    ----------
    .. [1] Tsang, M. et al. "Feature Interaction Interpretability: A Case for Explaining
       Ad-Recommendation Systems via Neural Interaction Detection", ICLR 2020.
       https://arxiv.org/abs/2006.10966
    .. [2] Tsang, M., Cheng, D., Liu, Y. "Detecting Statistical Interactions from Neural Network
       Weights", ICLR 2018. https://arxiv.org/abs/1705.04977

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(
    ...     4000, n_fields=5, cardinality=6, pairs=[(0, 1)], ids="category", random_state=0
    ... )
    >>> trees = HistGradientBoostingClassifier(random_state=0)
    >>> glider = GLIDER(trees, max_crosses=1, n_instances=32, random_state=0).fit(X, y)
    >>> glider.crosses_
    [('f0', 'f1')]
    >>> glider.transform(X).columns.tolist()
    ['f0', 'f1', 'f2', 'f3', 'f4', 'f0 x f1']
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit", "predict"])],
        "prefit": ["boolean"],
        "detector": [StrOptions({"nid", "gradient_nid"})],
        "max_crosses": [Interval(Integral, 0, None, closed="left")],
        "max_order": [Interval(Integral, 2, None, closed="left")],
        "n_instances": [Interval(Integral, 1, None, closed="left")],
        "n_perturbations": [Interval(Integral, 2, None, closed="left")],
        "background": [StrOptions({"row", "typical", "missing"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "hidden_units": [tuple, list],
        "l1": [Interval(Real, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "max_ids": [Interval(Integral, 1, 2**31 - 3, closed="both")],
        "n_bins": [Interval(Integral, 1, 2**20, closed="both"), dict],
        "output": [StrOptions({"ids", "onehot"})],
        "append": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    @stores_parameters
    def __init__(
        self,
        estimator,
        *,
        prefit=False,
        detector="nid",
        max_crosses=10,
        max_order=2,
        n_instances=100,
        n_perturbations=1000,
        background="row",
        validation_fraction=0.2,
        hidden_units=(64, 32),
        l1=2e-3,
        max_epochs=100,
        min_count=2,
        max_ids=2**20,
        n_bins=10,
        output="ids",
        append=True,
        encoder=None,
        n_jobs=None,
        random_state=None,
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit(self, X: Table, y: Column = None) -> Self:
        """Fit the estimator, find its interactions, then learn their combinations.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table, array or list of lists, (n_rows, n_columns)
            Other tables and lazy ones are read as `FieldEncoder` reads them.
            The estimator gets DataFrames or arrays. Of a data set (see `ParquetDataset`) about
            ``sample_rows`` rows are drawn, of which the estimator is fitted and explained, and
            combinations are counted in all.
        y : array-like of shape (n_rows,), or str
            As the estimator takes it; of a data set the name of its column. Ignored if ``prefit``,
            but that a column of a data set which it names is left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For targets of one class, a table of one row, parameters out of range, and an estimator
            that is neither a classifier with ``predict_proba`` nor a regressor. What the estimator
            itself raises is passed on.
        KeyboardInterrupt
            If it is stopped before a row is explained; later on the rows so far count, and a
            `UserWarning` says so.
        """
        if is_dataset(X):
            with opened_blocks(X, y, needs_target=not self.prefit) as blocks:
                sample, targets, _ = blocks.sample()
                self._fit(sample, targets)._fit(sample, blocks)
        else:
            self._fit(X, y).fit(X)
        return self

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit_transform(self, X: Table, y: Column = None) -> Any:
        """``fit(X, y).transform(X)``, of rows in memory."""
        refuse_dataset(X, "fit_transform")
        return self._fit(X, y).fit_transform(X)

    def _fit(self, X, y):
        """Everything but fitting ``crosser_``, which it returns."""
        validate_parameters(self)
        check_options(self)
        with FitProgress(self, X, y).within(n_tasks=1 if self.prefit else 2) as progress:
            return self._find(X, y, progress)

    def _find(self, X, y, progress):
        names, columns = read_columns(X, self)
        validate_data(self, X, reset=True, skip_check_array=True)
        labels = labels_of(names, len(columns))
        self.field_names_ = labels
        table = as_pandas_or_array(X)
        rng = check_random_state(self.random_state)
        if self.prefit:
            self.estimator_, rows = self.estimator, rng.permutation(len(table))
        else:
            y = check_y(y, self)
            check_consistent_length(table, y)
            train, rows = fitted_and_explained(
                y, self.validation_fraction, is_classifier(self.estimator), rng
            )
            self.estimator_ = clone(self.estimator)
            with progress.fit_of("fit-estimator", self.estimator_):
                self.estimator_.fit(take_rows(table, train), y[train])
        encoder = checked_encoder(self.encoder)
        encoded = encoder.fit_encode(X)
        positions = list(range(len(columns)))
        n_bins = resolve_bins(self.n_bins, names, labels)
        edges = column_edges(encoder, positions, n_bins)
        self.n_bins_ = {labels[i]: n_bins[i] for _, i in binned_columns(encoder)}
        groups = distinct_groups(column_ids(encoded, encoder, positions, edges))
        found = self._explain(table, rows[: self.n_instances], groups, rng, progress)
        self._rank(found, [labels[group[0]] for group in groups])
        self.crosser_ = self._new_crosser(
            [
                tuple((names or range(len(labels)))[labels.index(name)] for name in cross)
                for cross in self.crosses_
            ],
            n_bins=self.n_bins,
        )
        return self.crosser_

    def _explain(self, table, rows, groups, rng, progress):
        """Strengths of sets of groups for each of some rows, list of dict."""
        if len(groups) < 2 or not self.max_crosses:
            return []
        typical = typical_rows(table) if self.background == "typical" else None
        plan = GRADIENT_NID if self.detector == "gradient_nid" else replace(NID, l1=self.l1)
        plan = replace(plan, hidden_units=tuple(self.hidden_units), max_epochs=self.max_epochs)
        jobs = []
        for start in range(0, len(rows), INSTANCES_PER_JOB):
            own = rows[start : start + INSTANCES_PER_JOB]
            other = rng.randint(len(table), size=len(own))
            # Each job is sent the rows that it needs, not the table.
            if typical is None:
                part = take_rows(table, np.concatenate([own, other]))
                source = np.repeat(len(own) + np.arange(len(own))[:, None], table.shape[1], axis=1)
            else:
                part = take_rows(table, np.concatenate([own, typical]))
                source = np.repeat(len(own) + np.arange(table.shape[1])[None], len(own), axis=0)
            if self.background == "missing":
                source[:] = GONE
            jobs.append((part, source, rng.randint(2**31 - 1)))
        with one_thread(), progress.task("explain", len(jobs)):
            found = Parallel(n_jobs=self.n_jobs, return_as="generator")(
                delayed(strengths_of)(
                    self.estimator_,
                    *job,
                    groups,
                    self.n_perturbations,
                    self.detector,
                    self.max_order,
                    plan,
                )
                for job in jobs
            )
            explained = []
            try:
                for part in progress.each("rows", found):
                    explained += part
            except KeyboardInterrupt:
                if not explained:
                    raise
                warn_of_interruption(self, f"interactions of {len(explained)} rows")
        return explained

    def _rank(self, found, labels):
        """Average over the rows, and choose."""
        total, counts = defaultdict(float), Counter()
        for strengths in found:
            for members, strength in strengths.items():
                total[members] += strength / len(found)
            strongest = sorted(
                (m for m, s in strengths.items() if s > 0), key=lambda m: (-strengths[m], m)
            )
            counts.update(strongest[: self.max_crosses])
        ranked = sorted((m for m, s in total.items() if s > 0), key=lambda m: (-total[m], m))
        chosen = []
        for members in ranked:
            if len(chosen) == self.max_crosses:
                break
            if not any(
                set(members) <= set(other) or set(members) >= set(other) for other in chosen
            ):
                chosen.append(members)
        name = {members: tuple(labels[k] for k in members) for members in ranked}
        self.crosses_ = [name[members] for members in chosen]
        self.interactions_ = list(self.crosses_)
        self.scores_ = np.array([total[members] for members in chosen], dtype=np.float64)
        self.interaction_scores_ = {name[members]: float(total[members]) for members in ranked}
        self.interaction_counts_ = {name[members]: counts[members] for members in ranked}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator).input_tags
        tags.input_tags.allow_nan = inner.allow_nan
        tags.input_tags.categorical = inner.categorical
        tags.input_tags.string = inner.string
        tags.target_tags.required = not self.prefit
        return tags
