"""Which column of a table is of which kind."""

from dataclasses import dataclass, field

import numpy as np

from ._columns import CATEGORICAL, NUMERIC, SEQUENCE, column_kind
from ._names import find_column
from ._time_columns import time_of_column


@dataclass(eq=False)
class Schema:
    """Kinds of the columns of a table.

    Parameters
    ----------
    names : list or None
        Column names as they came, None if there were none.
    labels : list of str
        Names for messages and outputs, "x0", "x1", ... if there were none.
    kinds : list of {"categorical", "numeric", "sequence"}
    separators : dict of int to str
        How the text of a sequence column is split, by position.
    times : dict of int to TimeKind, or None
        Columns that hold times, by position; None if that was not written down (files of version 0.1).
    """

    names: list | None
    labels: list
    kinds: list
    separators: dict
    times: dict | None = field(default_factory=dict)

    def time(self, i, column):
        """The `TimeKind` of a column, None if it holds none."""
        if self.times is None:
            return time_of_column(column, self.labels[i], self.kinds[i] == NUMERIC) if i not in self.sequence else None
        return self.times.get(i)

    def __post_init__(self):
        self.categorical, self.numeric, self.sequence = (
            [i for i, kind in enumerate(self.kinds) if kind == which] for which in (CATEGORICAL, NUMERIC, SEQUENCE)
        )


def choose_schema(names, columns, categorical_features, sequence_features):
    """The schema that dtypes and the two parameters of `FieldEncoder` ask for."""
    n = len(columns)
    labels = [f"x{i}" for i in range(n)] if names is None else [str(name) for name in names]
    if len(set(labels)) < n:
        raise ValueError(f"Column names must differ as text too, got {names}.")
    kinds = [column_kind(column) for column in columns]
    if sequence_features is None and SEQUENCE in kinds:
        raise ValueError(f"Column {labels[kinds.index(SEQUENCE)]!r} holds lists, but sequence_features=None.")
    if not isinstance(categorical_features, str):
        chosen = _positions("categorical_features", categorical_features, names, n)
        for i, kind in enumerate(kinds):
            kinds[i] = CATEGORICAL if i in chosen else (SEQUENCE if kind == SEQUENCE else NUMERIC)
    separators = {}
    if isinstance(sequence_features, dict):
        for key, separator in sequence_features.items():
            if not isinstance(separator, str) or not separator:
                raise ValueError(
                    f"sequence_features: the separator of column {key!r} must be a string of one character or more, "
                    f"got {separator!r}."
                )
            (i,) = _positions("sequence_features", [key], names, n)
            separators[i], kinds[i] = separator, SEQUENCE
    elif not isinstance(sequence_features, str):
        for i in _positions("sequence_features", sequence_features, names, n):
            kinds[i] = SEQUENCE
    times = {}
    for i, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        time = None if kind == SEQUENCE else time_of_column(column, labels[i], kind == NUMERIC)
        if time is not None:
            times[i] = time
    return Schema(names, labels, kinds, separators, times)


def _positions(parameter, given, names, n_columns):
    """Column positions, a set of int, of names, indices or a mask."""
    given = [] if given is None else list(given)
    if given and all(isinstance(g, bool | np.bool_) for g in given):
        if len(given) != n_columns:
            raise ValueError(f"{parameter} is a mask of length {len(given)}, the table has {n_columns} columns.")
        return set(np.flatnonzero(given).tolist())
    positions = set()
    for g in given:
        found = find_column(g, names, [str(name) for name in names or ()] or [""] * n_columns)
        if found is not None:
            positions.add(found)
        else:
            known = f"a column of {names} nor " if names is not None else ""
            raise ValueError(f"{parameter} has {g!r}, which is neither {known}an index below {n_columns}.")
    return positions
