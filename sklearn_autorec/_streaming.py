"""Training that goes on, chunk after chunk."""

import dataclasses

import numpy as np
from sklearn.utils.validation import check_consistent_length

from ._fit_parts import Seeds, mean_one, resolve_device, serving_net
from .base import resolve_network
from .search import EncodedTensors, FieldNet, train
from .utils._sklearn import validate_parameters

__all__ = ["PartialFit"]


class PartialFit:
    """Mixin of `FieldEstimator`: one epoch on the rows of a call, with the optimiser of the last one."""

    def _partial_fit(self, X, y, sample_weight=None, classes=None):
        first = not hasattr(self, "encoder_")
        if first:
            validate_parameters(self)
            if self.search is not None:
                raise ValueError(
                    f"partial_fit cannot start with search={self.search!r}: a search needs all its rows. Call fit first "
                    "(partial_fit then goes on training the network it found), or set search=None."
                )
            network, device = resolve_network(self.network), resolve_device(self.device)
            self._check_components(network, [])
            encoder, table = self._fit_encoder(X, warm=False)
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
        stream = getattr(self, "_stream", None)
        if stream is None:
            if first:
                context = self._context(encoder, plan, np.asarray(target), weight)
                module = network.build(seeds.fresh(context), {}).to(device)
            else:
                module = self.net_.module_
            stream = FieldNet(
                module, self._loss(), lr=plan.lr, embedding_l2=plan.embedding_l2, weight_decay=plan.weight_decay
            )
        plan = dataclasses.replace(plan, seed=plan.seed + getattr(self, "n_iter_", 0))
        data = EncodedTensors.from_table(table, device, target, mean_one(weight))
        result = train(stream, data, plan)
        history = getattr(self, "history_", []) + result.history
        self._publish(
            encoder,
            serving_net(stream.module_, stream.criterion_),
            self._described(network) if first else self._architecture,
            getattr(self, "search_history_", []),
            history,
            getattr(self, "n_iter_", 0) + result.best_epoch,
            device,
        )
        self._stream = stream
        return self
