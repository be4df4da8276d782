"""What the two estimators share: encode, search, derive, realise, retrain, compact, predict."""

import copy
import dataclasses
import pickle
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._fit_parts import EpochReporter, Seeds, mean_one, resolve_device, serving_net, sizes
from ._narrowing import build_network
from ._results import SearchResults
from ._searching import Found, check_methods, check_slots, search_parts
from ._streaming import PartialFit
from .base import describe, resolve_network
from .nn import BuildContext
from .preprocessing import FieldEncoder
from .search import EncodedTensors, FieldNet, TrainingPlan, forward_in_chunks, train
from .utils._defaults import DefaultComponents
from .utils._memory import available_memory
from .utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
    validate_parameters,
)

EARLY_STOPPING_ROWS = 10_000  # early_stopping="auto" needs so many
LAZY_TABLE_FACTOR = 8  # tables this many times larger than a batch's ids get row-wise updates


def _without_masks(architecture, net):
    """The architecture as it is stored: a packed table knows its mask, which need not be saved twice."""
    if net is None or "mask" not in architecture.get("embedding", {}):
        return architecture
    return {**architecture, "embedding": {**architecture["embedding"], "mask": None}}


class FieldEstimator(SearchResults, PartialFit, DefaultComponents, CallbackSupportMixin, BaseEstimator):
    """Base of `CTRClassifier` and `RatingRegressor`: everything but labels, loss and outputs."""

    _component_makers = {"network": "_make_network", "encoder": "_make_encoder", "search": "_make_search"}

    # Parameters up to which ``fit`` with ``warm_start=True`` goes on; the searches of model_selection read it.
    warm_start_until = ("max_epochs",)

    _parameter_constraints: dict = {
        "network": [str, HasMethods("build")],
        "search": [None, list, tuple, HasMethods(["build", "realise", "search"])],
        "joint": ["boolean"],
        "encoder": [None, HasMethods(["fit", "encode"])],
        "embedding_dim": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "embedding_l2": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "embedding_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "search_epochs": [None, Interval(Integral, 1, None, closed="left")],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "monitor": [StrOptions({"loss", "auc"})],
        "lr_schedule": [StrOptions({"constant", "plateau", "cosine"})],
        "averaging": [Interval(Real, 0, 1, closed="left")],
        "id_dropout": [Interval(Real, 0, 1, closed="left")],
        "warm_start": ["boolean"],
        "device": [str, torch.device],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        network="deepfm",
        search=None,
        joint=False,
        encoder=None,
        embedding_dim=16,
        lr=1e-3,
        embedding_l2=0.0,
        weight_decay=0.0,
        embedding_init=0.01,
        batch_size="auto",
        max_epochs=20,
        search_epochs=None,
        early_stopping="auto",
        validation_fraction=0.1,
        patience=2,
        monitor="loss",
        lr_schedule="constant",
        averaging=0.0,
        id_dropout=0.005,
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
        self.lr = lr
        self.embedding_l2 = embedding_l2
        self.weight_decay = weight_decay
        self.embedding_init = embedding_init
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.search_epochs = search_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.monitor = monitor
        self.lr_schedule = lr_schedule
        self.averaging = averaging
        self.id_dropout = id_dropout
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @staticmethod
    def _make_network(network, parameter):
        return resolve_network(network)

    @staticmethod
    def _make_encoder(encoder, parameter):
        return FieldEncoder()

    @staticmethod
    def _make_search(search, parameter):
        raise ValueError(
            f"search={search!r:.100} has no parameter {parameter!r}: set search to one method, such as search=AutoFIS(), and its "
            f"parameters can be set as search__{parameter}."
        )

    # What a subclass supplies ------------------------------------------------------------------------

    def _encode_target(self, y, weight, classes=None):
        """Learn the labels (or the scale) and return y as the loss wants it, (n_rows,)."""
        raise NotImplementedError

    def _transform_target(self, y):
        """y as the loss wants it, by the labels (or the scale) already learned."""
        raise NotImplementedError

    def _loss(self):
        raise NotImplementedError

    def _n_outputs(self):
        raise NotImplementedError

    def _output_bias(self, target, weight):
        raise NotImplementedError

    def _row_weight(self, y, sample_weight):
        return sample_weight

    def _stratify(self, target):
        return None

    def _monitor(self):
        return None

    # fit ---------------------------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight=None, X_val=None, y_val=None):
        validate_parameters(self)
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together.")
        network, methods, device = (
            resolve_network(self.network),
            check_methods(self.search, self.joint),
            resolve_device(self.device),
        )
        self._check_components(network, methods)
        warm = self.warm_start and hasattr(self, "net_") and self.net_ is not None
        encoder, table = self._fit_encoder(X, warm)
        weight = self._weight(table, sample_weight)
        target = self._transform_target(y) if warm else self._encode_target(y, weight)
        check_consistent_length(target, table.ids)
        weight = self._row_weight(y, weight)
        if weight is not None and not (weight > 0).all():
            kept = np.flatnonzero(weight > 0)
            if not len(kept):
                raise ValueError("sample_weight must have at least one positive value, got only zeros.")
            table, target, weight = table.take(kept), target[kept], weight[kept]
        seeds = Seeds(self.random_state)
        if self._n_outputs() == 0:  # a single class: nothing to learn
            self._publish(encoder, None, {}, [], [], 0, device)
            return self
        data, valid = self._split(table, target, weight, X_val, y_val, encoder, device, seeds)
        plan = self._plan(len(data), seeds)
        context = self._context(encoder, plan, np.asarray(target), weight)
        loss = self._loss()
        progress = EpochReporter(self, X, y, n_tasks=(1 if self.joint and methods else len(methods)) + 1)
        found = (
            Found(dict(self._architecture))
            if warm
            else self._search(network, methods, context, loss, data, plan, device, seeds, progress)
        )
        if warm:
            module = self.net_.module_.to(device)
            found.architecture = self._adjusted(module)
            left = max(self.max_epochs - self.n_iter_, 0)
            # Another order than in the epochs before, as in partial_fit: repeated orders are learned by heart.
            plan = dataclasses.replace(plan, epochs=left, seed=plan.seed + self.n_iter_)
        else:
            final = seeds.fresh(context)
            module = build_network(network, methods, found.architecture, final)
            found.hand_over(module)
            found.architecture.update(self._described(network))
            module.to(device)
        history, n_iter, interrupted = [], self.n_iter_ if warm else 0, found.interrupted
        trained = None
        if plan.epochs and not interrupted:
            trained = net = self._live_net(module, plan, n_iter if warm else None)

            def current():
                return {"encoder_": encoder, "net_": net, "n_features_in_": encoder.n_features_in_}

            result = train(net, data, plan, valid, progress.begin("train", plan.epochs, current))
            history, interrupted = result.history, result.interrupted
            n_iter += result.best_epoch
            progress.end()
        progress.close()
        if interrupted:
            warnings.warn(
                f"Training was interrupted; the model keeps the weights of epoch {n_iter}.", UserWarning, stacklevel=3
            )
        if warm:
            history = self.history_ + history
            found.history = self.search_history_
        numbers = [id(p) for p in module.parameters()]
        net = serving_net(module, loss)
        self._publish(encoder, net, found.architecture, found.history, history, n_iter, device)
        # Moments are of no use where a smaller form of the module is what goes on.
        if self.warm_start and trained is not None and numbers == [id(p) for p in net.module_.parameters()]:
            self._stream = trained
        return self

    def _described(self, network):
        return {"network": describe(network, "network"), "embedding_dim": self.embedding_dim}

    def _search(self, network, methods, context, loss, data, plan, device, seeds, progress):
        """The search phase; its plan differs from that of the final training."""
        plan = dataclasses.replace(
            plan, epochs=self.search_epochs or self.max_epochs, lr_schedule="constant", averaging=0.0
        )
        return search_parts(
            methods, self.joint, network, lambda: seeds.fresh(context, search=True), loss, data, plan, device, progress
        )

    @staticmethod
    def _weight(table, sample_weight):
        """The user's weights, float64 (n_rows,), or None."""
        if sample_weight is None:
            return None
        return check_sample_weight(sample_weight, table.ids, dtype=np.float64, ensure_non_negative=True)

    def _fit_encoder(self, X, warm):
        if warm:
            return self.encoder_, self.encoder_.encode(X)
        encoder = FieldEncoder() if self.encoder is None else clone(self.encoder)
        # A frozen encoder was fitted on purpose, for instance on all chunks of a large table.
        if isinstance(encoder, FrozenEstimator):
            return encoder, encoder.encode(X)
        table = encoder.fit_encode(X)
        return encoder.discard_counts(), table

    def _check_components(self, network, methods):
        """Refuse wrong parameters, slots that do not fit and what could not be saved, before any work."""
        check_slots(network, methods)
        for name, value in (("network", network), ("search", methods), ("encoder", self.encoder)):
            try:
                pickle.dumps(value)
            except Exception as error:  # whatever a user's object raises, the advice is the same
                raise ValueError(
                    f"{name}={value!r} cannot be pickled ({error}); the fitted model could not be saved."
                ) from error

    def _split(self, table, target, weight, X_val, y_val, encoder, device, seeds):
        """Training and validation rows on the device; validation is None without early stopping."""
        auto = self.early_stopping == "auto"
        wanted = (len(table) >= EARLY_STOPPING_ROWS or X_val is not None) if auto else self.early_stopping
        if not wanted:
            return EncodedTensors.from_table(table, device, target, mean_one(weight)), None
        if X_val is not None:
            held_out = encoder.encode(X_val)
            y_held_out = self._transform_target(y_val)
            check_consistent_length(held_out.ids, y_held_out)
            w_held_out = self._row_weight(y_val, None)
        else:
            rows = np.arange(len(table))
            stratify = self._stratify(target)
            options = {"test_size": self.validation_fraction, "random_state": seeds.split, "shuffle": True}
            try:
                kept, out = train_test_split(rows, stratify=stratify, **options)
            except ValueError as error:
                if stratify is None:
                    raise ValueError(
                        f"validation_fraction={self.validation_fraction} leaves no rows to train or to validate on "
                        f"({len(rows)} rows): {error}"
                    ) from error
                kept, out = train_test_split(rows, **options)  # a class with a single row cannot be stratified
            held_out, y_held_out, w_held_out = table.take(out), target[out], None if weight is None else weight[out]
            table, target, weight = table.take(kept), target[kept], None if weight is None else weight[kept]
        return (
            EncodedTensors.from_table(table, device, target, mean_one(weight)),
            EncodedTensors.from_table(held_out, device, y_held_out, mean_one(w_held_out)),
        )

    def _plan(self, n_rows, seeds):
        batch_size = self.batch_size
        if batch_size == "auto":
            # About 64 steps an epoch, within what is efficient: small tables need steps, large ones wide batches.
            batch_size = int(np.clip(2 ** np.ceil(np.log2(max(n_rows / 64, 1))), 32, 4096))
        return TrainingPlan(
            epochs=self.max_epochs,
            batch_size=batch_size,
            lr=self.lr,
            embedding_l2=self.embedding_l2,
            weight_decay=self.weight_decay,
            lr_schedule=self.lr_schedule,
            id_dropout=self.id_dropout,
            patience=self.patience,
            seed=seeds.order,
            monitor=self._monitor(),
            averaging=self.averaging,
        )

    def _context(self, encoder, plan, target, weight):
        n_ids = tuple(int(n) for n in encoder.n_ids_)
        sequences = tuple((int(n), encoder.max_length) for n in encoder.sequence_n_ids_)
        n_rows = sum(n_ids) + sum(n for n, _ in sequences)
        self._check_memory(encoder, n_rows)
        per_batch = plan.batch_size * (len(n_ids) + sum(length for _, length in sequences))
        return BuildContext(
            field_names=tuple(str(name) for name in encoder.field_names_),
            n_ids=n_ids,
            n_numeric=len(encoder.numeric_),
            sequences=sequences,
            embedding_dim=self.embedding_dim,
            n_outputs=self._n_outputs(),
            counts=tuple(encoder.counts_),
            output_bias=tuple(float(b) for b in self._output_bias(target, weight)),
            sparse_gradients=n_rows > LAZY_TABLE_FACTOR * per_batch,
            embedding_init=self.embedding_init,
        )

    def _check_memory(self, encoder, n_rows):
        """Refuse embedding tables that would not fit, before anything is allocated."""
        # The table, its gradient, two moments, and a copy of the best epoch.
        needed = 5 * 4 * n_rows * (self.embedding_dim + self._n_outputs())
        available = available_memory()
        if needed > available:
            largest = int(np.argmax([*encoder.n_ids_, *encoder.sequence_n_ids_]))
            names = [
                *(encoder.field_names_[: len(encoder.n_ids_)]),
                *encoder.field_names_[len(encoder.n_ids_) + len(encoder.numeric_) :],
            ]
            raise ValueError(
                f"The embedding tables of {n_rows:,} ids with embedding_dim={self.embedding_dim} need about "
                f"{needed / 2**30:.2f} GiB in training, {available / 2**30:.2f} GiB are available. Column {names[largest]!r} has most "
                "ids: cap it with encoder=FieldEncoder(max_categories=..., min_frequency=... or hash_threshold=...), or lower "
                "embedding_dim."
            )

    def _publish(self, encoder, net, architecture, search_history, history, n_iter, device):
        """Set all fitted attributes at once, when nothing can fail any more."""
        self.__dict__.pop("_stream", None)
        self.encoder_ = encoder
        self.net_ = net
        self._architecture = _without_masks(architecture, net)
        self.search_history_ = search_history
        self.history_ = history
        self.n_iter_ = n_iter
        self.n_features_in_ = encoder.n_features_in_
        if hasattr(encoder, "feature_names_in_"):
            self.feature_names_in_ = encoder.feature_names_in_
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        module = torch.nn.Module() if net is None else net.module_
        self.n_parameters_ = sum(t.numel() for t in module.parameters())
        self.nbytes_ = sizes(module)
        rows = sum(encoder.n_ids_) + sum(encoder.sequence_n_ids_) + 3 * len(encoder.numeric_)
        stored = self.nbytes_["total"] - self.nbytes_["network"]
        self.compression_ratio_ = 4 * int(rows) * self.embedding_dim / stored if stored else float("inf")

    # predict -----------------------------------------------------------------------------------------

    def _device(self):
        return next(self.net_.module_.parameters()).device

    def _logits(self, X):
        """Logits (n_rows, C), float64, of a raw table."""
        check_is_fitted(self, "encoder_")
        table = self.encoder_.encode(X)
        if self.net_ is None:
            return np.zeros((len(table), 1))
        logits = forward_in_chunks(self.net_.module_, EncodedTensors.from_table(table, self._device()))
        return logits.cpu().numpy().astype(np.float64)

    # scikit-learn --------------------------------------------------------------------------------------

    def __getstate__(self):
        state = super().__getstate__().copy()
        if isinstance(state.get("_stream"), FieldNet):
            state["_stream"] = state["_stream"].training_state()
        net = state.get("net_")
        if net is not None and self._device().type != "cpu":
            state["net_"] = serving_net(copy.deepcopy(net.module_).to("cpu"), net.criterion_)
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
