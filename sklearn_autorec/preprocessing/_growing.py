"""Vocabularies that grow in a stream: new values get ids behind those that are there.

Ids that are given never change, so that rows of tables stay where they are. A value gets its id in
the chunk in which its cells, those of the chunks before included, reach ``min_frequency``. Of
values that are still too rare a column remembers at most ``max_categories``, the most frequent and
of equally frequent ones those that came last."""

import copy

import numpy as np
import pandas as pd

from ._columns import read_columns
from ._counting import each_column
from ._encoding import assemble, parse_column, report_unknown
from ._names import check_columns
from ._values import as_kind, wider_kind
from ._vocabulary import UNKNOWN, Vocabulary
from ._weights import as_counts, count_cells

__all__ = ["grown", "remember_rare"]


def remember_rare(encoder):
    """Let a fitted encoder remember its rare values, for growth; returns it.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted, with its counts, which are not needed afterwards.
    """
    rare = {}
    for owner, members in _groups(encoder):
        vocabulary, counters = encoder._fields[owner], encoder._counters
        if vocabulary.kind is None or any(counters[i].hashed for i in members):
            continue
        found = [
            _new_values(vocabulary, c.keys, c.counts, c.seen)
            for c in map(counters.__getitem__, members)
        ]
        rare[owner] = _shortened(*_together(found), encoder.max_categories)
    encoder._rare = rare
    return encoder


def grown(encoder, X, weight=None):
    """An encoder whose vocabularies hold the new values of a chunk, and the chunk by it.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted, with ``max_categories``; it stays as it is.
    X : table
    weight : ndarray (n_rows,) or None
        What a row counts.

    Returns
    -------
    encoder : FieldEncoder
    table : EncodedTable
    """
    schema, max_length = encoder._schema, encoder.max_length
    _, columns = read_columns(X, encoder)
    check_columns(encoder, X, schema.names)
    parsed = each_column(
        schema.parts(columns), lambda i, column: parse_column(i, column, schema, max_length)
    )
    new = copy.copy(encoder)
    new._derived, new._rare = [*encoder._fields], dict(encoder.__dict__.get("_rare", {}))
    for owner, members in _groups(encoder):
        cells = [_Cells.of(parsed[i], weight) for i in members]
        _grow(new, owner, members, cells)
    table = assemble(len(columns[0]), parsed, schema, max_length, new._derived, new._text_numbers)
    report_unknown(table, schema, new._derived, new.unknown_warning)
    return new, table


def _groups(encoder):
    """The parts that have vocabularies, and with each those that share it: pairs (int, list)."""
    schema = encoder._schema
    shared = schema.shared
    for owner in (*schema.categorical, *schema.sequence):
        if owner not in shared:
            yield owner, [owner, *sorted(i for i, own in shared.items() if own == owner)]


class _Cells:
    """The cells of a column in a chunk.

    Parameters
    ----------
    codes : int ndarray (n_cells,)
        Into the distinct values ``keys``, -1 where missing.
    keys : ndarray
    seen : frozenset
    weight : ndarray (n_cells,) or None
    """

    def __init__(self, codes, keys, seen, weight):
        self.codes, self.keys, self.seen, self.weight = codes, keys, seen, weight
        # The first count is that of missing cells.
        self.counts = count_cells(codes + 1, weight, len(keys) + 1)[1:]

    @classmethod
    def of(cls, parsed, weight):
        rows = parsed[3] if len(parsed) > 3 else slice(None)
        return cls(*parsed[:3], None if weight is None else weight[rows])


