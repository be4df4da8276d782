"""All that a training needs, as one value, before its first step. Nothing here sets an attribute of
the estimator.
"""

import dataclasses
from typing import Any

from sklearn.base import clone

from ..base import resolve_network
from ..engine import TrainingPlan
from ..engine._search_phase import check_methods
from ..engine._serving_form import device_of, resolve_device
from ..engine._time_limit import TimeLimit
from ..nn import BuildContext, FieldLayout, check_storage
from ._blending import wanted_companions
from ._context import build_context
from ._progress import EpochReporter, Seeds
from ._rows import Rows
from ._settings import (
    batch_size,
    embedding_l2,
    learning_rate,
    most_epochs,
    most_search_epochs,
    setting,
)
from ._split import Split, split_rows
from ._together import checkpoint_of, device_of_process

__all__ = [
    "Prepared",
    "prepare_chunk",
    "prepare_fit",
]


@dataclasses.dataclass(frozen=True, eq=False)
class Prepared:
    """All that a training needs.

    Parameters
    ----------
    network : Network
    methods : list of SearchMethod
        In a chunk those whose search is live.
    joint : bool
        Whether the methods search in one run.
    companions : list of str
        What is wanted beside the network.
    rows : Rows
    split : Split
        Which of the rows are trained on, and which judge.
    plan, search_plan : TrainingPlan
        Of the training, and of each search before it. Where a fitted network goes on, ``plan`` has
        the epochs that are left.
    context : BuildContext or None
        What a new network is built from; None where a fitted one goes on.
    device : torch.device
    seeds : Seeds
    progress : EpochReporter or None
    weight_seen : tuple (float, int)
        Sum of the weights of all training rows, those of earlier fits included, and their number.
    keep_moments : bool
        Whether the moments of the optimisers stay with the estimator, for training that goes on.
    storage : str, dict or None
        How tables are stored after the training; see `FieldParameters`.
    quantization_aware : bool
        Whether the training sees them so.
    checkpoint : TrainingCheckpoint or None
        Where trainings keep their epochs.
    limit : TimeLimit
        The time of the fit, and what it has cut.
    streamed : StreamedFit or None
        The training rows, where they come in blocks: ``rows`` are a sample of them.
    """

    network: Any
    methods: list
    joint: bool
    companions: list
    rows: Rows
    split: Split
    plan: TrainingPlan
    search_plan: TrainingPlan
    context: BuildContext | None
    device: Any
    seeds: Seeds
    progress: EpochReporter | None
    weight_seen: tuple
    keep_moments: bool
    storage: Any = None
    quantization_aware: bool = False
    checkpoint: Any = None
    limit: TimeLimit = dataclasses.field(default_factory=lambda: TimeLimit(None))
    streamed: Any = None


def prepare_fit(estimator, X, y, rows, validation, fitted, limit, streamed=None, processes=None):
    """What ``fit`` needs.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
        Its parameters, which `check_components` has seen.
    X, y
        As the user gave them, for callbacks.
    rows : Rows
    validation : Rows or None
        The user's rows for early stopping.
    fitted : estimator or None
        Whose network goes on; None where a new one is trained.
    limit : TimeLimit
    streamed : StreamedFit or None, default=None
        See `Prepared`; it has made the split.
    processes : Processes or None, default=None
        Which train together.

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        If parameters do not go with the rows, or tables would not fit into the memory.
    """
    methods = check_methods(estimator.search, estimator.joint)
    seeds = Seeds(estimator.random_state, processes)
    companions = wanted_companions(estimator, methods, rows.target)
    searched = methods if fitted is None else []
    if streamed is None:
        split = split_rows(estimator, rows, validation, searched, companions, seeds.split)
    else:
        split = streamed.split
    n_trained = len(split.kept if streamed is None else streamed.stream)
    plan = training_plan(estimator, n_trained, rows.target, seeds.order)
    plan = dataclasses.replace(plan, processes=processes)
    if fitted is not None:
        plan = dataclasses.replace(plan, epochs=max(plan.epochs - fitted.n_iter_, 0))
        if split.held_out is None:
            # Of small tables no rows are held out of a training that goes on.
            split = Split(rows)
    return Prepared(
        network=resolve_network(estimator.network),
        methods=methods,
        joint=estimator.joint,
        companions=companions,
        rows=rows,
        split=split,
        plan=_after(fitted, plan, rows),
        search_plan=dataclasses.replace(
            plan, epochs=most_search_epochs(estimator), lr_schedule="constant", averaging=0.0
        ),
        context=build_context(estimator, rows, plan) if fitted is None else None,
        device=device_of_process(estimator.device, processes),
        seeds=seeds,
        progress=EpochReporter(estimator, X, y, processes is None or processes.is_first),
        weight_seen=rows.weight_seen(_seen_before(fitted)),
        keep_moments=estimator.warm_start,
        checkpoint=checkpoint_of(estimator, rows, validation, seeds, processes),
        limit=limit,
        streamed=streamed,
        **_storage(estimator, rows),
    )


