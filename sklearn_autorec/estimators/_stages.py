"""Training that goes on, chunk after chunk."""

import copy
import dataclasses
import warnings
from contextlib import contextmanager

import numpy as np

from ..base import is_described, resolve_network
from ..engine import FieldNet, train, training_net
from ..engine._building import build_network
from ..engine._search_phase import check_slots
from ..engine._training import memory_explained
from ..exceptions import SingleClassWarning
from ..nn import ReLUDropout
from ..utils._sklearn import validate_parameters
from ..utils._state import snapshot
from ._fitted import Fitted
from ._progress import Seeds, device_of, resolve_device, serving_net
from ._settings import setting

__all__ = ["PartialFit", "rolled_back", "warn_of_single_class"]


def warn_of_single_class(estimator, target):
    """Tell that a fit has trained nothing."""
    warnings.warn(
        f"{type(estimator).__name__} was fitted on the single class {target.classes.tolist()}: "
        f"nothing was trained, and "
        "every row is predicted to be of this class.",
        SingleClassWarning,
        stacklevel=4,
    )


@contextmanager
def rolled_back(fitted):
    """Whatever is raised within, the moments that training shares with a fitted estimator are as
    they were.
    """
    try:
        yield
    except BaseException:
        live = fitted.__dict__.get("_stream")
        if isinstance(live, FieldNet):
            live.undo_training()
        raise


class PartialFit:
    """Mixin of `FieldEstimator`: training that goes on, with today's rates and the moments of the
    epochs before.
    """

    def _partial_fit(self, X, y, sample_weight=None, classes=None):
        """Prepare, train an epoch on a copy, publish."""
        validate_parameters(self)
        fitted = snapshot(self) if hasattr(self, "encoder_") else None
        self._check_stream(fitted, classes)
        if sample_weight is not None and not np.any(np.asarray(sample_weight)):
            self._weight(
                self._check_target(y), np.ones(np.shape(np.asarray(sample_weight)))
            )  # of the right length, at least
            return self
        network = resolve_network(self.network)
        if fitted is None:
            self._check_components(network, [])
        rows = self._prepare(X, y, sample_weight, fitted, classes)
        if rows.target.n_outputs == 0:
            self._publish(
                Fitted(rows.target, rows.encoder, None, {}, setting(self, "embedding_dim"))
            )
            warn_of_single_class(self, rows.target)
            return self
        with rolled_back(fitted or self):
            self._publish(self._next_epoch(network, rows, fitted))
        return self

    def _check_stream(self, fitted, classes):
        if getattr(self, "class_weight", None) == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit: a chunk does not know "
                "how often a class occurs "
                "in the others. Give the weights as a dict, for instance "
                "class_weight=dict(zip(classes, "
                "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, "
                "y=y))) with the y of "
                "a large sample."
            )
        if fitted is None:
            if self.search is not None:
                raise ValueError(
                    f"partial_fit cannot start with search={self.search!r}: a search needs all "
                    f"its rows. Call fit first "
                    "(partial_fit then goes on training the network it found), or set search=None."
                )
        elif classes is not None and not np.array_equal(
            np.unique(np.asarray(classes)), fitted.classes_
        ):
            raise ValueError(
                f"classes={np.asarray(classes).tolist()} is not the same as in the call before: "
                f"{fitted.classes_.tolist()}."
            )

    def _next_epoch(self, network, rows, fitted):
        """`Fitted` after one epoch on a chunk; ``fitted`` is the estimator before it, or None."""
        seeds, loss = Seeds(self.random_state), rows.target.loss()
        plan = self._plan(len(rows), seeds, rows.target)
        plan = dataclasses.replace(plan, epochs=1, lr_schedule="constant", averaging=0.0)
        n_iter, before = (
            (0, (0.0, 0))
            if fitted is None
            else (fitted.n_iter_, fitted.__dict__.get("_weight_seen", (0.0, 0)))
        )
        seen = rows.weight_seen(before)
        plan = dataclasses.replace(plan, seed=plan.seed + n_iter, lr=plan.lr * rows.rate(seen))
        with memory_explained(plan.batch_size):
            if fitted is None:
                device, history, search_history = resolve_device(self.device), [], []
                module = build_network(network, [], {}, seeds.fresh(self._context(rows, plan))).to(
                    device
                )
                architecture, net, part = (
                    self._described(network),
                    training_net(module, loss, plan),
                    None,
                )
            else:
                device, history, search_history = (
                    device_of(fitted.net_),
                    fitted.history_,
                    fitted.search_history_,
                )
                module = copy.deepcopy(fitted.net_.module_)
                architecture = self._adjusted(fitted, module)
                part = self._loss_part_of(fitted, device)
                net = self._live_net(fitted, module, loss, plan, part)
            result = train(net, self._tensors(rows, device), plan)
        if result.interrupted:
            raise KeyboardInterrupt
        net.keep_training()
        return Fitted(
            rows.target,
            rows.encoder,
            serving_net(module, loss),
            architecture,
            setting(self, "embedding_dim"),
            search_history,
            history + result.history,
            n_iter + result.best_epoch,
            net,
            seen,
            loss_part=part,
        )

    @staticmethod
    def _loss_part_of(fitted, device):
        """A copy of what stands in the loss slot of a fitted estimator, to go on with; or None."""
        part = fitted.__dict__.get("_loss_part_")
        return None if part is None else copy.deepcopy(part).to(device)

    def _live_net(self, fitted, module, loss, plan, part=None):
        """A net for a copy of the fitted module (and loss part): the moments of the epochs before,
        the rates of ``plan``.
        """
        for layer in module.modules():
            if isinstance(layer, ReLUDropout):
                layer.restart(fitted.n_iter_)
        net, saved = training_net(module, loss, plan, part), fitted.__dict__.get("_stream")
        if isinstance(saved, FieldNet) and device_of(saved) != next(module.parameters()).device:
            saved = saved.training_state()
        if saved is not None:
            net.initialize()
            if isinstance(saved, FieldNet):
                net.go_on_from(saved)
            else:  # of a copy, a pickle or another device
                net.load_training_state(saved)
            net.retune(plan.lr, plan.embedding_l2, plan.weight_decay)
        return net

    def _adjusted(self, fitted, module):
        """The architecture, after parameters of the network that may change in training have been
        set on a module.
        """
        known = fitted._architecture.get("network")
        network = resolve_network(self.network)
        if known is None or not is_described(network, known):
            return fitted._architecture  # a network set after training began has no say
        check_slots(network, [])
        known = {**known, "params": {**known["params"], **network.adjust(module)}}
        return {**fitted._architecture, "network": known}
