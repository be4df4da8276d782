"""Puts the tables of whole networks into a storage, and back."""

import numpy as np
from torch import nn

from ._quantized import QuantizedTable, Rounding, quantized
from ._storage import is_product, kinds_of, runs_of

# Modules that have tables say by ``stored_tables()`` which: dict of the names of attributes to
# functions without arguments that make the `TableRows` of each, which takes as long as reading the
# table; ``column_names`` are the fields of their context.


def _with_tables(module):
    """Every module within that has tables, and the name of it."""
    for name, part in module.named_modules():
        if hasattr(part, "stored_tables"):
            yield name, part


def _full(name, attribute):
    return f"{name}.{attribute}".lstrip(".")


def store_tables(module, storage, counts=None):
    """Put the tables of a module into the storage, in place.

    Parameters
    ----------
    module : nn.Module
    storage : str, dict or None
    counts : dict of str to ndarray (n_ids,) or None, default=None
        How often the values of a column occur in the training rows, for columns of which that is
        known. Centroids of product quantisation are nearer to those that occur often.

    Returns
    -------
    dict of str to nn.Parameter
        The tables that were replaced, by their names in the module.
    """
    replaced: dict[str, nn.Parameter] = {}
    if storage is None:
        return replaced
    for name, part in list(_with_tables(module)):
        for attribute, rows_of in part.stored_tables().items():
            table = getattr(part, attribute)
            rows = rows_of()
            weight = _weight(part, rows, counts) if is_product(storage) else None
            stored = quantized(table, rows, storage, part.column_names, weight)
            if stored is not None:
                replaced[_full(name, attribute)] = table
                put_stored(part, attribute, stored)
    return replaced


def _weight(part, rows, counts):
    """How often the value of each stored row occurs, at least 1; ndarray (n,), or None where that
    is not known.
    """
    if rows.ids is None or not counts:
        return None
    weight = np.ones(len(rows.columns))
    for n_ids, field in zip(part.field_sizes, part.table_fields, strict=True):
        own = counts.get(part.column_names[field])
        # Of a vocabulary that a search has cut the ids are others.
        if own is not None and len(own) == n_ids:
            mine = rows.columns == field
            weight[mine] = np.maximum(own[rows.ids[mine]], 1)
    return weight


def put_stored(part, attribute, stored):
    """Let a table in its storage take the place of the parameter."""
    del part._parameters[attribute]
    setattr(part, attribute, stored)


def in_float32(module, tables=None):
    """Put the tables of a module back into float32 parameters, in place; returns the module.

    Parameters
    ----------
    module : nn.Module
    tables : dict of str to Tensor or None, default=None
        What the tables were before, by name, copies of which are taken; others are what they read
        as.
    """
    for name, part in list(_with_tables(module)):
        stored = [a for a, m in part._modules.items() if isinstance(m, QuantizedTable)]
        for attribute in stored:
            own = getattr(part, attribute)
            before = (tables or {}).get(_full(name, attribute))
            if before is None or tuple(before.shape) != own.shape:
                dense = own.dense(part.stored_tables()[attribute]().vectors)
            else:
                dense = before.detach().clone().to(next(own.parameters()).device)
            del part._modules[attribute]
            part.register_parameter(attribute, nn.Parameter(dense))
    return module


def round_in_training(module, storage):
    """Let the tables of a module read, until `read_exactly`, as they will in the storage.

    Raises
    ------
    ValueError
        If that is product quantisation, whose centroids are those of trained tables.
    """
    if is_product(storage):
        raise ValueError(
            f"quantization_aware=True cannot be combined with storage={storage!r:.200}: the codes "
            f"of 'pq' are found after the training; set quantization_aware=False."
        )
    for _, part in _with_tables(module):
        part.rounding = {}
        for attribute, rows_of in part.stored_tables().items():
            table, rows = getattr(part, attribute), rows_of()
            kinds = kinds_of(
                rows, table.shape[-1] if table.ndim > 1 else 1, storage, part.column_names
            )
            if kinds and {*kinds.values()} != {"float32"}:
                read = rows.columns if rows.read_columns is None else rows.read_columns
                kinds = dict.fromkeys(np.unique(read).tolist(), "float32") | kinds
                rounding = Rounding(runs_of(read, kinds))
                part.rounding[attribute] = rounding.to(table.device)


def read_exactly(module):
    """Undo `round_in_training`."""
    for _, part in _with_tables(module):
        part.rounding = {}


def stored_tables_of(module):
    """The tables in a storage, by their names in a module: dict of str to `QuantizedTable`."""
    return {n: m for n, m in module.named_modules() if isinstance(m, QuantizedTable)}


def places_of_tables(module):
    """Where tables of a module stand: dict of their names to pairs of the module that has one and
    its attribute.
    """
    return {
        _full(name, attribute): (part, attribute)
        for name, part in _with_tables(module)
        for attribute in part.stored_tables()
    }
