"""What the two crossed linear models share."""

from numbers import Integral, Real
from typing import Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data

from ..feature_crossing._crosser import SEPARATOR
from ..feature_crossing._reading import check_as_fitted, checked_encoder, warn_of_vectors
from ..preprocessing._columns import read_columns
from ..preprocessing._dicts import eager_as_fitted, is_dicts
from ..utils._frames import takes_frames
from ..utils._parameters import stores_parameters
from ..utils._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
    of_raw_tables,
    safe_indexing,
    validate_parameters,
)
from ..utils._state import all_or_nothing, reads_once
from ..utils._typing import ArrayLike, Column, Table
from ._core import CrossedLinear, CrossedLinearOptions
from ._naming import value_names_of


class CrossedLinearBase(BaseEstimator):
    """What classifier and regressor share.

    Parameters
    ----------
    max_crosses : int, default=10
        Crosses at most; 0 leaves a linear model of single columns.
    max_order : int, default=4
        Columns of a cross at most.
    n_bins : int or tuple of int, default=(5, 20, 100)
        Granularities of numeric columns. Each number has one weight for its bin at every
        granularity, the coarse ones taking what the fine ones need not tell; the sum is kept. In
        crosses it has the granularity that predicts best by itself.
    min_count : float, default=2
        Combinations of fewer training rows (or less weight) share the weight of unseen ones.
    l2 : float or "auto", default="auto"
        L2 penalty: l2 / 2 times the squared weights. "auto" estimates one for each column,
        granularity and cross from how much its values differ beyond chance.
    min_gain : float or "auto", default="auto"
        Least gain in the loss of held-out rows for a cross to be taken; see `AutoCross`.
    n_folds : int or "auto", default="auto"
        Parts of the rows that are held out in turn during the search; see `AutoCross`.
    encoder : FieldEncoder or None, default=None
        Tells how columns are read, such as ``FieldEncoder(categorical_features=["user"])``. It is
        cloned.
    random_state : int, RandomState or None, default=None
        Draws the held-out rows of the search.
    verbose : int, default=0
        Print a line about what was found.

    Attributes
    ----------
    crosses_ : list of tuple of str
        Columns of each cross.
    coefficients_ : DataFrame
        Every weight, with term, value and training rows.
    encoder_ : FieldEncoder
        The fitted encoder.
    """

    _parameter_constraints: dict = {
        "max_crosses": [Interval(Integral, 0, None, closed="left")],
        "max_order": [Interval(Integral, 2, None, closed="left")],
        "n_bins": [Interval(Integral, 1, 2**20, closed="both"), tuple, list],
        "min_count": [Interval(Real, 0, None, closed="neither")],
        "l2": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "min_gain": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "n_folds": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @stores_parameters
    def __init__(
        self,
        max_crosses=10,
        *,
        max_order=4,
        n_bins=(5, 20, 100),
        min_count=2,
        l2="auto",
        min_gain="auto",
        n_folds="auto",
        encoder=None,
        random_state=None,
        verbose=0,
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_frames
    def fit(self, X: Table, y: ArrayLike, sample_weight: Column = None) -> Self:
        """Search for crosses and fit all weights.

        Parameters
        ----------
        X : DataFrame (pandas, polars), pyarrow Table, array or list of lists, (n_rows, n_columns)
            Raw columns: text, integers (ids), floats (numbers), lists, missing cells. Other tables
            and lazy ones are read as `FieldEncoder` reads them.
        y : array-like of shape (n_rows,)
            Labels, or numbers of a regressor.
        sample_weight : array-like of shape (n_rows,), default=None
            A row of weight 2 counts as two rows; a zero is the same as leaving the row out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For labels of a single class, numbers whose variance overflows, weights that are
            negative or all zero, and what `FieldEncoder` refuses.
        """
        validate_parameters(self)
        granularities = self._granularities()
        _, columns = read_columns(X, self)
        validate_data(self, X, reset=True, skip_check_array=True)
        target = self._checked_target(y)
        check_consistent_length(columns[0], target)
        weight = None
        if sample_weight is not None:
            weight = check_sample_weight(
                sample_weight, target.reshape(-1, 1), dtype=np.float64, ensure_non_negative=True
            )
            kept = np.flatnonzero(weight > 0)
            if not len(kept):
                raise ValueError(
                    "sample_weight must have at least one positive value, got only zeros."
                )
            if len(kept) < len(
                target
            ):  # rows of no weight leave no trace, not even in the vocabulary
                X, target, weight = safe_indexing(X, kept), target[kept], weight[kept]
        targets, weight, logistic = self._targets(target, weight)
        encoder = checked_encoder(self.encoder)
        table = encoder.fit_encode(X)
        warn_of_vectors(encoder, "The linear model")
        options = CrossedLinearOptions(
            self.max_crosses,
            self.max_order,
            granularities,
            self.min_count,
            self.l2,
            self.min_gain,
            self.n_folds,
        )
        model = CrossedLinear(options).fit(
            table, encoder, targets, weight, logistic, self.random_state
        )
        self._publish(encoder.discard_counts(), model)
        if self.verbose:
            found = "; ".join(
                f"{' x '.join(c)} ({g:.3g})"
                for c, g in zip(self.crosses_, self.scores_, strict=True)
            )
            print(
                f"[{type(self).__name__}] {len(target)} rows, {model.terms.n_weights} weights, "
                f"crosses: {found or 'none'}"
            )
        return self

    def _publish(self, encoder, model):
        """Set what was fitted (here or when a model file is read)."""
        self.encoder_, self.model_ = encoder, model
        names = encoder.field_names_
        self.crosses_ = [tuple(names[i] for i in cross) for cross in model.crosses]
        self.scores_ = np.array(model.gains, dtype=np.float64)

    def _granularities(self):
        found = [self.n_bins] if isinstance(self.n_bins, Integral) else list(self.n_bins)
        if not found or not all(
            isinstance(n, Integral) and not isinstance(n, bool) and 1 <= n <= 2**20 for n in found
        ):
            raise ValueError(
                f"n_bins must be one or more ints in [1, {2**20}], got {self.n_bins!r}."
            )
        return tuple(sorted(set(found)))

    def _encode(self, X):
        check_is_fitted(self, "model_")
        names = self.encoder_._schema.names
        if not is_dicts(X):  # which the encoder compares with its columns
            X = eager_as_fitted(X, self, names)
            check_as_fitted(self, X, names)
        return self.encoder_.encode(X)

    def _logits(self, X):
        table = self._encode(X)
        return self.model_.logits(table)

    # explain
    # -------------------------------------------------------------------------------------------

    @property
    def term_names_(self) -> list[str]:
        """Names of the terms: columns, then crosses ("user x day"). A column that is read twice has
        two.
        """
        check_is_fitted(self, "model_")
        return [*self.encoder_.field_names_, *map(SEPARATOR.join, self.crosses_)]

    @property
    def coefficients_(self) -> pd.DataFrame:
        """Every weight that a row of training had.

        DataFrame with columns "term", "value" (text; numbers as intervals in their own unit),
        "weight" (logits, or the unit of the target; one column "weight of <class>" each if there
        are several classes) and "rows" (training rows, or their weight)."""
        check_is_fitted(self, "model_")
        model, frames = self.model_, []
        for name, values, start in zip(
            self.term_names_,
            value_names_of(model, self.encoder_),
            model.terms.offsets,
            strict=False,
        ):
            at = slice(start, start + len(values))
            frame = {"term": name, "value": values}
            for label, weights in zip(self._weight_names(), model.weights, strict=True):
                frame[label] = weights[at]
            frames.append(pd.DataFrame({**frame, "rows": model.rows[at]}))
        table = pd.concat(frames, ignore_index=True)
        return table[table["rows"] > 0].reset_index(drop=True)

    def _weight_names(self):
        return ["weight"]

    @reads_once
    def explain(self, X: Table) -> pd.DataFrame:
        """What each term adds to the prediction of each row.

        Parameters
        ----------
        X : table with the columns of ``fit``

        Returns
        -------
        DataFrame of shape (n_rows, 1 + n_terms)
            "intercept", then the terms, in logits or in the unit of the target; their sum is
            ``decision_function``, or ``predict`` of a regressor. Several classes have columns of
            two levels, class and term.
        """
        table = self._encode(X)
        model = self.model_
        ids, place = model.term_ids(table), np.array(model.terms.term_of_places(), dtype=np.int64)
        names, index = (
            ["intercept", *self.term_names_],
            X.index if isinstance(X, pd.DataFrame) else None,
        )
        frames = []
        for weights, bias in zip(model.weights, model.bias, strict=True):
            parts = np.zeros((len(table), len(names)))
            parts[:, 0] = bias
            for column, term in enumerate(place):
                parts[:, 1 + term] += weights[ids[:, column]]
            frames.append(pd.DataFrame(parts, columns=names, index=index))
        return (
            frames[0]
            if len(frames) == 1
            else pd.concat(dict(zip(self.classes_, frames, strict=True)), axis=1)
        )

    def __sklearn_tags__(self):
        return of_raw_tables(super().__sklearn_tags__())
