"""Rows of which every field of an encoder has its first and last id."""

import numpy as np
import pandas as pd

from ..preprocessing._columns import NUMERIC, SEQUENCE
from ..preprocessing._numeric import GRIDS
from ..preprocessing._times import TIME


def probe_rows(encoder):
    """Two rows that the encoder knows: a table for trying out what was read."""
    schema, columns = encoder._schema, []
    for i, kind in enumerate(schema.column_kinds):
        field = encoder._fields[i]
        if kind == NUMERIC:
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
