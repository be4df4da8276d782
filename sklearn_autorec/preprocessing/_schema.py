"""Which column of a table is of which kind."""

from dataclasses import dataclass, field

import numpy as np

from ._columns import CATEGORICAL, NUMERIC, SEQUENCE, column_kind
from ._kinds import BOTH, choose_kinds
from ._names import find_column, labels_of
from ._sharing import check_shared, shared_positions
from ._time_columns import time_of_column

# As users give them and are told.
NAMES_OF_KINDS = {"id": CATEGORICAL, "number": NUMERIC, "both": BOTH}


@dataclass(eq=False)
class Schema:
    """Kinds of the columns of a table, and the parts that are read of them.

    A part is a column as ids, as numbers or as sequences. The first parts are the columns in their
    order; behind them follow the numbers of the columns that are both ids and numbers. Wherever
    something is counted or derived by part, there is one entry for each.

    Parameters
    ----------
    names : list or None
        Column names as they came, None if there were none.
    labels : list of str
        Names for messages and outputs, "x0", "x1", ... if there were none.
    kinds : list of {"categorical", "numeric", "both", "sequence"}
    separators : dict of int to str
        How the text of a sequence column is split, by position.
    times : dict of int to TimeKind, or None
        Columns that hold times, by position; None if that was not written down (files of version
        0.1).

    shared : dict of int to int
        Categorical column whose vocabulary a list column shares, by position of the latter.

    Attributes
    ----------
    column_labels, column_kinds : list
        ``labels`` and ``kinds`` as given, by column.
    labels, kinds : list
        By part; no part is "both".
    sources : list of int
        Column of each part.
    categorical, numeric, sequence : list of int
        Parts of each kind, in the order of their columns.
    """

    names: list | None
    labels: list
    kinds: list
    separators: dict
    times: dict | None = field(default_factory=dict)
    shared: dict = field(default_factory=dict)

    def time(self, i, column):
        """The `TimeKind` of a column, None if it holds none."""
        if self.times is None:
            return (
                time_of_column(column, self.labels[i], self.kinds[i] == NUMERIC)
                if i not in self.sequence
                else None
            )
        return self.times.get(i)

    def __post_init__(self):
        self.column_labels, self.column_kinds = self.labels, self.kinds
        both = [i for i, kind in enumerate(self.kinds) if kind == BOTH]
        self.sources = [*range(len(self.kinds)), *both]
        self.kinds = [CATEGORICAL if kind == BOTH else kind for kind in self.kinds] + [
            NUMERIC
        ] * len(both)
        self.labels = list(self.labels)
        for i in both:
            label = f"{self.labels[i]} (number)"
            while label in self.labels:
                label += "'"
            self.labels.append(label)
        self.categorical, self.numeric, self.sequence = (
            sorted(
                (i for i, kind in enumerate(self.kinds) if kind == which),
                key=self.sources.__getitem__,
            )
            for which in (CATEGORICAL, NUMERIC, SEQUENCE)
        )
        self.numeric_sources = [self.sources[i] for i in self.numeric]

    def parts(self, columns):
        """The columns of a table by part."""
        return [columns[i] for i in self.sources]


def choose_schema(
    names,
    columns,
    categorical_features,
    sequence_features,
    weight=None,
    share_vocabulary=None,
):
    """The schema that dtypes and the three parameters of `FieldEncoder` ask for."""
    n = len(columns)
    labels = labels_of(names, n)
    if len(set(labels)) < n:
        raise ValueError(f"Column names must differ as text too, got {names}.")
    kinds = [column_kind(column) for column in columns]
    if sequence_features is None and SEQUENCE in kinds:
        raise ValueError(
            f"Column {labels[kinds.index(SEQUENCE)]!r} holds lists, but sequence_features=None."
        )
    named = _named_sequences(sequence_features, names, n)

    def position(key):
        return next(iter(_positions("share_vocabulary", [key], names, n)))

    shared = shared_positions(share_vocabulary, position)
    if isinstance(categorical_features, str | dict):
        given = {}
        if isinstance(categorical_features, dict):
            given = _given_kinds(categorical_features, names, n)
        of_lists = dict.fromkeys(shared.values(), CATEGORICAL)
        settled = of_lists | dict.fromkeys(named, SEQUENCE) | given
        free = [i for i in range(n) if i not in settled]
        called = range(n) if names is None else names
        chosen = choose_kinds(
            [columns[i] for i in free], [kinds[i] for i in free], [called[i] for i in free], weight
        )
        kinds = [
            kind for _, kind in sorted((settled | dict(zip(free, chosen, strict=True))).items())
        ]
    else:
        positions = _positions("categorical_features", categorical_features, names, n)
        for i, kind in enumerate(kinds):
            kinds[i] = (
                CATEGORICAL if i in positions else (SEQUENCE if kind == SEQUENCE else NUMERIC)
            )
    separators = {}
    for i, separator in named.items():
        kinds[i] = SEQUENCE
        if separator is not None:
            separators[i] = separator
    times = {}
    for i, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        time = None if kind == SEQUENCE else time_of_column(column, labels[i], kind == NUMERIC)
        if time is not None:
            times[i] = time
    check_shared(shared, kinds, times, labels)
    return Schema(names, labels, kinds, separators, times, shared)


def _named_sequences(sequence_features, names, n_columns):
    """Separators (None where there is none) of the columns that are named as sequences, by
    position.
    """
    if isinstance(sequence_features, str):
        return {}
    if not isinstance(sequence_features, dict):
        return dict.fromkeys(_positions("sequence_features", sequence_features, names, n_columns))
    found = {}
    for key, separator in sequence_features.items():
        if not isinstance(separator, str) or not separator:
            raise ValueError(
                f"sequence_features: the separator of column {key!r} must be a string of one "
                f"character or more, "
                f"got {separator!r}."
            )
        (i,) = _positions("sequence_features", [key], names, n_columns)
        found[i] = separator
    return found


def _given_kinds(given, names, n_columns):
    """Kinds by position, of a dict of column to "id", "number" or "both"."""
    kinds = {}
    for key, kind in given.items():
        if not isinstance(kind, str) or kind not in NAMES_OF_KINDS:
            raise ValueError(
                f"categorical_features: the kind of column {key!r} must be one of "
                f"{list(NAMES_OF_KINDS)}, got {kind!r}."
            )
        (i,) = _positions("categorical_features", [key], names, n_columns)
        kinds[i] = NAMES_OF_KINDS[kind]
    return kinds


def _positions(parameter, given, names, n_columns):
    """Column positions, a set of int, of names, indices or a mask."""
    given = [] if given is None else list(given)
    if given and all(isinstance(g, bool | np.bool_) for g in given):
        if len(given) != n_columns:
            raise ValueError(
                f"{parameter} is a mask of length {len(given)}, the table has {n_columns} columns."
            )
        return set(np.flatnonzero(given).tolist())
    positions = set()
    for g in given:
        found = find_column(g, names, [str(name) for name in names or ()] or [""] * n_columns)
        if found is not None:
            positions.add(found)
        else:
            known = f"a column of {names} nor " if names is not None else ""
            raise ValueError(
                f"{parameter} has {g!r}, which is neither {known}an index below {n_columns}."
            )
    return positions
