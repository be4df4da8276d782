"""Two ways to train: anew, and on from an earlier fit; chunks are in `_streaming`.

Each takes what is `Prepared` and leaves a `Fitted`; nothing of the estimator changes."""

import copy
import dataclasses
from contextlib import contextmanager
from typing import Any

from ..base import describe, is_described
from ..engine import FieldNet, train, training_net
from ..engine._building import build_network, realise_loss
from ..engine._moving import held_still
from ..engine._search_phase import Found, check_slots, search_parts
from ..engine._serving_form import device_of, serving_net
from ..nn import ReLUDropout, in_float32, read_exactly, round_in_training, store_tables
from ._blending import cross_validated, mixture_of
from ._context import counts_by_column
from ._fitted import Fitted
from ._vocabularies import grow_moments, grow_network

SEARCH_SHARE = 0.5  # of the time of a fit, where a training follows
COMPANION_SHARE = 0.2  # of the time after searches

__all__ = ["fit_anew", "go_on", "n_tasks", "rolled_back"]


def fit_anew(prepared):
    """Search, then train the network that was found and its companions.

    Parameters
    ----------
    prepared : Prepared

    Returns
    -------
    fitted : Fitted
    interrupted : bool
        Whether the user stopped it; the best weights so far are kept.

    Raises
    ------
    KeyboardInterrupt
        If it is stopped before an epoch is finished.
    NonFiniteLossError
        If it diverges before an epoch is finished.
    """
    split = prepared.split
    data = split.kept.tensors(prepared.device)
    searched = _search(prepared, data)
    data = _training_rows(prepared, data)
    deadlines = _training_deadlines(prepared)
    running, interrupted, mixture = _begin(prepared, searched), searched.interrupted, None
    if not interrupted:
        outputs, n_epochs = None, None
        if split.refit:
            outputs, n_epochs = cross_validated(
                prepared, lambda: _new_network(prepared, searched), deadlines
            )
        valid = None if split.held_out is None else split.held_out.tensors(prepared.device)
        interrupted = split.refit and outputs is None
        if running.net is not None:
            with held_still(running.net, rests=searched.rests):
                result = _train(prepared, running, data, valid, next(deadlines), n_epochs)
            interrupted = interrupted or result.interrupted
            if interrupted and not running.n_iter:  # in the first epoch
                searched.fall_back()
                running = dataclasses.replace(_begin(prepared, searched), history=running.history)
        if not interrupted:
            mixture = mixture_of(prepared, running.module, valid, outputs)
    kept = {} if interrupted else searched.kept
    return _fitted(prepared, running, mixture, kept), interrupted


def go_on(prepared, fitted):
    """Train a copy of a fitted network for the epochs that are left, and its companions anew.

    Parameters
    ----------
    prepared : Prepared
    fitted : CTRClassifier or RatingRegressor
        As it was before; it stays so, but for moments that training shares with it (see
        `rolled_back`).

    Returns
    -------
    fitted : Fitted
    interrupted : bool
        As of `fit_anew`, which raises the same errors.
    """
    split = prepared.split
    running, interrupted, mixture = _take_up(prepared, fitted), False, None
    valid = None if split.held_out is None else split.held_out.tensors(prepared.device)
    if prepared.plan.epochs:
        data = _training_rows(prepared, split.kept.tensors(prepared.device))
        result = _train(prepared, running, data, valid, next(_training_deadlines(prepared)))
        interrupted = result.interrupted
        if interrupted and not result.best_epoch:
            raise KeyboardInterrupt
    if not interrupted:
        mixture = mixture_of(prepared, running.module, valid)
    return _fitted(prepared, running, mixture), interrupted


@contextmanager
def rolled_back(fitted):
    """Whatever is raised within, the moments that training shares with a fitted estimator (or None)
    are as they were.
    """
    try:
        yield
    except BaseException:
        live = None if fitted is None else fitted.__dict__.get("_stream")
        if isinstance(live, FieldNet):
            live.undo_training()
        raise


