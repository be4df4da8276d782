"""FieldSelector: any gate method as a transformer."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from ..base import resolve_network
from ..datasets._table_blocks import is_dataset, opened_blocks, takes_datasets
from ..engine import EncodedTensors
from ..estimators import CTRClassifier, RatingRegressor
from ..estimators._settings import MOST_EPOCHS
from ..nn import BuildContext, mask_from_text
from ..preprocessing._dicts import eager_as_fitted, frame_of_dicts, is_dicts, kept_columns
from ..preprocessing._names import compare_names
from ..utils._defaults import ComponentEstimator
from ..utils._docs import inherits_entries
from ..utils._frames import table_names
from ..utils._parameters import stores_parameters
from ..utils._progress import FitProgress
from ..utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    of_raw_tables,
    safe_indexing,
    validate_parameters,
    with_callbacks,
)
from ..utils._state import all_or_nothing, reads_once
from ..utils._typing import ArrayLike, Column, Table
from ._gates._autofield import AutoField
from ._gates._fields import usable_fields, with_unusable_last

# What stands for components that are given by name, or left out, when a parameter of them is set.
MAKERS = {
    "network": lambda network, parameter: resolve_network(network),
    "method": lambda method, parameter: AutoField(),
}
UNKNOWN = 1  # id of a value that is not kept


def usable_columns(encoder, X):
    """`usable_fields` of a table, bool (n_fields,), in the order of the encoder's fields."""
    data = EncodedTensors.from_table(encoder.encode(X), "cpu")
    return usable_fields(data, BuildContext.of_encoder(encoder))