def _grow(encoder, owner, members, cells):
    """Give new values of a group ids; changes the lists of an encoder that are its own."""
    vocabularies = [encoder._derived[i] for i in members]
    whole = vocabularies[0]
    if whole.n_hash_buckets:
        return
    kind, seen, categories = whole.kind, whole.seen, whole.categories
    if kind is None:  # nothing but missing cells so far
        present = [own for own in cells if len(own.keys)]
        if not present:
            _count(encoder, members, vocabularies, cells)
            return
        keys = present[0].keys
        for own in present[1:]:
            keys = np.empty(0, wider_kind(keys, own.keys))
        kind, seen = keys.dtype.kind, frozenset().union(*(own.seen for own in present))
        categories = as_kind(keys[:0], kind)
    known = Vocabulary(categories, whole.counts, kind, seen)
    found = [_new_values(known, own.keys, own.counts, own.seen) for own in cells]
    # Those of this chunk first: of equally frequent ones the last that came are remembered.
    keys, counts = _together([*found, *([encoder._rare[owner]] if owner in encoder._rare else [])])
    admitted = counts >= _least(encoder, vocabularies, cells)
    order = np.flatnonzero(admitted)
    order = order[np.argsort(keys[order], kind="stable")]
    order = order[np.argsort(-counts[order], kind="stable")]
    room = max(encoder.max_categories - len(categories), 0)
    added = keys[order[:room]]
    admitted[:] = False
    admitted[order[:room]] = True
    rest = keys[~admitted], counts[~admitted]
    full = len(added) == room
    encoder._rare[owner] = _shortened(*rest, 0 if full else encoder.max_categories)
    if len(added) or whole.kind is None:
        categories = np.concatenate([categories, added])
        vocabularies = [_with_values(own, categories, kind, seen) for own in vocabularies]
    _count(encoder, members, vocabularies, cells)


def _with_values(vocabulary, categories, kind, seen):
    """A vocabulary of more values; counts of the new ones are zero."""
    counts = np.zeros(2 + len(categories), vocabulary.counts.dtype)
    counts[: len(vocabulary.counts)] = vocabulary.counts
    return Vocabulary(categories, counts, kind, seen)


def _count(encoder, members, vocabularies, cells):
    """Add the cells of a chunk to the counts of the ids that they have."""
    for i, vocabulary, own in zip(members, vocabularies, cells, strict=True):
        ids, _, _ = vocabulary.ids(own.codes, own.keys, own.seen)
        counts = as_counts(vocabulary.counts + count_cells(ids, own.weight, vocabulary.n_ids))
        encoder._derived[i] = counted = copy.copy(vocabulary)  # look-up tables are shared
        counted.counts = counts


def _least(encoder, vocabularies, cells):
    """Cells that a value needs for an id."""
    if not isinstance(encoder.min_frequency, float):
        # 1 keeps every value, whatever it weighs.
        return 0 if encoder.min_frequency == 1 else encoder.min_frequency
    n_cells = sum(own.counts.sum() for own in vocabularies)
    n_cells += sum(len(c.codes) if c.weight is None else c.weight.sum() for c in cells)
    return encoder.min_frequency * n_cells


def _new_values(vocabulary, keys, counts, seen):
    """The values that a vocabulary does not have, in its kind, and their counts.

    Values that could not be told from others in its kind, such as text in a column of integers,
    stay unknown for ever.
    """
    if not len(keys):
        return vocabulary.categories[:0], np.zeros(0, np.int64)
    ids, _, _ = vocabulary.ids(np.arange(len(keys)), keys, seen)
    converted, certain = vocabulary._convert(keys)
    new = (ids == UNKNOWN) & certain & (counts > 0)
    return converted[new], counts[new]


def _together(found):
    """Distinct values of several counts, as they first come, and the sums."""
    keys = np.concatenate([keys for keys, _ in found])
    counts = np.concatenate([counts for _, counts in found])
    where, distinct = pd.factorize(keys)
    total = np.zeros(len(distinct), counts.dtype)
    np.add.at(total, where, counts)
    return distinct, total


def _shortened(keys, counts, n):
    """The n most frequent, in the order in which they stand."""
    if n is None or len(keys) <= n:
        return keys, counts
    kept = np.sort(np.argsort(-counts, kind="stable")[:n])
    return keys[kept], counts[kept]
