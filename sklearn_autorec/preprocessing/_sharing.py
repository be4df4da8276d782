"""One vocabulary for columns, of ids or of lists of ids, that hold the same kind of values."""

import numpy as np

from ._columns import CATEGORICAL, NUMERIC, SEQUENCE
from ._hashing import hash_buckets
from ._kinds import BOTH
from ._vocabulary import FIRST, MISSING, Vocabulary
from ._weights import as_counts

__all__ = [
    "check_owners",
    "check_shared",
    "own_counts",
    "owners_of",
    "shared_positions",
    "shared_vocabularies",
]


def shared_positions(shared_vocabularies, position):
    """The column whose vocabulary each named column shares, by position.

    Parameters
    ----------
    shared_vocabularies : dict or None
        As `FieldEncoder` has it.
    position : callable
        The position of the column that a user names; it raises an error where there is none.
    """
    given = shared_vocabularies or {}
    if any(isinstance(owner, list | tuple | set | dict) for owner in given.values()):
        raise ValueError(
            f"shared_vocabularies={given!r} must name one column for each column, as in "
            f"{{'clicked_items': 'item', 'last_item': 'item'}}."
        )
    shared = {position(column): position(owner) for column, owner in given.items()}
    if len(shared) < len(given):
        raise ValueError(f"shared_vocabularies={given!r} names a column that shares twice.")
    check_owners(shared, f"shared_vocabularies={given!r}")
    return shared


def check_owners(shared, told):
    """Refuse chains and cycles.

    Parameters
    ----------
    shared : dict of int to int
    told : str
        What the user gave, for the message.

    Raises
    ------
    ValueError
    """
    for column, owner in shared.items():
        if owner == column or owner in shared:
            raise ValueError(
                f"{told}: a column stands there as one that shares and as one whose vocabulary is "
                f"shared; it can be one of them. Name the same column for all that share, as in "
                f"{{'clicked_items': 'item', 'last_item': 'item'}}."
            )


def owners_of(shared, kinds):
    """The column of each group that has the vocabulary, by position of the others: a column of ids
    where there is one (the one that is named, or the first), else the list that is named.
    """
    found = {}
    for named in sorted(set(shared.values())):
        group = sorted([named, *(i for i, owner in shared.items() if owner == named)])
        with_ids = [i for i in group if kinds[i] != SEQUENCE]
        owner = named if named in with_ids or not with_ids else with_ids[0]
        found |= {i: owner for i in group if i != owner}
    return found


def check_shared(shared, kinds, times, labels):
    """Refuse what cannot share a vocabulary.

    Raises
    ------
    ValueError
        If a column is not a list, or the other is not categorical, or holds times.
    """
    told = {NUMERIC: "number"}
    for column in sorted({*shared, *shared.values()}):
        kind, label = kinds[column], labels[column]
        if kind not in (CATEGORICAL, BOTH, SEQUENCE):
            raise ValueError(
                f"shared_vocabularies: column {label!r} must hold ids or lists of ids, but is "
                f"{told.get(kind, kind)!r}; name it in categorical_features as well if its values "
                f"are ids."
            )
        if column in (times or {}):
            raise ValueError(
                f"shared_vocabularies: column {label!r} holds times, which cannot be shared; it "
                f"must hold ids or lists of ids."
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
        As `owners_of` gives it.

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
            counts = own_counts(counters[i], whole)
            vocabularies[i] = Vocabulary(
                whole.categories, counts, whole.kind, whole.seen, whole.n_hash_buckets
            )
    return vocabularies


def own_counts(counter, whole):
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