def prepare_chunk(estimator, rows, fitted):
    """What an epoch of ``partial_fit`` needs.

    Parameters
    ----------
    estimator : CTRClassifier or RatingRegressor
        Its parameters, which `check_chunk` has seen.
    rows : Rows
        The chunk.
    fitted : estimator or None
        Whose network goes on; None of the first chunk.

    Returns
    -------
    Prepared
    """
    seeds = Seeds(estimator.random_state)
    plan = training_plan(estimator, len(rows), rows.target, seeds.order)
    plan = dataclasses.replace(plan, epochs=1, lr_schedule="constant", averaging=0.0)
    return Prepared(
        network=resolve_network(estimator.network),
        methods=_live_methods(estimator, fitted),
        joint=True,
        companions=[],
        rows=rows,
        split=Split(rows),
        plan=_after(fitted, plan, rows),
        search_plan=plan,
        context=build_context(estimator, rows, plan) if fitted is None else None,
        device=resolve_device(estimator.device) if fitted is None else device_of(fitted.net_),
        seeds=seeds,
        progress=None,
        weight_seen=rows.weight_seen(_seen_before(fitted)),
        keep_moments=True,
        **_storage(estimator, rows),
    )


def _storage(estimator, rows):
    """The entries of `Prepared` on how tables are stored."""
    storage = estimator.storage
    check_storage(storage, FieldLayout.of_encoder(rows.encoder))
    return {"storage": storage, "quantization_aware": estimator.quantization_aware}


def _live_methods(estimator, fitted):
    """The methods that search in a chunk: those with which the stream began."""
    if fitted is None:
        return clone(check_methods(estimator.search, estimator.joint))
    live = fitted.__dict__.get("_live_search")
    return [] if live is None else live.methods


def _seen_before(fitted):
    """Sum and number of the weights that a fitted estimator has seen."""
    return (0.0, 0) if fitted is None else fitted.__dict__.get("_weight_seen", (0.0, 0))


def _after(fitted, plan, rows):
    """The plan as it is behind the epochs of a fitted estimator: with another order than theirs,
    since repeated orders are learned by heart, and a rate that follows the weights of the rows.
    """
    if fitted is None:
        return plan
    rate = rows.rate(rows.weight_seen(_seen_before(fitted)))
    return dataclasses.replace(plan, seed=plan.seed + fitted.n_iter_, lr=plan.lr * rate)


def training_plan(estimator, n_rows, target, seed):
    """The plan of a training on so many rows, as the parameters have it."""
    rows = batch_size(estimator, n_rows)
    return TrainingPlan(
        epochs=most_epochs(estimator, n_rows),
        batch_size=rows,
        lr=learning_rate(estimator, n_rows),
        embedding_l2=embedding_l2(estimator, rows),
        weight_decay=setting(estimator, "weight_decay"),
        lr_schedule=setting(estimator, "lr_schedule"),
        id_dropout=estimator.id_dropout,
        patience=setting(estimator, "patience"),
        seed=seed,
        monitor=target.monitor(estimator.monitor),
        averaging=setting(estimator, "averaging"),
    )
