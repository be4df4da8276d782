"""What the two estimators share: parameters, the steps of a fit, what a fit has found, logits."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..base import resolve_network, without_fit_only
from ..engine import EncodedTensors, FieldNet, forward_in_chunks
from ..engine._serving_form import device_of, serving_net
from ..engine._training import memory_explained
from ..exceptions import SingleClassWarning
from ..nn import NUMERIC_EMBEDDINGS, Members
from ..preprocessing import FieldEncoder
from ..utils._defaults import with_components
from ..utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    validate_parameters,
)
from ..utils._state import reads_once, snapshot
from . import _results
from ._fitted import Fitted, publish
from ._prepare import check_chunk, check_components, prepare_chunk, prepare_fit
from ._rows import encoded_rows, validation_rows, weighs_nothing
from ._stages import fit_anew, go_on, rolled_back
from ._streaming import stream
from ._targets import target_of


def _no_search(search, parameter):
    raise ValueError(
        f"search={search!r:.100} has no parameter {parameter!r}: set search to one method, such as "
        f"search=AutoFIS(), and its parameters can be set as search__{parameter}."
    )


# What stands for components that are given by name, or left out, when a parameter of them is set.
COMPONENTS = {
    "network": lambda network, parameter: resolve_network(network),
    "encoder": lambda encoder, parameter: FieldEncoder(),
    "search": _no_search,
}


class FieldEstimator(CallbackSupportMixin, BaseEstimator):
    """Base of `CTRClassifier` and `RatingRegressor`: everything but labels and outputs.

    A subclass says by ``_target_kind`` what it learns: `ClassTarget` or `RatingTarget`."""

    _target_kind: type

    # Parameters up to which ``fit`` with ``warm_start=True`` goes on; the searches of
    # model_selection read it.
    warm_start_until = ("max_epochs",)

    _parameter_constraints: dict = {
        "network": [str, HasMethods("build")],
        "search": [None, list, tuple, HasMethods(["build", "realise", "search"])],
        "joint": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "embedding_dim": [None, Interval(Integral, 1, None, closed="left")],
        "numeric_embedding": [StrOptions({*NUMERIC_EMBEDDINGS})],
        "lr": [None, Interval(Real, 0, None, closed="neither")],
        "embedding_l2": [None, Interval(Real, 0, None, closed="left")],
        "weight_decay": [None, Interval(Real, 0, None, closed="left")],
        "embedding_init": [None, Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), None],
        "search_epochs": [None, Interval(Integral, 1, None, closed="left")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation": [StrOptions({"auto", "random", "last"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [None, Interval(Integral, 1, None, closed="left")],
        "monitor": [StrOptions({"loss", "auc"})],
        "lr_schedule": [None, StrOptions({"constant", "plateau", "cosine"})],
        "averaging": [None, Interval(Real, 0, 1, closed="left")],
        "id_dropout": [Interval(Real, 0, 1, closed="left")],
        "members": [Interval(Integral, 1, None, closed="left")],
        "wide": [StrOptions({"auto", "autocross"}), None],
        "target_statistics": [StrOptions({"auto"}), "boolean"],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        network="auto",
        search=None,
        joint=False,
        encoder=None,
        embedding_dim=None,
        numeric_embedding="piecewise",
        lr=None,
        embedding_l2=None,
        weight_decay=None,
        embedding_init=None,
        batch_size="auto",
        max_epochs=None,
        search_epochs=None,
        early_stopping="auto",
        validation="auto",
        validation_fraction=0.1,
        patience=None,
        monitor="loss",
        lr_schedule=None,
        averaging=None,
        id_dropout=0.005,
        members=1,
        wide="auto",
        target_statistics="auto",
        warm_start=False,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.network = network
        self.search = search
        self.joint = joint
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.numeric_embedding = numeric_embedding
        self.lr = lr
        self.embedding_l2 = embedding_l2
        self.weight_decay = weight_decay
        self.embedding_init = embedding_init
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.search_epochs = search_epochs
        self.early_stopping = early_stopping
        self.validation = validation
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.monitor = monitor
        self.lr_schedule = lr_schedule
        self.averaging = averaging
        self.id_dropout = id_dropout
        self.members = members
        self.wide = wide
        self.target_statistics = target_statistics
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def set_params(self, **params):
        """Set parameters, also those of components: ``network__hidden_units``,
        ``encoder__min_frequency``.

        A component that is given by its name, or is None, is made first: of ``network="deepfm"``
        with ``network__hidden_units=(8,)`` it makes ``DeepFM(hidden_units=(8,))``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a parameter of what does not exist, saying what to set instead.
        """
        return super().set_params(**with_components(self, params, COMPONENTS))

    @classmethod
    def from_architecture(cls, architecture, **params):
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
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val and y_val must be given together, sample_weight_val with both.")
        check_components(self)
        has_network = getattr(self, "net_", None) is not None
        fitted = snapshot(self) if self.warm_start and has_network else None
        rows = encoded_rows(self, X, y, sample_weight, fitted, groups=groups)
        if rows.has_single_class:
            publish(self, Fitted(rows.target, rows.encoder))
            _warn_of_single_class(self)
            return self
        validation = validation_rows(self, rows, X_val, y_val, sample_weight_val)
        prepared = prepare_fit(self, X, y, rows, validation, fitted)
        with memory_explained(prepared.plan.batch_size), rolled_back(fitted):
            if fitted is None:
                outcome, interrupted = fit_anew(prepared)
            else:
                outcome, interrupted = go_on(prepared, fitted)
            publish(self, outcome)
        if interrupted:
            warnings.warn(
                f"Training was interrupted; the model keeps the weights of epoch {outcome.n_iter}.",
                UserWarning,
                stacklevel=3,
            )
        return self

    def _partial_fit(self, X, y, sample_weight=None, classes=None):
        """Prepare, train an epoch on a copy, publish."""
        validate_parameters(self)
        fitted = snapshot(self) if hasattr(self, "encoder_") else None
        check_chunk(self, fitted, classes)
        if weighs_nothing(self, y, sample_weight):
            return self
        rows = encoded_rows(self, X, y, sample_weight, fitted, classes)
        if rows.has_single_class:
            publish(self, Fitted(rows.target, rows.encoder))
            _warn_of_single_class(self)
            return self
        prepared = prepare_chunk(self, rows, fitted)
        with memory_explained(prepared.plan.batch_size), rolled_back(fitted):
            publish(self, stream(prepared, fitted))
        return self

    # What a fit has found
    # ---------------------------------------------------------------------------------------------

    @property
    @reads_once
    def architecture_(self):
        """What each search found, by slot, the network and its embedding_dim: plain values."""
        return _results.architecture_of(self)

    @property
    def part_weights_(self):
        """Weight of the network and of each part beside it in the mean that predicts: dict, of sum
        1.
        """
        return _results.part_weights(self)

    @property
    @reads_once
    def embedding_sizes_(self):
        """Length of the embeddings by column: an int, or an int array by id where values differ."""
        return _results.embedding_sizes(self)

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

    # predict
    # -----------------------------------------------------------------------------------------

    def _logits(self, X):
        """Logits (n_rows, C), float64, of a raw table; callers have taken a snapshot of the
        estimator.
        """
        check_is_fitted(self, "encoder_")
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
        if "encoder_" in state and state.get("search") is not None:
            state["search"] = _stored(state["search"])
        if net is not None and device_of(net).type != "cpu":
            state["net_"] = serving_net(copy.deepcopy(net.module_).to("cpu"), net.criterion_)
            if "_live_search" in state:
                state["_live_search"] = state["_live_search"].copied("cpu")
            if "_loss_part_" in state:
                state["_loss_part_"] = copy.deepcopy(state["_loss_part_"]).to("cpu")
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags


def _stored(search):
    """The parameter ``search`` of a fitted estimator without what only a search reads."""
    if isinstance(search, list | tuple):
        return type(search)(map(without_fit_only, search))
    return without_fit_only(search)


def _warn_of_single_class(estimator):
    """Tell that a fit has trained nothing."""
    warnings.warn(
        f"{type(estimator).__name__} was fitted on the single class {estimator.classes_.tolist()}: "
        f"nothing was trained, and every row is predicted to be of this class.",
        SingleClassWarning,
        stacklevel=4,
    )
