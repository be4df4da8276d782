"""AutoCross: automatic feature crossing by greedy search over a field-wise model."""

import math
import time
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.utils import ClassifierTags
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length, validate_data

from ...datasets._table_blocks import is_dataset, opened_blocks, refuse_dataset, takes_datasets
from ...preprocessing._columns import read_columns
from ...utils._docs import inherits_entries
from ...utils._parameters import stores_parameters
from ...utils._progress import FitProgress
from ...utils._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_y,
    of_raw_tables,
    validate_parameters,
    with_callbacks,
)
from ...utils._state import all_or_nothing
from ...utils._typing import ArrayLike, Table
from .._crosser import SEPARATOR
from .._crosser_search import CrosserSearch, warn_of_interruption
from .._reading import checked_encoder, column_ids, column_sizes
from ._cross_search import CrossSearch
from ._preparing import best_bins, split_rows


@inherits_entries
class AutoCross(CrosserSearch):
    r"""Find crosses of columns that help a linear model, and add them as columns.

    Starting from the single columns, every union of two members of the current set (columns and
    crosses found so far) is a candidate. Each is scored alone: its weights, one per combination of
    values, are trained with the model so far as a fixed offset,

    .. math:: \hat y = \sigma(w_{\mathrm{new}}\, x_{\mathrm{new}} + b), \qquad b = w_c\, x_c,

    and judged on held-out rows. Candidates first see few rows; again and again the better half goes
    on with twice as many. The winner joins the set, all weights are fitted again, and the search
    goes on until no candidate gains enough.

    Parameters
    ----------
    max_crosses : int, default=10
        Crosses at most.
    max_order : int, default=4
        Columns of a cross at most.
    beam_width : int, default=1
        Sets of crosses that are followed at the same time; 1 is the paper's greedy search.
    n_bins : int or tuple of int, default=(5, 20, 100)
        Granularities of numeric columns: each is cut into that number of bins (of about equally
        many rows, see `FieldCrosser`) which predicts best by itself.
    scoring : {"log_loss", "roc_auc"}, default="log_loss"
        What the held-out rows judge: the loss (log loss, or squared error of numbers) or the area
        under the curve.
    min_gain : float or "auto", default="auto"
        Least gain in the score for a cross to be taken. "auto": so much that, were no candidate of
        any use, one would be taken with a probability of 5 % at most (a one-sided test of the gain
        in loss over its standard error, corrected for the number of candidates; on noise it was
        about 1 %).
    l2 : float or "auto", default="auto"
        L2 penalty of the weights during the search; "auto" estimates it for each column and cross
        from the spread of its gradients, so that crosses of many values are shrunk as much as they
        need.
    n_blocks : int or "auto", default="auto"
        Into how many blocks the training rows are cut; the first round sees one. "auto" is the
        paper's :math:`2^{\lceil \log_2 n_{\mathrm{candidates}} \rceil - 1}`, or less to have 20,000
        rows in the first round.
    validation_fraction : float, default=0.2
        Share of rows that judge.
    n_folds : int or "auto", default="auto"
        1: one part of the rows is held out. More: so many parts (no more than the rows of a class)
        are held out in turn, with a model for each; all rows judge, so that weaker crosses are told
        from noise. "auto": one over ``validation_fraction`` up to 50,000 rows, 1 beyond.
    loss : {"auto", "log_loss", "squared_error"}, default="auto"
        "auto" is "log_loss" for two classes and "squared_error" for floats with fractions. Ratings
        that are whole numbers need "squared_error"; more than two classes are refused.
    max_time : float or None, default=None
        Seconds after which the search stops, with the crosses that it has.
    min_count, max_ids, output, append, encoder
        As of `FieldCrosser`, which ``transform`` uses.
    scale : bool, default=True
        With ``output="onehot"``, whether indicators are multiplied by ``scales_``, so that
        ``LogisticRegression(C=1)`` or ``Ridge(alpha=1)`` shrinks each column and cross as much as
        the search found best.
    random_state : int, RandomState or None, default=None
        Draws the held-out rows and shuffles the others.

    Attributes
    ----------
    crosses_ : list of tuple of str
        Columns of each cross in the order found, by name ("x0", "x1", ... where there are none).
    scores_ : ndarray of shape (n_crosses,)
        Gain of each cross in the score of the held-out rows, with all weights fitted again.
    interaction_scores_ : dict of tuple of str to float
        The same by cross; of others no score is kept.
    base_score_ : float
        Score of the single columns: AUC, or minus the loss.
    search_history_ : list of dict
        One record per cross: "epoch" (its number), "cross" (tuple of names), "score", "gain" (after
        fitting all weights again), "t" (gain in loss of the cross alone over its standard error),
        "n_candidates", "rounds" (pairs of candidates and training rows), "seconds".
    n_bins_ : dict of str to int
        Chosen granularity of each numeric column.
    scales_ : dict of str to float
        Of each column ("user") and cross ("user x day") the standard deviation of its weights as
        estimated by the search, 0 where they are not told apart from 0 (of numbers: over that of
        the residuals).
    {field_names_, crosser_, n_features_in_}

    Notes
    -----
    Crosses of three columns are reached through two of them only: where no pair of a triple gains
    by itself, the triple is not found (the paper assumes this order of priority). A wider beam does
    not change that.

    Departures from the paper: bins hold equally many rows instead of having equal width, so that
    skewed columns are not left in one bin; a candidate's weights take Newton steps on all rows of
    its block, which is exact for a single field, instead of mini-batch gradient steps; the penalty
    is estimated; the search stops at gains that noise explains, while the paper stops when the
    validation score falls; each round judges by no more held-out rows than it has training rows;
    small tables hold out all rows in turn.

    Several classes are not supported; sequence columns are passed on, not crossed.

    References
    ----------
    .. [1] Luo, Y. et al. "AutoCross: Automatic Feature Crossing for Tabular Data in Real-World
       Applications", KDD 2019. https://arxiv.org/abs/1904.12857

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(8000, n_fields=5, cardinality=8, pairs=[(0, 1)], random_state=0)
    >>> cross = AutoCross(random_state=0).fit(X, y)
    >>> cross.crosses_
    [('f0', 'f1')]
    >>> model = make_pipeline(AutoCross(output="onehot", random_state=0), LogisticRegression()).fit(
    ...     X, y
    ... )
    """

    _parameter_constraints = {
        "max_crosses": [Interval(Integral, 0, None, closed="left")],
        "max_order": [Interval(Integral, 2, None, closed="left")],
        "beam_width": [Interval(Integral, 1, None, closed="left")],
        "n_bins": [Interval(Integral, 1, 2**20, closed="both"), tuple, list],
        "scoring": [StrOptions({"log_loss", "roc_auc"})],
        "min_gain": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "l2": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "n_blocks": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_folds": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions({"auto", "log_loss", "squared_error"})],
        "max_time": [None, Interval(Real, 0, None, closed="left")],
        "min_count": [Interval(Integral, 1, None, closed="left")],
        "max_ids": [Interval(Integral, 1, 2**31 - 3, closed="both")],
        "output": [StrOptions({"ids", "onehot"})],
        "append": ["boolean"],
        "scale": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "random_state": ["random_state"],
    }

    @stores_parameters
    def __init__(
        self,
        max_crosses=10,
        *,
        max_order=4,
        beam_width=1,
        n_bins=(5, 20, 100),
        scoring="log_loss",
        min_gain="auto",
        l2="auto",
        n_blocks="auto",
        validation_fraction=0.2,
        n_folds="auto",
        loss="auto",
        max_time=None,
        min_count=2,
        max_ids=2**20,
        output="ids",
        append=True,
        encoder=None,
        scale=True,
        random_state=None,
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit(self, X: Table, y: ArrayLike) -> Self:
        """Search for crosses, then learn their combinations.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table, array or list of lists, (n_rows, n_columns),
            or any other that `FieldEncoder` reads. Of a data set (see `ParquetDataset`) about
            ``sample_rows`` rows are searched, and combinations are counted in all.
        y : array-like of shape (n_rows,), or str
            Two classes, or numbers; of a data set the name of their column.

        Returns
        -------
        self

        Raises
        ------
        OSError
            If a block of a data set cannot be read.
        ValueError
            For targets of one class or of more than two, or too few rows to hold any out; and as
            `FieldCrosser`.
        KeyboardInterrupt
            If it is stopped before a cross is found. Later on, the crosses found so far are kept
            and a `UserWarning` says so.
        """
        if is_dataset(X):
            with opened_blocks(X, y, needs_target=True) as blocks:
                sample, targets, _ = blocks.sample()
                crosser = self._fit(sample, targets)
                crosser._fit(sample, blocks)
        else:
            self._fit(X, y).fit(X)
        return self

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit_transform(self, X: Table, y: ArrayLike) -> Any:
        """``fit(X, y).transform(X)``, of rows in memory."""
        refuse_dataset(X, "fit_transform")
        return self._fit(X, y).fit_transform(X)

    def _fit(self, X, y):
        """Everything but fitting ``crosser_``, which it returns."""
        began = time.monotonic()
        validate_parameters(self)
        names, columns = read_columns(X, self)
        validate_data(self, X, reset=True, skip_check_array=True)
        target, logistic = self._target(y)
        check_consistent_length(columns[0], target)
        rows, folds = split_rows(
            target, logistic, self.n_folds, self.validation_fraction, self.random_state
        )
        n_train, y, unit = folds[0].start, target[rows], 1.0
        if not logistic:  # what steps and tolerances are made for
            unit = float(y[:n_train].var()) or 1.0
            y = (y - y[:n_train].mean()) / math.sqrt(unit)
        granularities = self._granularities()
        encoder = checked_encoder(self.encoder)
        table = encoder.fit_encode(X)
        labels, positions = encoder._schema.column_labels, list(range(len(columns)))
        bins, edges = best_bins(table, encoder, granularities, y, rows, n_train, logistic, self.l2)
        ids = {
            i: column[rows]
            for i, column in sorted(column_ids(table, encoder, positions, edges).items())
        }
        # A constant column makes every cross equal to its other part.
        varying = {i: column for i, column in ids.items() if (column[:n_train] != column[0]).any()}
        del table
        deadline = math.inf if self.max_time is None else began + self.max_time
        sizes = column_sizes(encoder, positions, edges)
        search = CrossSearch(
            varying, {i: sizes[i] for i in varying}, y, folds, self, logistic, unit, deadline
        )
        with FitProgress(self, X, y).within(n_tasks=1) as search.progress:
            try:
                search.run()
            except KeyboardInterrupt:
                if search.best is None or not search.best.crosses:
                    raise
                warn_of_interruption(self, f"{len(search.best.crosses)} crosses")
        best, self.base_score_ = search.best, search.base_score
        self.field_names_ = list(labels)
        self.n_bins_ = {labels[i]: n_bins for i, n_bins in bins.items()}
        self.crosses_ = [tuple(labels[i] for i in cross) for cross in best.crosses]
        self.scores_ = np.array(best.gains, dtype=np.float64)
        named = [*(labels[i] for i in varying), *map(SEPARATOR.join, self.crosses_)]
        spreads = np.sqrt(
            np.mean(np.square([model.spreads() for model in best.models]), axis=0)
        ).tolist()
        self.scales_ = {labels[i]: 0.0 for i in ids} | dict(zip(named, spreads, strict=True))
        self.search_history_ = [
            {**record, "cross": cross}
            for record, cross in zip(best.records, self.crosses_, strict=True)
        ]
        self.crosser_ = self._new_crosser(
            [tuple(i if names is None else names[i] for i in cross) for cross in best.crosses],
            n_bins={i if names is None else names[i]: n for i, n in bins.items()} or 10,
            scales=self.scales_ if self.scale else None,
        )
        return self.crosser_

    def _target(self, y):
        """The target as float64 and whether it is 0/1."""
        y = check_y(y, self)
        kind = type_of_target(y, input_name="y")
        if self.loss == "squared_error" or (self.loss == "auto" and kind == "continuous"):
            if self.scoring == "roc_auc":
                raise ValueError(
                    'scoring="roc_auc" needs a target of two classes, got numbers; use '
                    'scoring="log_loss".'
                )
            return check_y(y, self, y_numeric=True).astype(np.float64), False
        classes = np.unique(y)
        if len(classes) != 2:
            hint = ' For ratings give loss="squared_error".' if len(classes) > 2 else ""
            raise ValueError(
                f"y must have two classes (or be numbers with loss='squared_error'), got "
                f"{len(classes)} class(es) in "
                f"{len(y)} sample(s), such as {classes[:5].tolist()}.{hint}"
            )
        return (y == classes[1]).astype(np.float64), True

    def _granularities(self):
        found = [self.n_bins] if isinstance(self.n_bins, Integral) else list(self.n_bins)
        ok = found and all(
            isinstance(n, Integral) and not isinstance(n, bool) and 1 <= n <= 2**20 for n in found
        )
        if not ok:
            raise ValueError(
                f"n_bins must be one or more ints in [1, {2**20}], got {self.n_bins!r}."
            )
        return sorted(found)

    @property
    def interaction_scores_(self):
        return dict(zip(self.crosses_, self.scores_.tolist(), strict=True))

    def __sklearn_tags__(self):
        tags = of_raw_tables(super().__sklearn_tags__())
        tags.target_tags.required = True
        # Of y, which decides what is searched.
        tags.classifier_tags = ClassifierTags(multi_class=False)
        return tags