@dataclasses.dataclass
class Running:
    """A network that is being trained, and what came before.

    Parameters
    ----------
    module : nn.Module
    loss_part : nn.Module or None
        What stands in the loss slot.
    net : FieldNet or None
        Which trains both; None where there is nothing to train, and once its moments are good for
        nothing.
    architecture : dict of slot to dict
    search_history, history : list of dict
    n_iter : int
    """

    module: Any
    loss_part: Any
    net: FieldNet | None
    architecture: dict
    search_history: list
    history: list = dataclasses.field(default_factory=list)
    n_iter: int = 0

    def add(self, result):
        """Count the epochs of a `TrainingResult`."""
        self.history = self.history + result.history
        self.n_iter += result.best_epoch
        if result.diverged:
            self.net = None


def _training_rows(prepared, data):
    """What the network is trained on: these rows, or those that they were drawn from."""
    return data if prepared.streamed is None else prepared.streamed.stream


def n_tasks(prepared, fitted=None):
    """Number of searches and trainings of a fit, as callbacks are told it; of a fitted estimator
    that goes on there is one.
    """
    if fitted is not None:
        return 1
    methods, split = prepared.methods, prepared.split
    n_searches = 1 if prepared.joint and methods else len(methods)
    if methods and all(method.retrain == "none" for method in methods):
        return n_searches
    return n_searches + 1 + (split.n_parts if split.refit else 0)


def _search(prepared, data):
    """The search phase on some rows, as `Found`; that of a checkpoint, if it was finished there."""
    checkpoint = prepared.checkpoint if prepared.methods else None
    kept = None if checkpoint is None else checkpoint.load("search")
    if kept is not None:
        return Found.from_state(kept, prepared.device)
    found = _searched(prepared, data)
    if checkpoint is not None and (state := found.state) is not None:
        checkpoint.save("search", state)
    return found


def _searched(prepared, data):
    return search_parts(
        prepared.methods,
        prepared.joint,
        prepared.network,
        lambda: prepared.seeds.fresh(prepared.context, search=True),
        prepared.rows.target.loss(),
        data,
        prepared.search_plan,
        prepared.device,
        prepared.progress,
        prepared.rows.encoder,
        None if prepared.streamed is None else prepared.streamed.stream,
        prepared.limit,
        _search_share(prepared),
    )


def _search_share(prepared):
    """Share of the time that all searches have."""
    if any(method.retrain != "none" for method in prepared.methods):
        return SEARCH_SHARE
    return 1 - COMPANION_SHARE if prepared.companions else 1.0  # no training follows


def _training_deadlines(prepared):
    """Deadlines of the trainings that follow now, each of which has an equal part of the time, less
    a share for the parts beside the network.
    """
    n_trainings = 1 + (prepared.split.n_parts if prepared.split.refit else 0)
    share = 1 - COMPANION_SHARE if prepared.companions else 1.0
    return prepared.limit.phases(n_trainings, share)


def _new_network(prepared, searched):
    """The network of an architecture with the weights that it starts from, and the part in its loss
    slot, or None.
    """
    network, methods, architecture = prepared.network, prepared.methods, searched.architecture
    fresh, context, device = prepared.seeds.fresh, prepared.context, prepared.device
    module = build_network(network, methods, architecture, fresh(context))
    searched.hand_over(module)
    loss_part = realise_loss(methods, architecture, fresh(context))
    if loss_part is not None:
        searched.hand_over_loss(loss_part)
        loss_part = loss_part.to(device)
    module = module.to(device)
    _round(prepared, module)
    return module, loss_part


def _round(prepared, module):
    """Let a network that will be trained see its tables as they will be stored, if that is
    wanted.
    """
    if prepared.quantization_aware:
        round_in_training(module, prepared.storage)


def _begin(prepared, searched):
    """A network at the start of its training, or as a search has left it that was interrupted or
    that nothing is trained after.
    """
    module, loss_part = _new_network(prepared, searched)
    net = None
    if not searched.interrupted and searched.leaves(module, loss_part):
        net = training_net(module, prepared.rows.target.loss(), prepared.plan, loss_part)
    architecture = {**searched.architecture, **_described(prepared.network, prepared.context)}
    return Running(module, loss_part, net, architecture, searched.history)


def _described(network, context):
    """What an architecture says beside its slots."""
    return {
        "network": describe(network, "network"),
        "embedding_dim": context.embedding_dim,
        "numeric_embedding": context.numeric_embedding,
    }


