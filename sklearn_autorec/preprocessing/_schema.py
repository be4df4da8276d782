"""Which column of a table is of which kind."""

from dataclasses import dataclass, field

import numpy as np

from ._columns import CATEGORICAL, MOMENT, NUMERIC, SEQUENCE, VECTOR, column_kind
from ._kinds import BOTH, choose_kinds
from ._names import find_column, labels_of
from ._sharing import check_shared, owners_of, shared_positions
from ._time_columns import time_of_column, time_values
from ._time_fields import AGE, checked_time_fields, choose_time_fields
from ._times import TIME
from ._vectors import looks_like_vectors, vector_length

# As users give them and are told.
NAMES_OF_KINDS = {"id": CATEGORICAL, "number": NUMERIC, "both": BOTH}

# Why a column has its kind.
SAID, NOT_NAMED = "said by a parameter", "not named in categorical_features"
SHARED, EQUAL_LENGTHS = "a list shares its vocabulary", "lists of floats, all of one length"
BY_DTYPE = {
    CATEGORICAL: "text, booleans or categories",
    NUMERIC: "decimals or times",
    SEQUENCE: "cells are lists",
}


@dataclass(eq=False)
class Schema:
    """Kinds of the columns of a table, and the parts that are read of them.

    A part is a column as ids, as numbers, as sequences or as vectors. The first parts are the
    columns in their order; behind them follow the numbers of the columns that are both ids and
    numbers, then the fields derived of times but for the first of each column. Wherever something
    is counted or derived by part, there is one entry for each.

    Parameters
    ----------
    names : list or None
        Column names as they came, None if there were none.
    labels : list of str
        Names for messages and outputs, "x0", "x1", ... if there were none.
    kinds : list of {"categorical", "numeric", "both", "sequence", "vector", "time"}
    separators : dict of int to str
        How the text of a sequence column is split, by position.
    times : dict of int to TimeKind, or None
        Columns that hold times, by position; None if that was not written down (files of version
        0.1).

    shared : dict of int to int
        Column whose vocabulary a column shares, by position of the latter; see `owners_of`.
    vectors : dict of int to int
        Length of the vectors of a column, by position.
    derived : dict of int to tuple of str
        Fields derived of a column of kind "time" (see `TIME_FIELDS`), by position.
    reasons : list of str or None
        Why each column has its kind; None if that was not written down.

    Attributes
    ----------
    column_labels, column_kinds : list
        ``labels`` and ``kinds`` as given, by column.
    labels, kinds : list
        By part; no part is "both".
    sources : list of int
        Column of each part.
    categorical, numeric, sequence, vector : list of int
        Parts of each kind, in the order of their columns.
    time_fields : dict of int to str
        What a part holds of the times of its column.
    """

    names: list | None
    labels: list
    kinds: list
    separators: dict
    times: dict | None = field(default_factory=dict)
    shared: dict = field(default_factory=dict)
    vectors: dict = field(default_factory=dict)
    derived: dict = field(default_factory=dict)
    reasons: list | None = None

    def time(self, i, column):
        """The `TimeKind` of a column, None if it holds none."""
        if self.times is None:
            return (
                time_of_column(column, self.labels[i], self.kinds[i] == NUMERIC)
                if i not in self.sequence and i not in self.vectors
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
        self.labels, self.time_fields = list(self.labels), {}
        for i in both:
            label = f"{self.labels[i]} (number)"
            while label in self.labels:
                label += "'"
            self.labels.append(label)
        for i, fields in self.derived.items():
            for k, name in enumerate(fields):
                part = i if k == 0 else len(self.sources)
                if k:
                    self.sources.append(i)
                    self.kinds.append(None)
                    self.labels.append(None)
                self.kinds[part] = NUMERIC if name == AGE else CATEGORICAL
                label = f"{self.column_labels[i]}:{name}"
                while label in self.labels or label in self.column_labels:
                    label += "'"
                self.labels[part], self.time_fields[part] = label, name
        self.categorical, self.numeric, self.sequence, self.vector = (
            sorted(
                (i for i, kind in enumerate(self.kinds) if kind == which),
                key=self.sources.__getitem__,
            )
            for which in (CATEGORICAL, NUMERIC, SEQUENCE, VECTOR)
        )
        self.categorical_sources, self.numeric_sources = (
            [self.sources[i] for i in parts] for parts in (self.categorical, self.numeric)
        )

    def parts(self, columns):
        """The columns of a table by part; times of which fields are derived are read once, as int64
        microseconds.
        """
        if self.derived:
            columns = list(columns)
            for i in self.derived:
                columns[i] = time_values(columns[i], self.times[i], self.column_labels[i])
        return [columns[i] for i in self.sources]

    def relabelled(self, labels):
        """Names of the parts, if the columns had others."""
        return Schema(None, labels, self.column_kinds, self.separators, derived=self.derived).labels


def choose_schema(
    names,
    columns,
    encoder,
    weight=None,
):
    """The schema that dtypes and the parameters of a `FieldEncoder` ask for."""
    categorical_features = encoder.categorical_features
    sequence_features = encoder.sequence_features
    shared_vocabularies = encoder.shared_vocabularies
    vector_features = encoder.vector_features
    time_features = checked_time_fields(encoder.time_features)
    n = len(columns)
    labels = labels_of(names, n)
    if len(set(labels)) < n:
        raise ValueError(f"Column names must differ as text too, got {names}.")
    kinds = [column_kind(column) for column in columns]
    reasons = [BY_DTYPE[kind] for kind in kinds]
    vectors = _vector_columns(vector_features, columns, kinds, sequence_features, names)
    lists = [i for i, kind in enumerate(kinds) if kind == SEQUENCE and i not in vectors]
    if sequence_features is None and lists:
        raise ValueError(f"Column {labels[lists[0]]!r} holds lists, but sequence_features=None.")
    named = _named_sequences(sequence_features, names, n)

    def position(key):
        return next(iter(_positions("shared_vocabularies", [key], names, n)))

    shared = shared_positions(shared_vocabularies, position)
    if isinstance(categorical_features, str | dict):
        given = {}
        if isinstance(categorical_features, dict):
            given = _given_kinds(categorical_features, names, n)
        # Floats are ids only where others share theirs: that is where a gap among ids ends up.
        ids = [i for i in shared if kinds[i] == CATEGORICAL]
        ids += [i for i in shared.values() if kinds[i] != SEQUENCE]
        of_shared = dict.fromkeys(ids, CATEGORICAL)
        settled = dict.fromkeys(vectors, VECTOR) | of_shared
        settled |= dict.fromkeys(named, SEQUENCE) | given
        free = [i for i in range(n) if i not in settled]
        called = range(n) if names is None else names
        chosen, why = choose_kinds(
            [columns[i] for i in free], [kinds[i] for i in free], [called[i] for i in free], weight
        )
        why = {i: reason for i, reason in zip(free, why, strict=True) if reason is not None}
        why |= dict.fromkeys(of_shared, SHARED) | dict.fromkeys(given, SAID)
        reasons = [why.get(i, reason) for i, reason in enumerate(reasons)]
        kinds = [
            kind for _, kind in sorted((settled | dict(zip(free, chosen, strict=True))).items())
        ]
    else:
        free = []
        positions = _positions("categorical_features", categorical_features, names, n)
        for i, kind in enumerate(kinds):
            kinds[i] = (
                CATEGORICAL if i in positions else (SEQUENCE if kind == SEQUENCE else NUMERIC)
            )
            reasons[i] = SAID if i in positions else NOT_NAMED
    separators = {}
    for i, said in vectors.items():
        if said and (i in named or reasons[i] == SAID):
            raise ValueError(
                f"vector_features names column {labels[i]!r}, which categorical_features or "
                f"sequence_features says to be something else."
            )
        if said or kinds[i] in (SEQUENCE, VECTOR):
            kinds[i], reasons[i] = VECTOR, SAID if said else EQUAL_LENGTHS
    for i, separator in named.items():
        kinds[i], reasons[i] = SEQUENCE, SAID
        if separator is not None:
            separators[i] = separator
    times = {}
    for i, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        time = None
        if kind not in (SEQUENCE, VECTOR):
            time = time_of_column(column, labels[i], kind == NUMERIC)
        if time is not None:
            times[i] = time
    derived = {}
    for i in free if time_features is not None else ():
        if i in times and kinds[i] == NUMERIC and times[i].kind == TIME:
            moments = time_values(columns[i], times[i], labels[i])
            derived[i] = choose_time_fields(moments, times[i].zone, time_features)
            kinds[i], reasons[i] = MOMENT, "times"
    check_shared(shared, kinds, times, labels)
    owners = owners_of(shared, kinds)
    lengths = {
        i: vector_length(column, labels[i])
        for i, (column, kind) in enumerate(zip(columns, kinds, strict=True))
        if kind == VECTOR
    }
    return Schema(names, labels, kinds, separators, times, owners, lengths, derived, reasons)


def _vector_columns(vector_features, columns, kinds, sequence_features, names):
    """Columns of vectors by position, and whether the user has named them."""
    n = len(columns)
    if vector_features is None:
        return {}
    if isinstance(vector_features, str):  # "auto"
        of_lists = set()
        if not isinstance(sequence_features, str | type(None)):
            of_lists = {*_named_sequences(sequence_features, names, n)}
        return {
            i: False
            for i, (column, kind) in enumerate(zip(columns, kinds, strict=True))
            if kind == SEQUENCE and i not in of_lists and looks_like_vectors(column)
        }
    return dict.fromkeys(_positions("vector_features", vector_features, names, n), True)


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
