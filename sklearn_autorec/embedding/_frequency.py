"""How often values occur: counts of the rows of embedding tables."""

import numpy as np
import torch


def value_counts(data, context, stream=None):
    """How often each row of the tables occurs, int64 ndarray (V,).

    Parameters
    ----------
    data : EncodedTensors
    context : BuildContext
    stream : RowStream or None, default=None
        All rows, where ``data`` is a sample of them.
    """
    tables = [*context.id_tables, *context.list_tables]
    counts = [np.zeros(n, np.int64) for n in context.table_sizes]
    for block in [data] if stream is None else stream.blocks():
        columns = list(block.ids.unbind(1))
        columns += block.sequences.split([length for _, length in context.sequences], 1)
        for table, column in zip(tables, columns, strict=True):
            cells = torch.bincount(column.flatten().long(), minlength=len(counts[table]))
            counts[table] += cells.cpu().numpy()
    return np.concatenate([np.zeros(0, np.int64), *counts])
