"""Rows in parts such that no group of rows stands in two of them, or that one part is newer."""

import numpy as np

__all__ = ["group_parts", "newest_rows"]


def group_parts(groups, shares, random, classes=None):
    """A number of a part for each row, the same for all rows of a group.

    Groups come in a random order, where the parts are alike the largest first; each goes where rows
    of its classes are missing most. Sizes are therefore only about as wanted.

    Parameters
    ----------
    groups : int ndarray of shape (n_rows,)
        Codes from 0.
    shares : sequence of float
        Of the rows in each part; their sum is 1.
    random : numpy RandomState
    classes : ndarray of shape (n_rows,) or None
        Whose shares are to be alike in all parts.

    Returns
    -------
    int64 ndarray of shape (n_rows,)
        No part is empty.

    Raises
    ------
    ValueError
        If there are fewer groups than parts.
    """
    _, groups = np.unique(groups, return_inverse=True)
    n_groups = groups.max(initial=-1) + 1
    if n_groups < len(shares):
        raise ValueError(
            f"groups has {n_groups} different labels, which are not enough for {len(shares)} parts."
        )
    codes = np.zeros(len(groups), np.int64)
    if classes is not None:
        _, codes = np.unique(classes, return_inverse=True)
    counts = np.zeros((n_groups, codes.max() + 1))
    np.add.at(counts, (groups, codes), 1)
    own = counts / counts.sum(0)  # of each class
    order = random.permutation(n_groups)
    if len(set(shares)) == 1:
        order = order[np.argsort(-counts.sum(1)[order], kind="stable")]
    missing = np.repeat(np.asarray(shares, float)[:, None], counts.shape[1], axis=1)
    part_of = np.empty(n_groups, np.int64)
    for group in order:
        part_of[group] = np.argmax(missing @ counts[group])
        missing[part_of[group]] -= own[group]
    for part in range(len(shares)):
        if not (part_of == part).any():
            # The smallest group of the part that has most of them.
            from_part = np.flatnonzero(part_of == np.bincount(part_of).argmax())
            part_of[from_part[np.argmin(counts.sum(1)[from_part])]] = part
    return part_of[groups]


def newest_rows(times, share, groups=None):
    """Which rows are the newest, so large a share of them as far as times allow.

    Rows of one time are on one side. So are those of a group, which is as new as its oldest row: no
    row of the newest groups is older than any time at which one of the others began.

    Parameters
    ----------
    times : int ndarray of shape (n_rows,)
    share : float in (0, 1)
    groups : int ndarray of shape (n_rows,) or None
        Codes; a single group counts as none.

    Returns
    -------
    bool ndarray of shape (n_rows,) or None
        None if all rows (or the oldest of all groups) have the same time.
    """
    if groups is not None and (groups != groups[:1]).any():
        _, groups = np.unique(groups, return_inverse=True)
        began = np.full(groups.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(began, groups, times)
        times = began[groups]
    distinct, counts = np.unique(times, return_counts=True)
    if len(distinct) < 2:
        return None
    newest = np.cumsum(counts[::-1])[:-1]  # rows of the newest time, of the newest two, ...
    n_times = 1 + int(np.abs(newest - share * len(times)).argmin())
    return times >= distinct[-n_times]