def _take_up(prepared, fitted):
    """A copy of a fitted network, with the moments of the epochs before and today's rates."""
    plan, device = prepared.plan, prepared.device
    module = in_float32(
        copy.deepcopy(fitted.net_.module_).to(device), fitted.__dict__.get("_trained_tables")
    )
    places = grow_network(module, fitted.encoder_, prepared.rows.encoder)
    _round(prepared, module)
    architecture = _adjusted(prepared.network, fitted._architecture, module)
    loss_part = fitted.__dict__.get("_loss_part_")
    if loss_part is not None:
        loss_part = copy.deepcopy(loss_part).to(device)
    _restart_dropout(module, fitted)
    net = training_net(module, prepared.rows.target.loss(), plan, loss_part)
    # The moments of a search that is live are those of the searchable network, not of this one.
    if fitted.__dict__.get("_stream") is not None and "_live_search" not in fitted.__dict__:
        net.initialize()
        _take_up_moments(net, fitted, plan)
        grow_moments(net, places)
    return Running(
        module,
        loss_part,
        net,
        architecture,
        fitted.search_history_,
        fitted.history_,
        fitted.n_iter_,
    )


def _restart_dropout(module, fitted):
    """Let dropout draw other numbers than in the epochs before."""
    for layer in module.modules():
        if isinstance(layer, ReLUDropout):
            layer.restart(fitted.n_iter_)


def _take_up_moments(net, fitted, plan):
    """Give an initialised net the moments of a fitted estimator, and today's rates."""
    saved = fitted.__dict__["_stream"]
    if isinstance(saved, FieldNet) and device_of(saved) != device_of(net):
        saved = saved.training_state()
    if isinstance(saved, FieldNet):
        net.go_on_from(saved)
    else:  # of a copy, a pickle or another device
        net.load_training_state(saved)
    net.retune(plan.lr, plan.embedding_l2, plan.weight_decay)


def _adjusted(network, architecture, module):
    """The architecture, after parameters of the network that may change in training have been set
    on a module.
    """
    known = architecture.get("network")
    if known is None or not is_described(network, known):
        return architecture  # a network set after training began has no say
    check_slots(network, [])
    known = {**known, "params": {**known["params"], **network.adjust(module)}}
    return {**architecture, "network": known}


def _train(prepared, running, data, valid, deadline, n_epochs=None):
    """The final training, observed by callbacks; ``n_epochs`` of those that are planned, or all."""
    target, encoder, progress = prepared.rows.target, prepared.rows.encoder, prepared.progress

    def attributes_so_far():
        return {
            **target.attributes,
            "encoder_": encoder,
            "net_": running.net,
            "_mixture_": None,
            "n_features_in_": encoder.n_features_in_,
        }

    on_epoch = progress.begin("train", n_epochs or prepared.plan.epochs, attributes_so_far)

    def report(epoch, record):
        return on_epoch(epoch, record) or epoch + 1 == n_epochs

    plan = dataclasses.replace(prepared.plan, deadline=deadline)
    kept = None if prepared.checkpoint is None else (prepared.checkpoint, "train")
    result = train(running.net, data, plan, valid, report, checkpoint=kept)
    progress.end()
    if result.out_of_time:
        prepared.limit.cut.append("train")
    running.add(result)
    return result


def _fitted(prepared, running, mixture=None, kept=None):
    """The value that a training leaves, with the network in its serving form."""
    module, loss_part, live = running.module, running.loss_part, running.net
    read_exactly(module)
    trained = [id(p) for p in module.parameters()]
    # What serves needs no loss, and holds none of the user's code.
    net = serving_net(module, prepared.rows.target.plain_loss())
    # Moments are of no use where a smaller form of the module is what goes on.
    if not prepared.keep_moments or trained != [id(p) for p in net.module_.parameters()]:
        live = None
    # What goes on from here goes on from the tables as they were trained.
    tables = store_tables(net.module_, prepared.storage, counts_by_column(prepared.rows.encoder))
    if live is not None:
        live.keep_training()
    if loss_part is not None:
        loss_part.zero_grad()
    return Fitted(
        target=prepared.rows.target,
        encoder=prepared.rows.encoder,
        net=net,
        architecture=running.architecture,
        search_history=running.search_history,
        history=running.history,
        n_iter=running.n_iter,
        live=live,
        weight_seen=prepared.weight_seen,
        mixture=mixture,
        loss_part=loss_part,
        kept=kept or {},
        network=prepared.network,
        trained_tables={} if not prepared.keep_moments else tables,
        dataset=None if prepared.streamed is None else prepared.streamed.report,
    )
