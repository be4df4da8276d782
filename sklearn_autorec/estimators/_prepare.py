"""All that a training needs, as one value, before its first step. Nothing here sets an attribute of
the estimator.
"""

import dataclasses
import pickle
from typing import Any

import numpy as np
from sklearn.base import clone

from .._ensemble._mixing import as_rows
from ..base import resolve_network
from ..engine import TrainingPlan
from ..engine._search_phase import check_methods, check_slots
from ..engine._serving_form import device_of, resolve_device
from ..nn import BuildContext, FieldLayout, check_storage
from ..preprocessing import N_BINS
from ..preprocessing._fitted import UNBOUNDED_RANGE
from ..utils._memory import available_memory
from ._blending import wanted_companions
from ._initial_embeddings import given_vectors
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

__all__ = [
    "Prepared",
    "check_chunk",
    "check_components",
    "fitted_context",
    "prepare_chunk",
    "prepare_fit",
]

LAZY_TABLE_FACTOR = 8  # tables this many times larger than a batch's ids get row-wise updates


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


def prepare_fit(estimator, X, y, rows, validation, fitted):
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

    Returns
    -------
    Prepared

    Raises
    ------
    ValueError
        If parameters do not go with the rows, or tables would not fit into the memory.
    """
    methods = check_methods(estimator.search, estimator.joint)
    seeds = Seeds(estimator.random_state)
    companions = wanted_companions(estimator, methods, rows.target)
    searched = methods if fitted is None else []
    split = split_rows(estimator, rows, validation, searched, companions, seeds.split)
    plan = training_plan(estimator, len(split.kept), rows.target, seeds.order)
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
        device=resolve_device(estimator.device),
        seeds=seeds,
        progress=EpochReporter(estimator, X, y),
        weight_seen=rows.weight_seen(_seen_before(fitted)),
        keep_moments=estimator.warm_start,
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


def check_components(estimator):
    """Refuse wrong parameters, slots that do not fit, a device that is not there and what could not
    be saved, before any work.
    """
    network = resolve_network(estimator.network)
    methods = check_methods(estimator.search, estimator.joint)
    resolve_device(estimator.device)
    check_slots(network, methods)
    if estimator.quantization_aware and estimator.storage is None:
        raise ValueError(
            "quantization_aware=True needs a storage of fewer bytes to be aware of, got "
            "storage=None; set storage='int8', for instance."
        )
    untrained = [method for method in methods if method.retrain == "none"]
    if untrained and estimator.members > 1:
        raise ValueError(
            f"members={estimator.members} needs members that are trained, "
            f"search={untrained[0]!r} has retrain='none', after which the one searched network "
            f"serves; choose members=1 or another retrain."
        )
    components = {"network": network, "search": methods, "encoder": estimator.encoder}
    for name, value in components.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever a user's object raises, the advice is the same
            raise ValueError(
                f"{name}={value!r} cannot be pickled ({error}); the fitted model could not be "
                f"saved."
            ) from error


def check_chunk(estimator, fitted, classes):
    """Refuse what ``partial_fit`` cannot do, before any work."""
    if getattr(estimator, "class_weight", None) == "balanced":
        raise ValueError(
            "class_weight='balanced' is not supported by partial_fit: a chunk does not know "
            "how often a class occurs in the others. Give the weights as a dict, for instance "
            "class_weight=dict(zip(classes, sklearn.utils.class_weight.compute_class_weight("
            "'balanced', classes=classes, y=y))) with the y of a large sample."
        )
    if fitted is None:
        _check_streams(estimator)
        check_components(estimator)
    elif classes is not None and not np.array_equal(
        np.unique(np.asarray(classes)), fitted.classes_
    ):
        raise ValueError(
            f"classes={np.asarray(classes).tolist()} is not the same as in the call before: "
            f"{fitted.classes_.tolist()}."
        )


def _check_streams(estimator):
    """Refuse searches with which ``partial_fit`` cannot begin."""
    methods = check_methods(estimator.search, estimator.joint)
    told = f"partial_fit cannot start with search={estimator.search!r}"
    if not all(method.streams for method in methods):
        raise ValueError(
            f"{told}: a search needs all its rows. Call fit first (partial_fit then goes on "
            f"training the network it found), or set search=None."
        )
    for method in methods:
        if method.narrows or not method.joint or "loss" in method.slots:
            raise ValueError(
                f"{told}: {method!r} declares streams=True, which takes the default search, and "
                f"neither dropped fields nor the loss slot."
            )
    if len(methods) > 1 and not estimator.joint:
        raise ValueError(
            f"{told} and joint=False: in a stream several methods search at once; set joint=True."
        )
    if methods and estimator.members > 1:
        raise ValueError(
            f"{told} and members={estimator.members}: the one searched network serves; choose "
            f"members=1."
        )


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


def build_context(estimator, rows, plan):
    """What a new network for these rows is built from.

    Raises
    ------
    ValueError
        If its tables would not fit into the memory.
    """
    encoder = rows.encoder
    layout = FieldLayout.of_encoder(encoder)
    _check_memory(estimator, layout, rows.target.n_outputs)
    per_batch = plan.batch_size * (layout.n_categorical + sum(layout.sequence_lengths))
    return BuildContext.of_encoder(
        encoder,
        embedding_dim=setting(estimator, "embedding_dim"),
        n_outputs=rows.target.n_outputs,
        counts=tuple(encoder.counts_),
        output_bias=tuple(float(b) for b in rows.target.output_bias(rows.y, as_rows(rows.weight))),
        sparse_gradients=layout.n_rows > LAZY_TABLE_FACTOR * per_batch,
        embedding_init=setting(estimator, "embedding_init"),
        members=estimator.members,
        numeric_embedding=estimator.numeric_embedding,
        n_numeric_bins=getattr(encoder, "n_bins", N_BINS),
        numeric_range=getattr(encoder, "numeric_range_", UNBOUNDED_RANGE),
        storage=estimator.storage,
        given_vectors=given_vectors(estimator, encoder),
        reference_loss=rows.target.loss(),
    )


def fitted_context(
    target, encoder, sparse, embedding_dim, members, numeric_embedding, storage=None
):
    """What the network of a fitted estimator is built from once more.

    Parameters
    ----------
    target : ClassTarget or RatingTarget
    encoder : FieldEncoder, or a frozen one
    sparse : bool
        Whether tables have row-wise gradients.
    embedding_dim, members : int
    numeric_embedding : str
    storage : str, dict or None, default=None

    Returns
    -------
    BuildContext
    """
    return BuildContext.of_encoder(
        encoder,
        embedding_dim=embedding_dim,
        n_outputs=target.n_outputs,
        counts=tuple(encoder.counts_),
        sparse_gradients=sparse,
        members=members,
        numeric_embedding=numeric_embedding,
        n_numeric_bins=getattr(encoder, "n_bins", N_BINS),
        numeric_range=getattr(encoder, "numeric_range_", UNBOUNDED_RANGE),
        storage=storage,
        reference_loss=target.loss(),
    )


def _check_memory(estimator, layout, n_outputs):
    """Refuse embedding tables that would not fit, before anything is allocated."""
    # The table, its gradient, two moments, and a copy of the best epoch.
    dim, members, n_rows = setting(estimator, "embedding_dim"), estimator.members, layout.n_rows
    width = resolve_network(estimator.network).table_width(dim, layout.n_fields)
    needed = 5 * 4 * n_rows * (width + n_outputs) * members
    available = available_memory()
    if needed <= available:
        return
    largest = layout.table_fields[int(np.argmax(layout.table_sizes))]
    raise ValueError(
        f"The embedding tables of {n_rows:,} ids with embedding_dim={dim}"
        f"{f' and members={members}' if members > 1 else ''} need about "
        f"{needed / 2**30:.2f} GiB in training, {available / 2**30:.2f} GiB are available. Column "
        f"{layout.field_names[largest]!r} has most ids: cap it with "
        f"encoder=FieldEncoder(max_categories=..., min_frequency=... or hash_threshold=...), or "
        f"lower embedding_dim{' or members' if members > 1 else ''}."
    )
