"""Tables of a trained network that get rows for new values."""

import numpy as np
import torch
from torch import nn

from ._axes import FieldAxis
from ._embeddings import FieldRows, _FieldTable

__all__ = ["grow_tables", "grown_rows"]

FIRST_VALUE = 2  # ids below are those of missing and of unknown values


@torch.no_grad()
def grow_tables(module, old, new):
    """Give every table of a network rows for the new ids of its fields, in place.

    A new row is the mean of the rows of the field's values, or, where it has none, the row of the
    unknown id.

    Parameters
    ----------
    module : nn.Module
        The network.
    old, new : FieldLayout
        Of the whole table, with the same fields.

    Returns
    -------
    dict of Parameter to int64 Tensor
        For each table the old row of every row, -1 of new ones.

    Raises
    ------
    ValueError
        If something in the network holds one entry a value and cannot grow.
    """
    places = {}
    parts = list(module.modules())
    for part in parts:
        if getattr(part, "by_value", False) or not _can_grow(part, old):
            raise ValueError(
                f"new_categories='grow': {type(part).__name__}, which stands in the network, holds "
                f"something for each value and cannot grow. Tables whose sizes or values a search "
                f"has chosen stay as they are: set new_categories='unknown', or train the network "
                f"without that search."
            )
    for part in parts:
        if isinstance(part, _FieldTable):
            places |= _grow_table(part, *(_layout_of(part, layout) for layout in (old, new)))
        elif hasattr(part, "kept_ids"):  # a selection of whole fields
            part.n_ids = [int(new.n_ids[f]) for f in part.categorical]
    return places


def _can_grow(part, layout):
    by_value = {
        name
        for name, axes in getattr(part, "field_axes", {}).items()
        for axis in axes.values()
        if any("V" in run for run in getattr(axis, "runs", ()))
    }
    if isinstance(part, _FieldTable):
        same = part.field_sizes == _layout_of(part, layout).table_sizes
        return same and by_value <= {"weight"}
    return not (isinstance(part, FieldRows) or by_value or getattr(part, "one_row_a_value", False))


def _layout_of(part, layout):
    """The layout of the fields that a table has."""
    fields = [layout.field_names.index(name) for name in part.column_names]
    return layout.of_fields(fields)


def _grow_table(part, old, new):
    """Grow the weight of a table, and what tells where its rows are."""
    members, device = part.members, part.weight.device
    rows = np.full(new.n_rows, -1, np.int64)
    sizes = list(zip(old.table_sizes, new.table_sizes, strict=True))
    starts = list(zip(old.row_starts.tolist(), new.row_starts.tolist(), strict=True))
    for (n_old, _), (start, own_start) in zip(sizes, starts, strict=False):
        rows[own_start : own_start + n_old] = np.arange(start, start + n_old)
    place = torch.from_numpy(rows).to(device)
    if members > 1:  # the vectors of a value lie side by side
        number = torch.arange(members, device=device)
        place = torch.where(
            place.unsqueeze(1) >= 0, place.unsqueeze(1) * members + number, -1
        ).flatten()
    weight = part.weight.detach()[place.clamp(min=0)].clone()
    for (n_old, n_new), (start, own_start) in zip(sizes, starts, strict=False):
        if n_new == n_old:
            continue
        first = min(FIRST_VALUE, n_old - 1)
        known = part.weight.detach()[(start + first) * members : (start + n_old) * members]
        mean = known.unflatten(0, (-1, members)).mean(0)  # (M, width)
        own = slice((own_start + n_old) * members, (own_start + n_new) * members)
        weight[own] = mean.repeat(n_new - n_old, 1)
    part.weight = nn.Parameter(weight, requires_grad=part.weight.requires_grad)
    part.field_axes["weight"][0] = FieldAxis.of(new, "V", members)
    part.offsets = torch.tensor(
        new.row_starts[new.id_tables], dtype=part.offsets.dtype, device=device
    )
    part.sequence_offsets = new.row_starts[new.list_tables].tolist()
    part.n_rows, part.field_sizes = new.n_rows, new.table_sizes
    if hasattr(part, "place_rows"):
        part.place_rows(new)
    return {part.weight: place}


def grown_rows(tensor, place):
    """Something of the old rows of a table as the same of the new ones, zero for those that are
    new.

    Parameters
    ----------
    tensor : Tensor (n_old, ...)
    place : int64 Tensor (n_new,)
        As `grow_tables` gives it.
    """
    place = place.to(tensor.device)
    rows = tensor[place.clamp(min=0)]
    return torch.where((place >= 0).view(-1, *[1] * (tensor.ndim - 1)), rows, 0.0)
