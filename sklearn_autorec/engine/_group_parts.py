"""Rows in parts such that no group of rows stands in two of them, or that one part is newer."""

import numpy as np

from ..utils._row_draws import uniform_by_label

__all__ = ["group_parts", "group_threshold", "newest_rows"]

MERGED_LABELS = 2**20  # that are gathered before they are counted


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


def group_threshold(blocks, share, seed):
    """Below which number of its label, as `uniform_by_label` draws it, a group is taken out, so
    that those that are have about a share of the rows.

    Which groups these are depends on their labels, their sizes and the seed alone, not on the order
    of the rows or on how they are cut into blocks.

    Parameters
    ----------
    blocks : iterable of int64 ndarrays
        Labels of the rows, block after block.
    share : float in (0, 1)
    seed : int

    Returns
    -------
    float or None
        One group at least is on each side. None if there are not two.
    """
    labels, counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
    pending, n_pending = [], 0
    for block in blocks:
        own = np.unique(block, return_counts=True)
        pending.append(own)
        n_pending += len(own[0])
        if n_pending >= max(MERGED_LABELS, len(labels)):
            labels, counts = _merged([(labels, counts), *pending])
            pending, n_pending = [], 0
    labels, counts = _merged([(labels, counts), *pending])
    if len(labels) < 2:
        return None
    drawn = uniform_by_label(labels, seed)
    order = np.argsort(drawn, kind="stable")
    taken = np.cumsum(counts[order])  # rows of the first group, of the first two, ...
    n_groups = 1 + int(np.abs(taken[:-1] - share * taken[-1]).argmin())
    return float(drawn[order[n_groups]])


def _merged(parts):
    """Distinct labels of several (labels, counts), and their counts."""
    labels, where = np.unique(np.concatenate([own for own, _ in parts]), return_inverse=True)
    counts = np.zeros(len(labels), np.int64)
    np.add.at(counts, where, np.concatenate([n for _, n in parts]))
    return labels, counts
