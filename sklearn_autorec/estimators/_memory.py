"""Whether the tables of a network fit into the memory."""

import numpy as np

from ..base import resolve_network
from ..utils._memory import available_memory
from ._settings import setting

__all__ = ["check_memory"]


def check_memory(estimator, layout, n_outputs):
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
