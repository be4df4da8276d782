"""What searches found, read off a fitted estimator.

All functions read ``_architecture`` (dict by slot, without what packed parts tell), ``encoder_``
and ``net_`` of an estimator that does not change meanwhile, such as a snapshot. What stands in the
network is asked of its parts; what a search has found beside that, of its method, which alone knows
the keys of its architecture."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..base import fixed_methods, network_of
from ..engine._building import slot_context
from ..engine._serving_form import bytes_by_kind, parts_of, whole_architecture
from ..engine._slots import entries_of
from ..nn import BuildContext, FieldLayout, numeric_rows
from ..nn._budget import ELEMENT
from ..nn._select import RESERVED
from ..preprocessing import N_BINS


def architecture_of(model):
    """What each search found, by slot, and the network: plain values."""
    check_is_fitted(model, "encoder_")
    if model.net_ is None:
        return dict(model._architecture)
    return whole_architecture(model._architecture, model.net_.module_)


def parameters_of(architecture):
    """What an estimator needs to train a known architecture, without searching.

    Returns
    -------
    network : Network
    search : list of FixedArchitecture or None
    options : dict
        Further parameters of the constructor, which a user may change.

    Raises
    ------
    ValueError
        If it is no architecture.
    """
    if not isinstance(architecture, dict) or "network" not in architecture:
        raise ValueError(
            f"architecture must be the architecture_ of a fitted model, got {architecture!r:.200}."
        )
    search = fixed_methods(architecture)
    options = {
        "embedding_dim": architecture.get("embedding_dim", 16),
        # Of before there was a choice.
        "numeric_embedding": architecture.get("numeric_embedding", "linear"),
    }
    return network_of(architecture["network"]), search or None, options


def part_weights(model):
    """Weight of each part in the mean that predicts: dict of sum 1."""
    check_is_fitted(model, "encoder_")
    mixture = model.__dict__.get("_mixture_")
    return {"network": 1.0} if mixture is None else dict(mixture.weights)


def embedding_sizes(model):
    """Length of the embeddings by column: an int, or an int array by id where values differ.

    Where it is chosen by value, columns without values (numbers) are left out.
    """
    part, parts, encoder = _sized_part(model), _parts(model), model.encoder_
    whole, selection = FieldLayout.of_encoder(encoder), parts.get("selection")
    every = dict.fromkeys(range(whole.n_fields))
    kept = every if selection is None else selection.ids_by_field(whole)
    n_ids = dict(zip(whole.table_fields, whole.table_sizes, strict=True))
    n_ids |= {f: n_ids[owner] for f, owner in whole.sharers}
    apart = "numeric" in model._architecture  # numbers have a part of their own
    fields = [f for f in kept if f in n_ids or (f < whole.first_vector and not apart)]
    sizes = dict(zip(fields, part.sizes(), strict=True))
    by_value = any(np.ndim(size) for size in sizes.values())
    told = {}
    for f, name in enumerate(encoder.field_names_):
        if by_value and f not in n_ids:
            continue
        size = sizes.get(f)
        if f not in kept:  # a dropped field has no table
            told[name] = np.zeros(n_ids[f], np.int64) if by_value else 0
        elif size is None:
            told[name] = model._architecture["embedding_dim"]
        elif np.ndim(size):
            told[name] = np.zeros(n_ids[f], size.dtype)
            told[name][slice(None) if kept[f] is None else kept[f]] = size
        else:
            told[name] = int(size)
    return told


def _sized_part(model):
    """The embedding part, whose sizes a search chose."""
    (method,), part = _searched(model, "embedding"), _parts(model).get("embedding")
    if method is None or not hasattr(part, "sizes"):
        raise AttributeError(
            f"search={model.search!r} does not choose embedding sizes; use for instance "
            f"search=PEP()."
        )
    return part


def sparsity(model):
    """Share of the numbers of the whole embedding tables that is not stored, float in [0, 1]."""
    _sized_part(model)
    apart = "numeric" in model._architecture  # numbers have a part of their own
    module = model.net_.module_
    rows = whole_rows(model.encoder_, model._architecture, numbers=not apart)
    whole = getattr(module, "members", 1) * rows * model._architecture["embedding_dim"]
    stored = bytes_by_kind(module, ("embedding",))["embedding"] / ELEMENT
    # What serves in place of the tables may be larger than they are.
    return max(1 - stored / whole, 0.0) if whole else 0.0


def whole_rows(encoder, architecture, numbers=True):
    """Vectors that the whole embedding tables hold, of all columns or without those of numbers."""
    rows = int(FieldLayout.of_encoder(encoder).n_rows)
    if not numbers:
        return rows
    kind = architecture.get("numeric_embedding", "linear")
    return rows + numeric_rows(kind, getattr(encoder, "n_bins", N_BINS)) * len(encoder.numeric_)


def interactions(model):
    """Interactions that the search kept: list of tuples of column names."""
    methods, parts = _searched(model, "interaction", "body"), _parts(model)
    names = _field_names(model)
    for slot, method in zip(("interaction", "body"), methods, strict=True):
        if method is not None and hasattr(parts.get(slot), "interactions"):
            return [tuple(names[f] for f in t) for t, _ in parts[slot].interactions()]
    raise _no_interactions(model)


def interaction_scores(model):
    """Score of every candidate interaction, by tuple of column names."""
    scores, names = _scores(model, "interaction_scores")
    if scores is None:
        found = any(hasattr(part, "interactions") for part in _parts(model).values())
        if found and any(_searched(model, "interaction", "body")):
            raise AttributeError(
                f"search={model.search!r} has kept no scores of interactions; those that it chose "
                f"are interactions_."
            )
        raise _no_interactions(model)
    return {tuple(names[f] for f in t): score for t, score in scores.items()}


def architecture_graph(model):
    """What the search has put together, as nodes and edges; see `SearchMethod.graph`."""
    graph, _ = _scores(model, "graph")
    if graph is None:
        raise AttributeError(
            f"search={model.search!r} finds no graph of operations; use for instance "
            f"search=AutoCTR()."
        )
    return graph


def _no_interactions(model):
    return AttributeError(
        f"search={model.search!r} does not choose interactions; use for instance search=AutoFIS()."
    )


def _parts(model):
    """Parts of the network by name; none where there is no network."""
    return {} if model.net_ is None else parts_of(model.net_.module_)


def _searched(model, *slots):
    """The methods that searched some slots, None where there is none: list."""
    check_is_fitted(model, "encoder_")
    methods = {slot: m for m in fixed_methods(model._architecture) for slot in m.slots}
    return [methods.get(slot) for slot in slots]


def _scores(model, hook):
    """What a hook of the first method that has an answer says of the architecture, or None; and the
    names of the fields in its context.
    """
    check_is_fitted(model, "encoder_")
    methods = fixed_methods(model._architecture)
    if not methods:
        return None, ()
    dim, selection = model._architecture["embedding_dim"], _parts(model).get("selection")
    whole = BuildContext.of_encoder(model.encoder_, embedding_dim=dim)
    kept = whole if selection is None else selection.narrow(whole)
    for method in methods:
        context = slot_context(method, methods, whole if method.narrows else kept)
        answer = getattr(method, hook)(entries_of(method, model._architecture), context)
        if answer is not None:
            return answer, context.field_names
    return None, ()


def _field_names(model):
    """Names of the fields that the network has, in its order."""
    check_is_fitted(model, "encoder_")
    names, selection = model.encoder_.field_names_, _parts(model).get("selection")
    return list(names) if selection is None else [names[f] for f in selection.fields]


def _kept_fields(model):
    """Positions of the fields that the search kept."""
    check_is_fitted(model, "encoder_")
    if not any(method.narrows for method in fixed_methods(model._architecture)):
        raise _nothing_chosen(model, "fields", "AutoField")
    selection = _parts(model).get("selection")
    return list(range(len(model.encoder_.field_names_))) if selection is None else selection.fields


def _nothing_chosen(model, what, example):
    if model.net_ is None:
        return AttributeError(
            f"The model has seen a single class: nothing was searched, there are no {what} to "
            f"choose."
        )
    return AttributeError(
        f"search={model.search!r} does not choose {what}; use for instance search={example}()."
    )


def support(model):
    """Which columns the search kept, bool, one a column of ``fit``."""
    kept, encoder = _kept_fields(model), model.encoder_
    columns = np.concatenate(
        [encoder.categorical_, encoder.numeric_, encoder.sequence_, encoder.vector_]
    )
    is_kept = np.zeros(model.n_features_in_, bool)
    is_kept[columns[kept]] = True
    return is_kept


def selected_fields(model):
    """Names of the columns that the search kept, in the order of the network's fields."""
    return [model.encoder_.field_names_[f] for f in _kept_fields(model)]


def field_scores(model):
    """Score of every column that was searched, by name."""
    scores, names = _scores(model, "field_scores")
    if scores is None:
        raise _nothing_chosen(model, "fields", "AutoField")
    return dict(zip(names, scores, strict=True))


def selected_values(model):
    """Values that the search kept, by name of the kept categorical columns."""
    check_is_fitted(model, "encoder_")
    selection = _parts(model).get("selection")
    if selection is None or not selection.by_value:
        raise _nothing_chosen(model, "values", "OptFS")
    names, categories = model.encoder_.field_names_, model.encoder_.categories_
    return {
        names[f]: categories[f][ids[ids >= RESERVED] - RESERVED]
        for f, ids in zip(selection.categorical, selection.kept_ids(), strict=True)
        if len(categories[f])
    }
