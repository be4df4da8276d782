"""What the two estimators share: the steps of a fit, what a fit has found, logits."""

import copy
import dataclasses
import warnings
from typing import Any, Self

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ..base import without_fit_only
from ..datasets._sources import is_dataset, opened, table_or_dataset
from ..engine import EncodedTensors, FieldNet, forward_in_chunks
from ..engine._serving_form import device_of, serving_net
from ..engine._time_limit import TimeLimit
from ..engine._training import memory_explained
from ..exceptions import ConvergenceWarning
from ..nn import Members
from ..preprocessing import FieldEncoder
from ..preprocessing._describe import as_html
from ..utils._frames import eager
from ..utils._sklearn import CallbackSupportMixin, of_raw_tables, validate_parameters
from ..utils._state import reads_once, snapshot
from . import _results
from ._checks import check_chunk, check_components
from ._datasets import as_table, comes_in_blocks, streamed, tables_of
from ._fitted import Fitted, publish, warn_of_single_class
from ._parameters import FieldParameters
from ._prepare import prepare_chunk, prepare_fit
from ._rows import encoded_rows, validation_rows, weighs_nothing
from ._specialized import can_specialize, pickled, specialized
from ._stages import fit_anew, go_on, n_tasks, rolled_back
from ._streaming import stream
from ._targets import target_of
from ._together import check_same_rows, joined
from ._vectors import embeddings_of
from ._vocabularies import grows


