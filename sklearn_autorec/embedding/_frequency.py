"""How often values occur: counts of the rows of embedding tables."""

import numpy as np
import torch


def value_counts(data, context):
    """How often each row of the tables occurs, int64 ndarray (V,).

    Parameters
    ----------
    data : EncodedTensors
    context : BuildContext
    """
    columns = list(data.ids.unbind(1))
    columns += data.sequences.split([length for _, length in context.sequences], 1)
    tables = [*context.id_tables, *context.list_tables]
    counts = [np.zeros(n, np.int64) for n in context.table_sizes]
    for table, column in zip(tables, columns, strict=True):
        cells = torch.bincount(column.flatten().long(), minlength=len(counts[table]))
        counts[table] += cells.cpu().numpy()
    return np.concatenate([np.zeros(0, np.int64), *counts])
