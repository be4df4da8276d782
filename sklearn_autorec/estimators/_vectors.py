"""Embeddings out of a fitted model: what its network reads for every value of a column."""

import pandas as pd
import torch
from sklearn.utils.validation import check_is_fitted

from ..engine._serving_form import device_of
from ..nn import Inputs, Members
from ..preprocessing._labels import field_labels
from ..preprocessing._names import find_column

__all__ = ["embeddings_of", "field_of_column"]

CHUNK = 8192  # values of one pass


def field_of_column(encoder, column, parameter):
    """The field that holds the ids of a column, and its part in the encoder's schema.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted.
    column : str or int
        Name or position of the column.
    parameter : str
        Where the user has named it, for messages.

    Returns
    -------
    field : int
        Position in ``field_names_``.
    part : int

    Raises
    ------
    ValueError
        If there is no such column, or it holds numbers alone.
    """
    schema = encoder._schema
    place = find_column(column, schema.names, schema.column_labels)
    if place is None:
        raise ValueError(
            f"{parameter} names {column!r}, which is no column of fit; there are "
            f"{schema.column_labels!r:.300}."
        )
    parts = [*schema.categorical, *schema.numeric, *schema.sequence]
    for field, part in enumerate(parts):
        if schema.sources[part] == place and part not in schema.numeric:
            return field, part
    raise ValueError(
        f"{parameter} names {schema.column_labels[place]!r}, a column of numbers, which has no "
        f"embedding table; columns of ids and of lists of ids have one: "
        f"{[schema.labels[p] for p in parts if p not in schema.numeric]!r:.300}."
    )


def embeddings_of(model, column):
    """The vectors of all values of a column, as the network of a fitted model reads them.

    Parameters
    ----------
    model : CTRClassifier or RatingRegressor
        That does not change meanwhile, such as a snapshot.
    column : str or int

    Returns
    -------
    DataFrame
        See `FieldEstimator.get_embeddings`.
    """
    check_is_fitted(model, "encoder_")
    encoder = getattr(model.encoder_, "estimator", model.encoder_)
    field, part = field_of_column(encoder, column, "column")
    if model.net_ is None:
        raise ValueError("The model has seen a single class: it has no network and no embeddings.")
    module, device = model.net_.module_, device_of(model.net_)
    labels = field_labels(encoder, part)
    networks = module.networks if isinstance(module, Members) else [module]
    packed = module.packed if isinstance(module, Members) else 1
    each = [
        torch.cat([_read(network, ids, encoder, field, packed, device) for ids in _chunks(labels)])
        for network in networks
    ]
    vectors = torch.cat(each, 1).cpu().numpy()  # (V, M, d)
    n_members, dim = vectors.shape[1:]
    columns = pd.RangeIndex(dim, name="dimension")
    if n_members > 1:
        columns = pd.MultiIndex.from_product(
            [range(n_members), range(dim)], names=["member", "dimension"]
        )
    index = pd.Index(labels, dtype=object, name=encoder._schema.labels[part])
    return pd.DataFrame(vectors.reshape(len(labels), -1), index, columns)


def _chunks(labels):
    return torch.arange(len(labels), dtype=torch.int32).split(CHUNK)


@torch.no_grad()
def _read(network, ids, encoder, field, packed, device):
    """Vectors (n, members, d) of ids (n,) of a field in a network of so many members."""
    n_ids, n_numeric = len(encoder.n_ids_), len(encoder.numeric_)
    lists = len(encoder.sequence_n_ids_)
    table = torch.zeros(len(ids), n_ids, dtype=torch.int32)
    items = torch.zeros(len(ids), lists * encoder.max_length, dtype=torch.int32)
    number = field - n_ids - n_numeric
    if number < 0:
        table[:, field] = ids
    else:
        items[:, number * encoder.max_length] = ids
    numbers = torch.zeros(len(ids), 2 * n_numeric)
    inputs = Inputs(*(t.repeat(packed, 1).to(device) for t in (table, numbers, items)))
    selection, name = getattr(network, "selection", None), encoder.field_names_[field]
    embedding, place = getattr(network, "embedding", None), field
    if selection is not None:
        if field not in selection.fields:
            raise ValueError(f"The search has dropped {name!r}: the network has no table for it.")
        inputs, place = selection(inputs), selection.fields.index(field)
    if embedding is None:
        raise ValueError(
            f"The network {type(network).__name__} has no embedding tables, hence no vectors of "
            f"{name!r}."
        )
    kept = range(n_ids + n_numeric + lists) if selection is None else selection.fields
    of_ids = sum(f < n_ids for f in kept)
    first_list = of_ids + sum(n_ids <= f < n_ids + n_numeric for f in kept)
    if hasattr(embedding, "unpooled"):
        vectors, of_items = embedding.unpooled(inputs)
        found = (
            torch.cat(vectors, 1)[:, place] if number < 0 else of_items[place - first_list][:, 0]
        )
    else:
        # Beside a part that embeds the numbers there are none here.
        apart = first_list - of_ids if network.numeric is not None and number >= 0 else 0
        found = embedding(inputs)[:, place - apart]
    return found.float().unflatten(0, (packed, -1)).transpose(0, 1)
