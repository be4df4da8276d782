"""What a fitted `FieldEncoder` takes the columns of a table for, as a table and as HTML."""

import html
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ._columns import CATEGORICAL, NUMERIC, SEQUENCE, VECTOR
from ._times import DURATION
from ._vocabulary import MISSING, UNKNOWN

NOT_KNOWN = "not written down in files of earlier versions"


@dataclass(frozen=True, eq=False)
class MissingCells:
    """Rows and missing cells of every part, counted over chunks.

    Parameters
    ----------
    n_rows : float
        Weight of the rows.
    by_part : tuple of float
        Weight of those in which a part is missing; of a list, those without an item.
    """

    n_rows: float
    by_part: tuple

    def with_chunk(self, n_rows, parsed, schema, weight=None):
        """With those of one more chunk.

        Parameters
        ----------
        n_rows : int
        parsed : list
            Columns by part, as `parse_column` gives them.
        schema : Schema
        weight : float64 ndarray (n_rows,) or None
        """
        own = np.ones(n_rows) if weight is None else weight
        missing = [
            float(own[_missing(n_rows, values, kind)].sum())
            for values, kind in zip(parsed, schema.kinds, strict=True)
        ]
        before = self.by_part or (0.0,) * len(missing)
        return MissingCells(
            self.n_rows + float(own.sum()),
            tuple(a + b for a, b in zip(before, missing, strict=True)),
        )


def _missing(n_rows, values, kind):
    """In which rows a part is missing, bool (n_rows,)."""
    if kind == NUMERIC:
        return np.isnan(values[0])
    if kind == CATEGORICAL:
        return values[0] < 0
    if kind == VECTOR:
        return np.isnan(values).all(1)
    return np.bincount(values[3], minlength=n_rows) == 0


def description(encoder):
    """The fields of a fitted encoder as a DataFrame; see `FieldEncoder.describe`."""
    schema, missing = encoder._schema, getattr(encoder, "_missing_cells", None)
    called = encoder.kinds_
    rows = []
    for i in (*schema.categorical, *schema.numeric, *schema.sequence, *schema.vector):
        field, source = encoder._fields[i], schema.sources[i]
        share = np.nan
        if missing is not None and missing.n_rows:
            share = missing.by_part[i] / missing.n_rows
        ids = schema.kinds[i] in (CATEGORICAL, SEQUENCE)
        column = schema.column_labels[source]
        rows.append(
            {
                "column": column,
                "field": schema.labels[i],
                "kind": called[column],
                "read_as": _read_as(i, schema),
                "n_ids": field.n_ids if ids else pd.NA,
                "missing": share,
                "coverage": _coverage(field.counts) if ids else 1 - share,
                "reason": NOT_KNOWN if schema.reasons is None else schema.reasons[source],
            }
        )
    # By column, and in it as the network has the fields.
    order = sorted(range(len(rows)), key=lambda k: schema.column_labels.index(rows[k]["column"]))
    table = pd.DataFrame([rows[k] for k in order])
    return table.astype({"n_ids": "Int64", "missing": float, "coverage": float})


def _read_as(i, schema):
    """What the network is given of a part, in words."""
    kind, source = schema.kinds[i], schema.sources[i]
    if kind == VECTOR:
        return f"vector of {schema.vectors[i]}"
    if kind == SEQUENCE:
        return "sequence of ids"
    time = (schema.times or {}).get(source)
    if kind == CATEGORICAL:
        return "id"
    if i in schema.time_fields:
        return "seconds before the newest"
    if time is not None:
        return "seconds" if time.kind == DURATION else "seconds since 1970"
    return "number"


def _coverage(counts):
    """Share of the training cells whose value has an id of its own; of lists, of their items."""
    total = counts.sum()
    return float(1 - (counts[MISSING] + counts[UNKNOWN]) / total) if total else np.nan


def as_html(encoder):
    """The description of a fitted encoder as an HTML table that can be opened, all text of the
    user's table escaped.
    """
    table = description(encoder)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_shown(v))}</td>" for v in row) + "</tr>"
        for row in table.itertuples(index=False, name=None)
    )
    return (
        '<details class="sklearn-autorec-fields"><summary>'
        f"Fields of {len(encoder._schema.column_labels)} columns</summary>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></details>"
    )


def _shown(value):
    if value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.2%}" if isinstance(value, float) else str(value)
