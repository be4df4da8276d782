"""What the two estimators share: encode, search, derive, realise, retrain, compact, predict."""

import copy
import dataclasses
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..base import describe, resolve_network
from ..engine import EncodedTensors, FieldNet, forward_in_chunks, train, training_net
from ..engine._building import build_network, realise_loss
from ..engine._moving import held_still
from ..engine._search_phase import Found, check_methods, search_parts
from ..engine._training import memory_explained
from ..nn import NUMERIC_EMBEDDINGS, Members
from ..preprocessing import FieldEncoder
from ..utils._defaults import DefaultComponents
from ..utils._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    StrOptions,
    validate_parameters,
)
from ..utils._state import snapshot
from ._blending import Blending, Split
from ._fitted import Fitted, publish
from ._prepare import Preparing
from ._progress import EpochReporter, Seeds, device_of, resolve_device, serving_net
from ._results import SearchResults
from ._settings import MOST_EPOCHS, is_default, setting
from ._stages import PartialFit, rolled_back, warn_of_single_class

SEARCH_SHARE = 0.4  # of max_epochs, with the default network


class FieldEstimator(
    SearchResults,
    Preparing,
    Blending,
    PartialFit,
    DefaultComponents,
    CallbackSupportMixin,
    BaseEstimator,
):
    """Base of `CTRClassifier` and `RatingRegressor`: everything but labels, loss and outputs."""

    _component_makers = {
        "network": "_make_network",
        "encoder": "_make_encoder",
        "search": "_make_search",
    }

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

    @staticmethod
    def _make_network(network, parameter):
        return resolve_network(network)

    @staticmethod
    def _make_encoder(encoder, parameter):
        return FieldEncoder()

    @staticmethod
    def _make_search(search, parameter):
        raise ValueError(
            f"search={search!r:.100} has no parameter {parameter!r}: set search to one method, "
            f"such as search=AutoFIS(), and its "
            f"parameters can be set as search__{parameter}."
        )

    # What a subclass supplies
    # ------------------------------------------------------------------------

    _target_kind: type  # ClassTarget or RatingTarget

    def _check_target(self, y):
        """y as an ndarray (n_rows,), refused if it is no target of this estimator."""
        raise NotImplementedError

    def _target(self):
        """The labels or the scale of the fitted estimator."""
        raise NotImplementedError

    def _monitor(self, target):
        return None

    # Of a fitted estimator, for those who go on with its network
    def _transform_target(self, y):
        """y as the loss wants it, by the labels (or the scale) already learned."""
        return self._target().encode(self._check_target(y))

    def _loss(self):
        return self._target().loss()

    def _n_outputs(self):
        return self._target().n_outputs

    # fit
    # ---------------------------------------------------------------------------------------------

    def _fit(self, X, y, sample_weight=None, X_val=None, y_val=None, sample_weight_val=None):
        """Prepare, search, train, publish. Before the last step nothing of the estimator
        changes.
        """
        validate_parameters(self)
        if (X_val is None) != (y_val is None) or (X_val is None and sample_weight_val is not None):
            raise ValueError("X_val and y_val must be given together, sample_weight_val with both.")
        network, methods = resolve_network(self.network), check_methods(self.search, self.joint)
        device, seeds = resolve_device(self.device), Seeds(self.random_state)
        self._check_components(network, methods)
        fitted = (
            snapshot(self) if self.warm_start and getattr(self, "net_", None) is not None else None
        )
        rows = self._prepare(X, y, sample_weight, fitted)
        if rows.target.n_outputs == 0:  # a single class: nothing to learn
            self._publish(
                Fitted(rows.target, rows.encoder, None, {}, setting(self, "embedding_dim"))
            )
            warn_of_single_class(self, rows.target)
            return self
        validation = None
        if X_val is not None and self.early_stopping:
            validation = self._prepare_validation(rows, X_val, y_val, sample_weight_val)
        companions = self._wanted_companions(network, methods, rows.target)
        searched = methods if fitted is None else []
        split = self._split_for(searched, companions, rows, validation, seeds)
        plan = self._plan(len(split.kept), seeds, rows.target)
        n_searches = 1 if self.joint and methods else len(methods)
        n_trainings = 1 + (split.n_parts if split.refit and fitted is None else 0)
        if searched and all(method.retrain == "none" for method in searched):
            n_trainings = 0
        progress = EpochReporter(self, X, y, n_tasks=n_searches + n_trainings)
        with memory_explained(plan.batch_size):
            if fitted is None:
                result, interrupted = self._fit_anew(
                    network, methods, companions, rows, split, plan, device, seeds, progress
                )
            else:
                with rolled_back(fitted):
                    result, interrupted = self._fit_on(
                        fitted, companions, rows, split, plan, device, seeds, progress
                    )
        progress.close()
        self._publish(result)
        if interrupted:
            warnings.warn(
                f"Training was interrupted; the model keeps the weights of epoch {result.n_iter}.",
                UserWarning,
                stacklevel=3,
            )
        return self

    def _fit_anew(self, network, methods, companions, rows, split, plan, device, seeds, progress):
        """Search, then train the network that was found and its companions; `Fitted`, and whether
        the user stopped it.
        """
        context, loss = self._context(rows, plan), rows.target.loss()
        data = self._tensors(split.kept, device)
        found = self._search(network, methods, context, loss, data, plan, device, seeds, progress)

        def start():
            module = build_network(network, methods, found.architecture, seeds.fresh(context))
            found.hand_over(module)
            part = realise_loss(methods, found.architecture, seeds.fresh(context))
            if part is not None:
                found.hand_over_loss(part)
                part = part.to(device)
            return module.to(device), part

        module, part = start()
        found.architecture.update(self._described(network))
        trained, history, n_iter, interrupted = None, [], 0, found.interrupted
        outputs, stop_after, mixture, valid = None, None, None, None
        if split.refit and not interrupted:
            outputs, stop_after = self._cross_validated(
                start, loss, rows, split, plan, device, progress
            )
            interrupted = outputs is None
        if not found.interrupted:
            valid = None if split.held_out is None else self._tensors(split.held_out, device)
        if not found.interrupted and found.leaves(module, part):
            trained = training_net(module, loss, plan, part)
            with held_still(trained, rests=found.rests):
                result = self._train(trained, rows, data, valid, plan, progress, stop_after)
            history, n_iter = result.history, result.best_epoch
            interrupted = interrupted or result.interrupted
            if interrupted and not n_iter:  # in the first epoch
                found.fall_back()
                trained, (module, part) = None, start()
            elif result.diverged:
                trained = None
        if valid is not None and not interrupted:
            outputs = forward_in_chunks(module, valid).cpu().numpy()
        if companions and not interrupted:
            mixture = self._mixture(companions, rows, split, outputs, seeds)
        seen = rows.weight_seen()
        return self._fitted(
            rows, module, found, history, n_iter, trained, seen, mixture, part
        ), interrupted

    def _fit_on(self, fitted, companions, rows, split, plan, device, seeds, progress):
        """Train a copy of the fitted network until ``max_epochs`` in all, and its
        companions anew.
        """
        before, seen = (
            fitted.n_iter_,
            rows.weight_seen(fitted.__dict__.get("_weight_seen", (0.0, 0))),
        )
        module = copy.deepcopy(fitted.net_.module_).to(device)
        found = Found(self._adjusted(fitted, module), history=fitted.search_history_)
        # Another order than in the epochs before, as in partial_fit: repeated orders are learned by
        # heart.
        epochs, lr = max(plan.epochs - before, 0), plan.lr * rows.rate(seen)
        plan = dataclasses.replace(plan, epochs=epochs, seed=plan.seed + before, lr=lr)
        part = self._loss_part_of(fitted, device)
        net = self._live_net(fitted, module, rows.target.loss(), plan, part)
        history, n_iter, interrupted, mixture = fitted.history_, before, False, None
        valid = None if split.held_out is None else self._tensors(split.held_out, device)
        if plan.epochs:
            result = self._train(
                net, rows, self._tensors(split.kept, device), valid, plan, progress
            )
            if result.interrupted and not result.best_epoch:
                raise KeyboardInterrupt
            history, n_iter, interrupted = (
                history + result.history,
                n_iter + result.best_epoch,
                result.interrupted,
            )
            net = None if result.diverged else net
        if companions and not interrupted:
            # Of small tables no rows are held out of a training that goes on: there all parts count
            # the same.
            split = split if valid is not None else Split(rows)
            outputs = None if valid is None else forward_in_chunks(module, valid).cpu().numpy()
            mixture = self._mixture(companions, rows, split, outputs, seeds)
        return self._fitted(
            rows, module, found, history, n_iter, net, seen, mixture, part
        ), interrupted

    def _train(self, net, rows, data, valid, plan, progress, stop_after=None):
        """The final training, observed by callbacks; ``stop_after`` so many epochs of those that
        are planned.
        """

        def current():
            encoder = rows.encoder
            return {
                **rows.target.attributes,
                "encoder_": encoder,
                "net_": net,
                "_mixture_": None,
                "n_features_in_": encoder.n_features_in_,
            }

        on_epoch = progress.begin("train", stop_after or plan.epochs, current)

        def report(epoch, record):
            return on_epoch(epoch, record) or epoch + 1 == stop_after

        result = train(net, data, plan, valid, report)
        progress.end()
        return result

    def _fitted(self, rows, module, found, history, n_iter, trained, seen, mixture, part):
        """The value that a fit leaves; ``trained`` is a net whose moments are good, or None,
        ``part`` what is in the loss slot.
        """
        numbers = [id(p) for p in module.parameters()]
        net = serving_net(module, rows.target.loss())
        # Moments are of no use where a smaller form of the module is what goes on.
        same = numbers == [id(p) for p in net.module_.parameters()]
        live = trained if self.warm_start and same else None
        if part is not None:
            part.zero_grad()
        if live is not None:
            live.keep_training()
        return Fitted(
            rows.target,
            rows.encoder,
            net,
            found.architecture,
            setting(self, "embedding_dim"),
            found.history,
            history,
            n_iter,
            live,
            seen,
            mixture,
            part,
        )

    def _described(self, network):
        return {
            "network": describe(network, "network"),
            "embedding_dim": setting(self, "embedding_dim"),
            "numeric_embedding": self.numeric_embedding,
        }

    def _search(self, network, methods, context, loss, data, plan, device, seeds, progress):
        """The search phase; its plan differs from that of the final training."""
        epochs = self.search_epochs
        if epochs is None:
            # With rates and averages of the default network the best epoch comes long before the
            # last.
            share = SEARCH_SHARE if is_default(self.network) else 1.0
            epochs = max(round(share * (self.max_epochs or MOST_EPOCHS)), 1)
        plan = dataclasses.replace(plan, epochs=epochs, lr_schedule="constant", averaging=0.0)
        return search_parts(
            methods,
            self.joint,
            network,
            lambda: seeds.fresh(context, search=True),
            loss,
            data,
            plan,
            device,
            progress,
        )

    def _publish(self, fitted):
        """Set all fitted attributes at once."""
        publish(self, fitted)

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

    # scikit-learn
    # --------------------------------------------------------------------------------------

    def __getstate__(self):
        state = super().__getstate__().copy()
        if isinstance(state.get("_stream"), FieldNet):
            state["_stream"] = state["_stream"].training_state()
        net = state.get("net_")
        if net is not None and device_of(net).type != "cpu":
            state["net_"] = serving_net(copy.deepcopy(net.module_).to("cpu"), net.criterion_)
            if "_loss_part_" in state:
                state["_loss_part_"] = copy.deepcopy(state["_loss_part_"]).to("cpu")
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
