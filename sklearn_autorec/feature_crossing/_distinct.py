"""Columns that differ: constant ones and copies say nothing that the others do not."""

import hashlib

import numpy as np
import pandas as pd


def distinct_groups(ids):
    """Columns that vary, those that part the rows in the same way together.

    Parameters
    ----------
    ids : dict of int to int ndarray of shape (n_rows,)
        Ids of each column by its position.

    Returns
    -------
    list of list of int
        Groups of positions, ascending by their first. A column and a relabelled copy of it are in
        one group; constant columns are in none.
    """
    groups: dict = {}
    for i in sorted(ids):
        # Codes by first occurrence do not depend on how values are called.
        codes, distinct = pd.factorize(ids[i])
        if len(distinct) > 1:
            key = hashlib.blake2b(np.ascontiguousarray(codes, dtype=np.int64)).digest()
            groups.setdefault(key, []).append(i)
    return list(groups.values())
