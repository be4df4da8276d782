"""What the rows of a vocabulary are called, where they stand in a table for users."""

import numpy as np
import pandas as pd

from ._columns import CATEGORICAL
from ._encoding import parse_column
from ._sharing import own_counts
from ._values import factorize
from ._vocabulary import FIRST, MISSING, UNKNOWN, Vocabulary

__all__ = ["add_values", "field_labels", "ids_of_labels", "new_values"]

NAMES = {MISSING: "<missing>", UNKNOWN: "<unknown>"}


def field_labels(encoder, part):
    """Labels of the ids of a column, object ndarray (n_ids,).

    Values are as ``categories_`` has them, but booleans are such again; "<missing>" and "<unknown>"
    stand for the two ids that are no values, with as many apostrophes behind them as it takes to
    tell them from values, and "<hash k>" for the ids of hashed columns.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted.
    part : int
        Of its schema, with ids.
    """
    vocabulary = encoder._fields[part]
    labels = vocabulary.values(np.arange(vocabulary.n_ids))
    values = labels[FIRST:]
    if vocabulary.seen == {"booleans"} and not vocabulary.n_hash_buckets:
        truths = {1: True, 0: False, "1": True, "0": False}
        labels[FIRST:] = [truths.get(value, value) for value in values]
    taken = set(values.tolist()) if vocabulary.kind == "O" else ()
    for place, name in NAMES.items():
        while name in taken:
            name += "'"
        labels[place] = name
    return labels


def ids_of_labels(encoder, part, index):
    """Ids of the labels of an index, int64 ndarray (n,); -1 of values that have none.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted.
    part : int
        Of its schema, with ids that are not hashed.
    index : pandas Index
        Values, as the column may have them, and the names that `field_labels` has for missing and
        for unknown values.
    """
    ids, rest, (codes, keys, seen) = _read(encoder, part, index)
    found, _, _ = encoder._fields[part].ids(codes, keys, seen)
    ids[rest] = np.where(found == UNKNOWN, -1, found)
    return ids


def new_values(encoder, part, index):
    """Values of an index that have no ids, in the kind of the column and the order of the index;
    what could not be told from other values there is left out.
    """
    vocabulary, (_, _, (_, keys, seen)) = encoder._fields[part], _read(encoder, part, index)
    if vocabulary.kind is None or not len(keys):
        return vocabulary.categories[:0]
    ids, _, _ = vocabulary.ids(np.arange(len(keys)), keys, seen)
    converted, certain = vocabulary._convert(keys)
    return pd.unique(converted[(ids == UNKNOWN) & certain])


def add_values(encoder, part, values):
    """Give new values ids behind those that are there, in all columns that share the vocabulary;
    whether there are any.

    Parameters
    ----------
    encoder : FieldEncoder
        Fitted, with its counts; it is changed.
    part : int
    values : ndarray
        As of `new_values`.
    """
    if not len(values):
        return False
    shared = encoder._schema.shared
    owner = shared.get(part, part)
    fields = [*encoder._fields]
    whole = fields[owner]
    categories = np.concatenate([whole.categories, values])
    counts = np.zeros(FIRST + len(categories), np.int64)
    whole = Vocabulary(categories, counts, whole.kind, whole.seen)
    for i in [owner, *(i for i, own in shared.items() if own == owner)]:
        fields[i] = Vocabulary(
            categories, own_counts(encoder._counters[i], whole), whole.kind, whole.seen
        )
    encoder._derived = fields
    return True


def _read(encoder, part, index):
    """Ids of labels so far as they are no values (else -1), which they are not, and those parsed:
    codes into distinct values, these, and what they are.
    """
    names = {name: place for place, name in enumerate(field_labels(encoder, part)[:FIRST])}
    labels = index.tolist()
    ids = np.array([names.get(v, -1) if isinstance(v, str) else -1 for v in labels], np.int64)
    rest = np.flatnonzero(ids < 0)
    column = pd.Series(index)
    if len(rest) < len(ids):  # what is left may be integers, for instance
        column = pd.Series([labels[k] for k in rest], dtype=object).infer_objects()
    schema = encoder._schema
    if schema.kinds[part] == CATEGORICAL:
        parsed = parse_column(part, column, schema, encoder.max_length)
    else:
        parsed = factorize(column, schema.labels[part])
    return ids, rest, parsed[:3]
