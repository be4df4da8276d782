"""One vocabulary for a categorical column and the lists that hold values of it."""

import numpy as np

from ._columns import CATEGORICAL, NUMERIC, SEQUENCE
from ._hashing import hash_buckets
from ._kinds import BOTH
from ._vocabulary import FIRST, MISSING, Vocabulary
from ._weights import as_counts

__all__ = ["check_shared", "shared_positions", "shared_vocabularies"]


def shared_positions(share_vocabulary, position):
    """Categorical column of each list column, by position.

    Parameters
    ----------
    share_vocabulary : dict or None
        As `FieldEncoder` has it.
    position : callable
        The position of the column that a user names; it raises an error where there is none.
    """
    shared = {
        position(items): position(values) for items, values in (share_vocabulary or {}).items()
    }
    if len(shared) < len(share_vocabulary or {}):
        raise ValueError(f"share_vocabulary={share_vocabulary!r} names a list column twice.")
    for items, values in shared.items():
        if values == items or values in shared:
            raise ValueError(
                f"share_vocabulary={share_vocabulary!r}: a column is there as a list and as the "
                "categorical column whose values a list holds; it can be one of them."
            )
    return shared


def check_shared(shared, kinds, times, labels):
    """Refuse what cannot share a vocabulary.

    Raises
    ------
    ValueError
        If a column is not a list, or the other is not categorical, or holds times.
    """
    told = {CATEGORICAL: "id", NUMERIC: "number"}
    for items, values in shared.items():
        if kinds[items] != SEQUENCE:
            raise ValueError(
                f"share_vocabulary: column {labels[items]!r} must be one of lists, but is "
                f"{told.get(kinds[items], kinds[items])!r}; name it in sequence_features as well."
            )
        if kinds[values] not in (CATEGORICAL, BOTH):
            raise ValueError(
                f"share_vocabulary: column {labels[values]!r} must hold ids, but is "
                f"{told.get(kinds[values], kinds[values])!r}; name it in categorical_features as "
                "well."
            )
        if values in (times or {}):
            raise ValueError(
                f"share_vocabulary: column {labels[values]!r} holds times, which no list can share."
            )


def shared_vocabularies(counters, shared, min_frequency, max_categories):
    """Vocabularies of all columns that share one, by position.

    Values are ordered, and are rare, by what all columns of a group have counted together; each
    vocabulary has the counts of its own column.

    Parameters
    ----------
    counters : list of ValueCounter (and of other counters)
        By position.
    shared : dict of int to int
        Categorical column of each list column.

    Returns
    -------
    dict of int to Vocabulary
    """
    vocabularies = {}
    for owner in sorted(set(shared.values())):
        members = [owner, *sorted(items for items, values in shared.items() if values == owner)]
        together = counters[owner].twin()
        for items in members[1:]:
            together.merge(counters[items])
        whole = together.vocabulary(min_frequency, max_categories)
        for i in members:
            counts = _own_counts(counters[i], whole)
            vocabularies[i] = Vocabulary(
                whole.categories, counts, whole.kind, whole.seen, whole.n_hash_buckets
            )
    return vocabularies


def _own_counts(counter, whole):
    """Cells of one column per id of the common vocabulary."""
    counts = np.zeros(whole.n_ids, np.result_type(counter.counts, np.int64))
    counts[MISSING] = counter.n_missing
    if counter.hashed:
        counts[FIRST:] = counter.counts
    elif whole.n_hash_buckets:
        buckets = hash_buckets(counter.keys, whole.n_hash_buckets)
        np.add.at(counts, FIRST + buckets, counter.counts)
    else:
        ids, _, _ = whole.ids(np.arange(len(counter.keys)), counter.keys, counter.seen)
        np.add.at(counts, ids, counter.counts)
    return as_counts(counts)
