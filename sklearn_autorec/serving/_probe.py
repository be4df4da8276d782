"""Rows of which every field of an encoder has its first and last id, and networks tried on them."""

import numpy as np
import pandas as pd
import torch

from ..exceptions import ModelFileError
from ..preprocessing import EncodedTable
from ..preprocessing._columns import MOMENT, NUMERIC, SEQUENCE, VECTOR
from ..preprocessing._numeric import GRIDS
from ..preprocessing._times import TIME


def probe_rows(encoder):
    """Two rows that the encoder knows: a table for trying out what was read."""
    schema, columns = encoder._schema, []
    for i, kind in enumerate(schema.column_kinds):
        field = encoder._fields[i]
        if kind == VECTOR:
            column = [field.mean.tolist(), None]
        elif kind == MOMENT:
            column = [_cell(0, schema.times[i]), None]
        elif kind == NUMERIC:
            known = float(field.grid[0]) if field.method in GRIDS and len(field.grid) else 0.0
            column = [
                _cell(known * 1e6, schema.times[i]) if i in (schema.times or {}) else known,
                np.nan,
            ]
        else:
            known = field.categories[:1].tolist() or ["?" if "strings" in field.seen else 0]
            if i in (schema.times or {}):
                known = [_cell(0, schema.times[i])]
            column = [*known, None]
            if kind == SEQUENCE:
                column = [
                    schema.separators[i].join(map(str, known)) if i in schema.separators else known,
                    None,
                ]
        columns.append(pd.Series(column, dtype=object))
    return pd.concat(columns, axis=1, keys=range(len(columns))).set_axis(
        schema.names or range(len(columns)), axis=1
    )


def _cell(microseconds, time):
    """A time or duration of a column as a cell; the epoch for one that pandas cannot hold."""
    try:
        value = np.array(int(microseconds)).astype(f"{'M' if time.kind == TIME else 'm'}8[us]")[()]
        cell = pd.Timestamp(value) if time.kind == TIME else pd.Timedelta(value)
    except (OverflowError, ValueError):
        return _cell(0, time)
    return cell if time.zone is None else cell.tz_localize("UTC")


def probe_module(module, mixture, encoder, allow_nonfinite):
    """Run the first and the last id of every field through the network: all tables and indices must
    reach so far.
    """
    last = [n - 1 for n in encoder.n_ids_]
    numbers = np.zeros((2, 2 * len(encoder.numeric_)), np.float32)
    vectors = np.zeros((2, sum(n + 1 for n in encoder.vector_lengths_)), np.float32)
    last_items = [n - 1 for n in encoder.sequence_n_ids_ for _ in range(encoder.max_length)]
    with torch.inference_mode():
        logits = module(
            torch.tensor([[0] * len(last), last], dtype=torch.int32),
            torch.from_numpy(np.hstack([numbers, vectors])),
            torch.tensor([[0] * len(last_items), last_items], dtype=torch.int32),
        )
    if not allow_nonfinite and not bool(logits.isfinite().all()):
        raise ModelFileError("The network's output is not finite.")
    if mixture is not None:
        ids = np.array([[0] * len(last), last], dtype=np.int32).reshape(2, len(last))
        items = np.array([[0] * len(last_items), last_items], dtype=np.int32).reshape(
            2, len(last_items)
        )
        rows = EncodedTable(ids, numbers, items, vectors)
        if not np.isfinite(mixture.logits(rows, np.zeros((2, 1)))).all():
            raise ModelFileError("The output of the model's parts is not finite.")