class FieldEstimator(CallbackSupportMixin, FieldParameters):
    """Base of `CTRClassifier` and `RatingRegressor`: everything but labels and outputs.

    A subclass says by ``_target_kind`` what it learns: `ClassTarget` or `RatingTarget`.
    """

    _target_kind: type

    # Parameters up to which ``fit`` with ``warm_start=True`` goes on; the searches of
    # model_selection read it.
    warm_start_until = ("max_epochs",)

    @property
    def fit_only(self):
        """Names of parameters that model files leave out, code among them: only training reads
        them.
        """
        code = (name for name in ("loss", "monitor") if callable(getattr(self, name)))
        return "initial_embeddings", *code

    def _html_repr(self):
        """HTML of scikit-learn, and once fitted what each column is taken for below it."""
        encoder = getattr(self, "encoder_", None)
        encoder = getattr(encoder, "estimator", encoder)  # of a frozen one
        drawn = super()._html_repr()
        return f"{drawn}{as_html(encoder)}" if isinstance(encoder, FieldEncoder) else drawn

    @classmethod
    def from_architecture(cls, architecture: dict[str, Any], **params: Any) -> Self:
        """An estimator that trains a known architecture, without searching.

        Parameters
        ----------
        architecture : dict
            ``architecture_`` of a fitted estimator, also after a round trip through JSON.
        **params
            Further parameters of the estimator.

        Returns
        -------
        estimator
            Not fitted. Its ``search`` holds a `FixedArchitecture` per method.
        """
        network, search, options = _results.parameters_of(architecture)
        return cls(network=network, search=search, **{**options, **params})

    # fit
    # ---------------------------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight, X_val, y_val, sample_weight_val, groups):
        """Prepare, search, train, publish. Before the last step nothing of the estimator
        changes.
        """
        validate_parameters(self)
        limit = TimeLimit(self.max_time)
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val and y_val must be given together, sample_weight_val with both.")
        check_components(self)
        X, X_val = table_or_dataset(X, y), table_or_dataset(X_val, y_val, "y_val")
        has_network = getattr(self, "net_", None) is not None
        fitted = snapshot(self) if self.warm_start and has_network else None
        if is_dataset(X_val):
            with opened(X_val) as judges:
                own = groups if isinstance(groups, str) else None
                given = as_table(self, judges, y_val, sample_weight_val, without=own)
                X_val, y_val, sample_weight_val, _ = given
        processes = joined(self)
        if is_dataset(X):
            with opened(X) as dataset:
                columns = y, sample_weight, groups
                if dataset.n_rows > dataset.buffer_rows:
                    validation = X_val, y_val, sample_weight_val
                    with streamed(self, dataset, columns, validation, fitted, processes) as given:
                        check_same_rows(self, processes, given.rows, fitted)
                        return self._train(X, y, given.rows, None, fitted, limit, given, processes)
                X, y, sample_weight, groups = as_table(self, dataset, *columns)
        rows = encoded_rows(self, X, y, sample_weight, fitted, groups=groups)
        check_same_rows(self, processes, rows, fitted)
        validation = None
        if not rows.has_single_class:
            validation = validation_rows(self, rows, X_val, y_val, sample_weight_val)
            check_same_rows(self, processes, validation, fitted, "_val")
        return self._train(X, y, rows, validation, fitted, limit, processes=processes)

    def _train(self, X, y, rows, validation, fitted, limit, streamed=None, processes=None):
        """All steps of `_fit` behind the reading of rows."""
        if rows.has_single_class:
            publish(self, Fitted(rows.target, rows.encoder, stopped="finished"))
            warn_of_single_class(self, stacklevel=5)
            return self
        prepared = prepare_fit(self, X, y, rows, validation, fitted, limit, streamed, processes)
        progress = prepared.progress.within(n_tasks(prepared, fitted))
        with memory_explained(prepared.plan.batch_size), rolled_back(fitted), progress:
            if fitted is None:
                outcome, interrupted = fit_anew(prepared)
            else:
                outcome, interrupted = go_on(prepared, fitted)
            stopped = "interrupted" if interrupted else "max_time" if limit.cut else "finished"
            publish(self, dataclasses.replace(outcome, stopped=stopped))
        if stopped == "max_time":
            warnings.warn(
                f"max_time={self.max_time} seconds are over before the fit was finished; cut short "
                f"or left out: {', '.join(limit.cut)}. The model keeps the best weights so far, "
                f"those of epoch {outcome.n_iter} of at most {prepared.plan.epochs}.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if interrupted:
            warnings.warn(
                f"Training was interrupted; the model keeps the weights of epoch {outcome.n_iter}.",
                UserWarning,
                stacklevel=4,
            )
        return self

    def _partial_fit(self, X, y, sample_weight=None, classes=None):
        """Prepare, train an epoch on a copy, publish."""
        validate_parameters(self)
        fitted = snapshot(self) if hasattr(self, "encoder_") else None
        check_chunk(self, fitted, classes)
        grow = grows(self, fitted)
        if weighs_nothing(self, y, sample_weight):
            return self
        rows = encoded_rows(self, eager(X), y, sample_weight, fitted, classes, grow=grow)
        if rows.has_single_class:
            publish(self, Fitted(rows.target, rows.encoder))
            warn_of_single_class(self)
            return self
        prepared = prepare_chunk(self, rows, fitted)
        with memory_explained(prepared.plan.batch_size), rolled_back(fitted):
            publish(self, stream(prepared, fitted))
        return self

    # What a fit has found
    # ---------------------------------------------------------------------------------------------

    @property
    @reads_once
    def architecture_(self) -> dict[str, Any]:
        """What each search found, by slot, the network and its embedding_dim: plain values."""
        return _results.architecture_of(self)

    @property
    def part_weights_(self):
        """Weights of the network and of the parts beside it in the mean that predicts, dict."""
        return _results.part_weights(self)

    @property
    @reads_once
    def embedding_sizes_(self):
        """Length of the embeddings by column: an int, or an int array by id where values differ."""
        return _results.embedding_sizes(self)

    @property
    @reads_once
    def sparsity_(self):
        """Share of the numbers of the whole embedding tables that is not stored, where a search
        chose sizes.
        """
        return _results.sparsity(self)

    @property
    @reads_once
    def interactions_(self):
        """Interactions that the search kept: list of tuples of column names."""
        return _results.interactions(self)

    @property
    @reads_once
    def interaction_scores_(self):
        """Score of every candidate interaction, by tuple of column names; larger is stronger."""
        return _results.interaction_scores(self)

    @property
    @reads_once
    def architecture_graph_(self):
        """Operations that the search has put together, for `ArchitectureDisplay`: list of (name,
        label, kind), and list of pairs of names.
        """
        return _results.architecture_graph(self)

    @property
    @reads_once
    def support_(self):
        """Which columns the search kept, bool, one a column of ``fit``."""
        return _results.support(self)

    @property
    @reads_once
    def selected_fields_(self):
        """Names of the columns that the search kept, in the order of the network's fields."""
        return _results.selected_fields(self)

    @property
    @reads_once
    def field_scores_(self):
        """Score of every column, by name; larger is more useful."""
        return _results.field_scores(self)

    @property
    @reads_once
    def selected_values_(self):
        """Values that the search kept, by name of the kept categorical columns: ndarrays, most
        frequent first.
        """
        return _results.selected_values(self)

    @reads_once
    def get_embeddings(self, column):
        """The embedding of every value of a column, as the network reads it.

        Tables in any form give what they are read as: searched sizes with zeros or projections,
        packed, hashed and quantised tables. Gates, which depend on the row, are not applied.

        Parameters
        ----------
        column : str or int
            Name or position of a column of ids, or of lists of ids. Columns that share a vocabulary
            have the same embeddings, unless a search has given them projections of their own.

        Returns
        -------
        DataFrame of shape (n_ids, n_dimensions), float32
            Row k is that of id k: "<missing>", "<unknown>" (also of what is rare), then the values,
            most frequent first, as ``encoder_.categories_`` has them, with booleans as such; of
            hashed columns "<hash k>". Of several members there are the dimensions of each, under
            columns of two levels.

        Raises
        ------
        ValueError
            If there is no such column, it holds numbers, a search has dropped it, or the network
            has no embeddings.

        Examples
        --------
        >>> from sklearn_autorec import CTRClassifier
        >>> from sklearn_autorec.datasets import make_ctr
        >>> X, y, _ = make_ctr(500, n_fields=3, cardinality=9, pairs=1, random_state=0)
        >>> model = CTRClassifier(network="fm", embedding_dim=4, max_epochs=1, random_state=0)
        >>> model.fit(X, y).get_embeddings("f0").shape
        (11, 4)
        """
        return embeddings_of(self, column)

    @available_if(can_specialize)
    @reads_once
    def specialize(self, budget: int | float) -> Self:
        """A fitted estimator of another size, cut from what the search has trained; neither rows
        nor training are needed.

        It is there after a fit with a search that has it, such as
        `sklearn_autorec.embedding.RULE`, not after further training.

        Parameters
        ----------
        budget : float or int
            As the parameter of the search: bytes of the tables (int), or their share of the whole
            tables' (float).

        Returns
        -------
        estimator
            Fitted. It shares all but the cut part with this one.
        """
        return specialized(self, budget)

    # predict
    # -----------------------------------------------------------------------------------------

    def _logits(self, X):
        """Logits (n_rows, C), float64, of a raw table; callers have taken a snapshot of the
        estimator.
        """
        check_is_fitted(self, "encoder_")
        if comes_in_blocks(X, self):
            return np.concatenate(
                [FieldEstimator._logits(self, part) for part in tables_of(X, self)]
            )
        table = self.encoder_.encode(X)
        if self.net_ is None:
            return np.zeros((len(table), 1))
        mixture = self._mixture_
        if mixture is not None and not mixture.asks_network:
            return mixture.logits(table, np.zeros((len(table), 1)))
        logits = forward_in_chunks(
            self.net_.module_, EncodedTensors.from_table(table, device_of(self.net_))
        )
        logits = logits.cpu().numpy().astype(np.float64)
        return logits if mixture is None else mixture.logits(table, logits)

    def _member_logits(self, X):
        """Logits of every member (M, n_rows, C), float64, of a raw table."""
        check_is_fitted(self, "encoder_")
        if comes_in_blocks(X, self):
            parts = (FieldEstimator._member_logits(self, part) for part in tables_of(X, self))
            return np.concatenate(list(parts), 1)
        if self.net_ is None:
            return self._logits(X)[None]
        module = self.net_.module_
        if not isinstance(module, Members):
            raise ValueError(
                "return_std=True needs a model of several members, this one was trained with "
                "members=1: there is nothing "
                "to tell how far members lie apart. Fit with members=4, for instance."
            )
        table = self.encoder_.encode(X)
        data = EncodedTensors.from_table(table, device_of(self.net_))
        logits = (
            forward_in_chunks(module, data, forward=module.member_logits)
            .cpu()
            .numpy()
            .astype(np.float64)
        )
        return logits if self._mixture_ is None else self._mixture_.member_logits(table, logits)

    def _training_loss(self):
        """What trains, as a module: logits (B, C), y (B,) -> (B,)."""
        return target_of(self).with_loss(self.loss).loss()

    def _transform_target(self, y):
        """y as the loss wants it, by the labels (or the scale) already learned."""
        return target_of(self).encode(self._target_kind.check(y, self))

    # scikit-learn
    # --------------------------------------------------------------------------------------

    def __getstate__(self):
        state = super().__getstate__().copy()
        if isinstance(state.get("_stream"), FieldNet):
            state["_stream"] = state["_stream"].training_state()
        net = state.get("net_")
        if "_kept_" in state:
            state["_kept_"] = pickled(state["_kept_"], self.search)
        if "encoder_" in state and state.get("search") is not None:
            state["search"] = _stored(state["search"])
        if net is not None and device_of(net).type != "cpu":
            state["net_"] = serving_net(copy.deepcopy(net.module_).to("cpu"), net.criterion_)
            if "_live_search" in state:
                state["_live_search"] = state["_live_search"].copied("cpu")
            if "_loss_part_" in state:
                state["_loss_part_"] = copy.deepcopy(state["_loss_part_"]).to("cpu")
            tables = state.get("_trained_tables", {})
            state |= {"_trained_tables": {n: t.detach().cpu() for n, t in tables.items()}}
        return state

    def __sklearn_tags__(self):
        return of_raw_tables(super().__sklearn_tags__())


def _stored(search):
    """The parameter ``search`` of a fitted estimator without what only a search reads."""
    if isinstance(search, list | tuple):
        return type(search)(map(without_fit_only, search))
    return without_fit_only(search)
