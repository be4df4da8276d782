"""What searches found, read off a fitted estimator.

All functions read ``_architecture`` (dict by slot; the mask of a packed table stays in the table),
``encoder_`` and ``net_`` of an estimator that does not change meanwhile, such as a snapshot."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ..base import fixed_methods, network_of
from ..nn import FieldLayout, mask_from_text, mask_to_text, sizes_from_text


def architecture_of(model):
    """What each search found, by slot, and the network: plain values."""
    check_is_fitted(model, "encoder_")
    architecture = dict(model._architecture)
    if "mask" in architecture.get("embedding", {}):
        mask = model.net_.module_.embedding.mask()
        architecture["embedding"] = {**architecture["embedding"], "mask": mask_to_text(mask)}
    return architecture


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
    """Length of the embeddings by column: an int, or an int array by id where values differ."""
    check_is_fitted(model, "encoder_")
    chosen = model._architecture.get("embedding", {})
    if "widths" in chosen:
        sizes = dict.fromkeys(model.encoder_.field_names_, 0)  # a dropped field has no table
        names = _field_names(model)
        if "numeric" in model._architecture:  # numbers have a part of their own
            first = len(model.encoder_.n_ids_)
            numbers = model.encoder_.field_names_[first : first + len(model.encoder_.numeric_)]
            dim = model._architecture["embedding_dim"]
            sizes |= {name: dim for name in names if name in numbers}
            names = [name for name in names if name not in numbers]
        return sizes | dict(zip(names, chosen["widths"], strict=True))
    if "mask" in chosen:
        return _sizes_of_values(model, model.net_.module_.embedding.mask().sum(1))
    if "sizes" in chosen:
        candidates, codes = sizes_from_text(chosen["sizes"])
        return _sizes_of_values(model, np.array(candidates)[codes])
    raise AttributeError(
        f"search={model.search!r} does not choose embedding sizes; use for instance search=PEP()."
    )


def _sizes_of_values(model, counts):
    """Sizes of all rows of the network's tables, int (V,), as int arrays by column that has a
    table.
    """
    all_names, module = model.encoder_.field_names_, model.net_.module_
    layout = FieldLayout.of_encoder(model.encoder_)
    totals = dict(zip(layout.table_fields, layout.table_sizes, strict=True))
    totals |= {f: totals[owner] for f, owner in layout.sharers}
    tables = {f: np.arange(totals[f]) for f in sorted(totals)}
    if module.selection is not None:
        lists = {f: ids for f, ids in tables.items() if f >= layout.n_categorical}
        kept = module.selection.kept_ids()
        tables = dict(zip(module.selection.categorical, kept, strict=True))
        tables |= {f: ids for f, ids in lists.items() if f in module.selection.fields}
    readers = {f: owner for f, owner in layout.sharers if f in tables and owner in tables}
    tables = {f: ids for f, ids in tables.items() if f not in readers}
    bounds = np.cumsum([len(ids) for ids in tables.values()])[:-1]
    sizes = {all_names[f]: np.zeros(n_ids, counts.dtype) for f, n_ids in totals.items()}
    for (f, ids), own in zip(
        tables.items(), np.split(counts, bounds) if tables else [], strict=True
    ):
        sizes[all_names[f]][ids] = own
    sizes |= {all_names[f]: sizes[all_names[owner]] for f, owner in readers.items()}
    return sizes


def interactions(model):
    """Interactions that the search kept: list of tuples of column names."""
    names, chosen = _interactions(model)
    return [tuple(names[i] for i in t) for t in chosen["interactions"]]


def interaction_scores(model):
    """Score of every candidate interaction, by tuple of column names."""
    names, chosen = _interactions(model)
    return {
        tuple(names[i] for i in t): s
        for t, s in zip(chosen["candidates"], chosen["scores"], strict=True)
    }


def _interactions(model):
    """Names of the network's fields, and the entry of the interaction slot."""
    check_is_fitted(model, "encoder_")
    chosen = model._architecture.get("interaction", {})
    if "candidates" not in chosen:
        raise AttributeError(
            f"search={model.search!r} does not choose interactions; use for instance "
            f"search=AutoFIS()."
        )
    return _field_names(model), chosen


def _field_names(model):
    """Names of the fields that the network has, in its order."""
    names, gate = model.encoder_.field_names_, model._architecture.get("gate", {})
    return [names[f] for f in gate.get("fields", range(len(names)))]


def _chosen(model, key, what="fields", example="AutoField"):
    """An entry of the gate slot."""
    check_is_fitted(model, "encoder_")
    gate = model._architecture.get("gate", {})
    if model.net_ is None:
        raise AttributeError(
            f"The model has seen a single class: nothing was searched, there are no {what} to "
            f"choose."
        )
    if key not in gate:
        raise AttributeError(
            f"search={model.search!r} does not choose {what}; use for instance search={example}()."
        )
    return gate[key]


def support(model):
    """Which columns the search kept, bool, one a column of ``fit``."""
    kept, encoder = _chosen(model, "fields"), model.encoder_
    columns = np.concatenate([encoder.categorical_, encoder.numeric_, encoder.sequence_])
    is_kept = np.zeros(model.n_features_in_, bool)
    is_kept[columns[kept]] = True
    return is_kept


def selected_fields(model):
    """Names of the columns that the search kept, in the order of the network's fields."""
    _chosen(model, "fields")
    return _field_names(model)


def field_scores(model):
    """Score of every column, by name."""
    scores = _chosen(model, "scores")
    return dict(zip(model.encoder_.field_names_, scores, strict=True))


def selected_values(model):
    """Values that the search kept, by name of the kept categorical columns."""
    kept = mask_from_text(_chosen(model, "values", "values", "OptFS"))[:, 0]
    own = np.split(kept, np.cumsum(model.encoder_.n_ids_)[:-1])
    fields, names = _chosen(model, "fields"), model.encoder_.field_names_
    return {
        names[f]: values[own[f][2:]]  # after the missing and the unknown id
        for f, values in enumerate(model.encoder_.categories_)
        if f in fields and len(values)
    }
