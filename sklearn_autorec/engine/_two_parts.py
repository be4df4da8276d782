"""Rows in two parts, one of which judges what the other has trained."""

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from ._group_parts import group_parts, newest_rows

__all__ = ["two_parts"]


def two_parts(data, share, seed):
    """Positions of two disjoint parts of the rows, the second of so large a share; stratified by
    class where that can be. Where there are several groups of rows, none is in both; where rows
    have times, the second part is the newest.

    Raises
    ------
    ValueError
        If one part would be empty.
    """
    y = data.y.cpu().numpy()
    classes = y if len(np.unique(y)) == 2 or np.issubdtype(y.dtype, np.integer) else None
    groups = None if data.groups is None else data.groups.cpu().numpy()
    random, judges = np.random.RandomState(seed % 2**32), None
    if data.times is not None:
        judges = newest_rows(data.times.cpu().numpy(), share, groups)
    if judges is None and groups is not None and (groups != groups[:1]).any():
        judges = group_parts(groups, (1 - share, share), random, classes) == 1
    if judges is not None:
        # Shuffled, as those of single rows are: a method may take the first of them.
        order = random.permutation(len(y))
        rows = order[~judges[order]], order[judges[order]]
    else:
        rows = _single_rows(len(y), share, seed, classes)
    return tuple(torch.from_numpy(part).to(data.ids.device) for part in rows)


def _single_rows(n_rows, share, seed, classes):
    options = {"test_size": share, "random_state": seed % 2**32}
    try:
        return train_test_split(np.arange(n_rows), stratify=classes, **options)
    except ValueError:  # a class with a single row, or fewer rows than classes
        return train_test_split(np.arange(n_rows), **options)
