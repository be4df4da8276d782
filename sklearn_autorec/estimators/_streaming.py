"""The third way to train: chunk after chunk, with or without a search that goes on.

It takes what is `Prepared` and leaves a `Fitted`; nothing of the estimator changes."""

import dataclasses

import numpy as np
from sklearn.base import clone

from ..engine import train
from ..engine._live_search import begin_chunk, begin_live, searched_network, train_live
from ..engine._search_phase import Found
from ..engine._training import scores_of
from ._stages import (
    Running,
    _adjusted,
    _begin,
    _described,
    _fitted,
    _restart_dropout,
    _take_up,
    _take_up_moments,
)

__all__ = ["stream"]


def stream(prepared, fitted):
    """Train an epoch on a chunk: a copy of a fitted network, or a new one; a search that the stream
    began with goes on in it.

    Parameters
    ----------
    prepared : Prepared
    fitted : CTRClassifier, RatingRegressor or None
        As in `go_on`; None of the first chunk.

    Returns
    -------
    Fitted

    Raises
    ------
    KeyboardInterrupt
        If it is stopped.
    NonFiniteLossError
        If it diverges.
    """
    data = prepared.rows.tensors(prepared.device)
    if prepared.methods:
        return _stream_search(prepared, fitted, data)
    running = _begin(prepared, Found()) if fitted is None else _take_up(prepared, fitted)
    begin_chunk(running.module, data)
    result = train(running.net, data, prepared.plan)
    if result.interrupted:
        raise KeyboardInterrupt
    running.add(result)
    return _fitted(prepared, running)


def _stream_search(prepared, fitted, data):
    """As `stream`, with searchable modules in the network that is trained; what they have found so
    far serves.
    """
    plan, scores, before = prepared.plan, {}, Running(None, None, None, {}, [])
    if fitted is None:
        context = prepared.seeds.fresh(prepared.context, search=True)
        # What is counted in a stream is what has come.
        counts = tuple(np.zeros_like(own) for own in context.counts)
        context = dataclasses.replace(context, counts=counts)
        network = clone(prepared.network)
        live = begin_live(prepared.methods, network, context, prepared.device)
        described = _described(network, context)
    else:
        scores = scores_of(fitted.net_, data, plan, "prequential", prepared.rows.target.loss())
        live = fitted._live_search.copied(prepared.device)
        described = _adjusted(prepared.network, fitted._architecture, live.module)
        _restart_dropout(live.module, fitted)
        before = Running(
            None, None, None, {}, fitted.search_history_, fitted.history_, fitted.n_iter_
        )
    live, result = train_live(
        live,
        lambda net: _take_up_moments(net, fitted, plan),
        prepared.rows.target.loss(),
        data,
        plan,
    )
    if result.interrupted:
        raise KeyboardInterrupt
    module, found = searched_network(live, prepared.seeds.fresh(live.context, search=True))
    record = {**result.history[-1], "epoch": before.n_iter + 1}
    slots = "+".join(slot for method in live.methods for slot in method.slots)
    losses = {name: record[name] for name in ("epoch", "train_loss", "lr")}
    running = Running(
        module.to(prepared.device),
        None,
        None,
        {**described, **found},
        [*before.search_history, {"slot": slots, **record}],
        [*before.history, {**losses, **scores}],
        before.n_iter + 1,
    )
    result.net.keep_training()
    outcome = _fitted(prepared, running)
    return dataclasses.replace(outcome, live=result.net, live_search=live)