@inherits_entries
class FieldSelector(CallbackSupportMixin, SelectorMixin, ComponentEstimator):
    """Keep the columns that a gate method finds useful; a table in, a table of fewer columns out.

    The search runs inside a `CTRClassifier`, or a `RatingRegressor` where the target is continuous.
    What is kept can feed any estimator.

    Parameters
    ----------
    method : search method or None, default=None
        Of the "gate" slot: `AutoField` (which None stands for), `LPFS`, `OptFS` or `AdaFS`.
    network : str or Network, default="mlp"
        The network around the gates.
    n_features_to_select : "auto", int or float in (0, 1), default="auto"
        How many columns to keep, or which share, the best by ``scores_``. "auto" is what the method
        keeps; for `AdaFS`, which drops nothing, columns of at least average weight that are neither
        constant nor copies.
    estimator : CTRClassifier, RatingRegressor or None, default=None
        Everything else about the search: learning rate, epochs, encoder, device. Its ``network``
        and ``search`` are not used, nor its validation rows, and its own final training takes one
        epoch.
    random_state : int, RandomState instance or None, default=None
        Of the search; None leaves the estimator's.

    Attributes
    ----------
    support_ : ndarray of bool (n_columns,)
        Which columns are kept.
    scores_ : ndarray of float (n_columns,)
        Larger is more useful; comparable within one search only.
    ranking_ : ndarray of int (n_columns,)
        1 for the best column.
    architecture_ : dict
        What the search found, as plain values.
    encoder_ : FieldEncoder
        Says which id a value has.
    value_support_ : dict of str to ndarray of bool (n_ids,), only with `OptFS`
        Which ids of each kept categorical column stay what they are.
    {n_features_in_, feature_names_in_}

    Notes
    -----
    With `OptFS`, which keeps single values, categorical columns come out as the ids of
    ``encoder_``, int64: 0 is missing, 1 is what is rare, unknown or not kept, 2 and more are the
    kept values. Other columns, and all columns with other methods, come out as they are.

    Of a DataFrame a DataFrame is made, of everything else an array; ``set_output`` works as usual.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.feature_selection import AutoField, FieldSelector
    >>> X, y, truth = make_ctr(
    ...     4000,
    ...     n_fields=4,
    ...     pairs=[],
    ...     informative_fields=[2],
    ...     main_effect=2,
    ...     ids="int",
    ...     random_state=0,
    ... )
    >>> search = CTRClassifier(lr=0.01, max_epochs=6)
    >>> select = FieldSelector(
    ...     AutoField(), n_features_to_select=1, estimator=search, random_state=0
    ... )
    >>> pipe = Pipeline([("select", select), ("clf", HistGradientBoostingClassifier())]).fit(X, y)
    >>> pipe["select"].get_feature_names_out().tolist()
    ['f2']
    """

    _makers = MAKERS
    _parameter_constraints: dict = {
        "method": [None, HasMethods(["build", "derive", "search"])],
        "network": [str, HasMethods("build")],
        "n_features_to_select": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(Real, 0, 1, closed="neither"),
        ],
        "estimator": [None, HasMethods(["fit", "set_params"])],
        "random_state": ["random_state"],
    }

    @stores_parameters
    def __init__(
        self,
        method=None,
        network="mlp",
        n_features_to_select="auto",
        *,
        estimator=None,
        random_state=None,
    ):
        """Store the parameters."""

    @all_or_nothing
    @takes_datasets
    @with_callbacks
    def fit(self, X: Table, y: ArrayLike, sample_weight: Column = None) -> Self:
        """Search.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)
            Of a data set (see `ParquetDataset`) all rows are searched, block by block, as
            ``CTRClassifier.fit`` does it.
        y : array-like of shape (n_rows,), or str
            Labels, or ratings; of a data set the name of their column.
        sample_weight : array-like of shape (n_rows,), str or None, default=None
            Of a data set the name of a column.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``n_features_to_select`` is more than there are columns, or y has a single class.
        OSError
            If a block of a data set cannot be read.
        """
        if is_dataset(X):
            with opened_blocks(X, y, sample_weight, needs_target=True) as blocks:
                rows, targets, _ = blocks.sample()
                return self._fit(blocks.dataset, y, sample_weight, rows, targets)
        return self._fit(X, y, sample_weight, X, y)

    def _fit(self, X, y, sample_weight, rows, targets):
        """Search a table or a data set, of which ``rows`` with ``targets`` are a sample."""
        validate_parameters(self)
        method = AutoField() if self.method is None else clone(self.method)
        if getattr(method, "slot", None) != "gate":
            raise ValueError(
                f"method must search the 'gate' slot, such as AutoField(), got {self.method!r}."
            )
        model = self._searcher(targets)
        model.set_params(
            network=self.network, search=method, early_stopping=False, warm_start=False
        )
        model.set_params(
            search_epochs=model.search_epochs or model.max_epochs or MOST_EPOCHS, max_epochs=1
        )
        with (
            FitProgress(self, X, y).within(n_tasks=1) as progress,
            progress.fit_of("search", model),
        ):
            model.fit(X, y, sample_weight=sample_weight)
        if model.net_ is None:
            raise ValueError(
                f"y has one class, {model.classes_.tolist()[0]!r}: no column can be better than "
                f"another."
            )
        encoder, gate = model.encoder_, model.architecture_["gate"]
        columns = np.concatenate(
            [encoder.categorical_, encoder.numeric_, encoder.sequence_, encoder.vector_]
        ).astype(int)
        scores, usable = (
            np.full(encoder.n_features_in_, -np.inf),
            np.zeros(encoder.n_features_in_, bool),
        )
        # A column that is an id and a number has two fields, of which the better one counts.
        np.maximum.at(scores, columns, gate["scores"])
        # Of a method that drops none, and cares for none that can only mislead.
        if "fields" not in gate:
            np.logical_or.at(usable, columns, usable_columns(encoder, rows))
            usable[scores.argmax()] |= not usable.any()
            scores = with_unusable_last(scores, usable)
        support = np.zeros(len(scores), bool)
        if isinstance(self.n_features_to_select, str):
            support[
                columns[gate["fields"]]
                if "fields" in gate
                else usable & (scores >= scores[usable].mean())
            ] = True
        else:
            support[np.argsort(-scores, kind="stable")[: self._n_kept(len(scores))]] = True
        self.encoder_ = encoder
        self.architecture_ = model.architecture_
        self.support_ = support
        self.scores_ = scores
        self.ranking_ = np.empty(len(scores), int)
        self.ranking_[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
        self.n_features_in_ = encoder.n_features_in_
        for name in ("feature_names_in_", "value_support_"):
            self.__dict__.pop(name, None)
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_
        if "values" in gate:
            kept = np.split(mask_from_text(gate["values"])[:, 0], np.cumsum(encoder.n_ids_)[:-1])
            names = encoder.field_names_
            self.value_support_ = {
                str(names[f]): kept[f]
                for f, column in enumerate(encoder.categorical_)
                if support[column]
            }
        return self

    def _searcher(self, y):
        if self.estimator is not None:
            if not isinstance(self.estimator, CTRClassifier | RatingRegressor):
                raise TypeError(
                    f"estimator must be a CTRClassifier or a RatingRegressor, got "
                    f"{self.estimator!r}."
                )
            model = clone(self.estimator)
        elif y is not None and type_of_target(y) == "continuous":
            model = RatingRegressor()
        else:
            model = CTRClassifier()
        return (
            model if self.random_state is None else model.set_params(random_state=self.random_state)
        )

    def _n_kept(self, n):
        wanted = self.n_features_to_select
        if isinstance(wanted, Integral) and wanted > n:
            raise ValueError(f"n_features_to_select={wanted} is more than the {n} columns.")
        return wanted if isinstance(wanted, Integral) else max(round(wanted * n), 1)

    def _get_support_mask(self):
        check_is_fitted(self, "support_")
        return self.support_

    @reads_once
    def transform(self, X: Table) -> Any:
        """The kept columns.

        Parameters
        ----------
        X : table of shape (n_rows, n_columns)

        Returns
        -------
        table of shape (n_rows, n_kept)
            A DataFrame of the same kind if X is one (with `OptFS` of pandas), else an array.
        """
        check_is_fitted(self, "support_")
        fitted = getattr(self.encoder_, "estimator", self.encoder_)._schema.names
        if is_dicts(X):
            X = frame_of_dicts(X, fitted, self)
        if hasattr(self, "value_support_"):
            X = eager_as_fitted(X, self, fitted)
        kept = kept_columns(X, self, fitted, self.support_)
        if kept is not None:
            return kept
        frame = hasattr(X, "columns")
        X = validate_data(
            self,
            X,
            reset=False,
            dtype=None,
            ensure_all_finite="allow-nan" if not frame else False,
            skip_check_array=frame,
        )
        compare_names(self, table_names(X), fitted)
        kept = safe_indexing(X, np.flatnonzero(self.support_), axis=1)
        return self._with_ids(X, kept) if hasattr(self, "value_support_") else kept

    def _with_ids(self, X, kept):
        """Kept columns, the categorical ones as ids."""
        ids = self.encoder_.encode(X).ids
        places = np.cumsum(self.support_) - 1
        if hasattr(X, "columns"):
            out = kept.copy() if isinstance(kept, pd.DataFrame) else kept.to_pandas()
        else:
            out = kept.astype(object if kept.dtype.kind in "OUS" else kept.dtype)
        schema = self.encoder_._schema
        for f, column in enumerate(self.encoder_.categorical_):
            if schema.categorical[f] in schema.time_fields:
                continue  # several fields of one column, which stays as it is
            if self.support_[column]:
                own = self.value_support_[str(self.encoder_.field_names_[f])]
                values = np.where(own[ids[:, f]], ids[:, f], UNKNOWN).astype(np.int64)
                if isinstance(out, pd.DataFrame):
                    out.isetitem(places[column], values)
                else:
                    out[:, places[column]] = values
        return out

    def __sklearn_tags__(self):
        tags = of_raw_tables(super().__sklearn_tags__())
        tags.target_tags.required = True
        return tags
