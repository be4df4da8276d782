"""Training that goes on, chunk after chunk."""

import dataclasses

import numpy as np
from sklearn.utils.validation import check_consistent_length

from ._fit_parts import Seeds, mean_one, resolve_device, serving_net
from ._searching import check_slots
from .base import resolve_network
from .nn import ReLUDropout
from .search import EncodedTensors, FieldNet, train
from .utils._sklearn import validate_parameters

__all__ = ["PartialFit"]


class PartialFit:
    """Mixin of `FieldEstimator`: training that goes on, with the rates of now and the moments of then."""

    def _partial_fit(self, X, y, sample_weight=None, classes=None):
        first = not hasattr(self, "encoder_")
        validate_parameters(self)
        if first:
            if self.search is not None:
                raise ValueError(
                    f"partial_fit cannot start with search={self.search!r}: a search needs all its rows. Call fit first "
                    "(partial_fit then goes on training the network it found), or set search=None."
                )
            network, device = resolve_network(self.network), resolve_device(self.device)
            self._check_components(network, [])
            encoder, table = self._fit_encoder(X, y, warm=False)
            weight = self._weight(table, sample_weight)
            target = self._encode_target(y, weight, classes)
        else:
            encoder, device = self.encoder_, self._device()
            table = encoder.encode(X)
            weight = self._weight(table, sample_weight)
            target = self._transform_target(y)
        check_consistent_length(target, table.ids)
        weight = self._row_weight(y, weight)
        if self._n_outputs() == 0:
            self._publish(encoder, None, {}, [], [], 0, device)
            return self
        seeds = Seeds(self.random_state)
        plan = dataclasses.replace(self._plan(len(table), seeds), epochs=1, lr_schedule="constant", averaging=0.0)
        if first:
            context = self._context(encoder, plan, np.asarray(target), weight)
            module = network.build(seeds.fresh(context), {}).to(device)
            architecture = self._described(network)
        else:
            module = self.net_.module_
            architecture = self._adjusted(module)
        n_iter = getattr(self, "n_iter_", 0)
        stream = self._live_net(module, plan, None if first else n_iter)
        plan = dataclasses.replace(plan, seed=plan.seed + n_iter)
        data = EncodedTensors.from_table(table, device, target, mean_one(weight))
        result = train(stream, data, plan)
        history = getattr(self, "history_", []) + result.history
        self._publish(
            encoder,
            serving_net(stream.module_, stream.criterion_),
            architecture,
            getattr(self, "search_history_", []),
            history,
            n_iter + result.best_epoch,
            device,
        )
        self._stream = stream
        return self

    def _live_net(self, module, plan, n_iter):
        """A net for a module; if it has been trained for ``n_iter`` epochs, with the moments of then and rates of now."""
        rates = {"lr": plan.lr, "embedding_l2": plan.embedding_l2, "weight_decay": plan.weight_decay}
        saved = None if n_iter is None else getattr(self, "_stream", None)
        if n_iter is not None:
            for layer in module.modules():
                if isinstance(layer, ReLUDropout):
                    layer.restart(n_iter)
        if isinstance(saved, FieldNet) and saved.device != str(next(module.parameters()).device):
            saved = saved.training_state()
        net = saved if isinstance(saved, FieldNet) else FieldNet(module, self._loss(), **rates)
        if isinstance(saved, list):  # of a copy, a pickle or another device
            net.initialize().load_training_state(saved)
        if saved is not None:
            net.retune(**rates)
        return net

    def _adjusted(self, module):
        """The architecture, after parameters of the network that may change on a live module have been set on it."""
        known = self._architecture.get("network")
        network = resolve_network(self.network)
        if known is None or type(network).__name__ != known["network"]:
            return self._architecture  # a network set after training began has no say
        check_slots(network, [])
        known = {**known, "params": {**known["params"], **network.adjust(module)}}
        return {**self._architecture, "network": known}
