"""How well rows are ranked within groups, such as the impressions of one user."""

from numbers import Integral
from typing import Any, Literal

import numpy as np
from scipy.special import gammaln
from sklearn.utils import check_consistent_length

from ..utils._docs import takes_entries
from ..utils._typing import Array, ArrayLike, Column
from ._calibration import normalized_entropy
from ._inputs import read_groups, read_labels, read_relevance, read_scores, read_weights, undefined

AVERAGES = ("rows", "positives", "groups")


@takes_entries(normalized_entropy)
def grouped_roc_auc_score(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike,
    average: Literal["rows", "positives", "groups"] = "rows",
    sample_weight: Column = None,
    pos_label: Any = None,
) -> float:
    """Area under the ROC curve within groups, averaged over groups (GAUC).

    The plain AUC also counts pairs of rows of different groups, so that a model which only knows
    who clicks often looks good. Here every pair lies within one group: what counts is how the
    impressions of one user are ordered. Groups with a single class have no AUC and are left out.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Labels of two classes.
    y_score : array-like of shape (n_rows,)
        The higher, the likelier the positive class.
    groups : array-like of shape (n_rows,)
        Label of the group of each row.
    average : {"rows", "positives", "groups"}, default="rows"
        What a group weighs in the mean: its rows, its positive rows, or as much as any other.
    {sample_weight, pos_label}

    Returns
    -------
    float
        In [0, 1]; .5 for scores that say nothing. NaN, with a warning, if no group has both
        classes.

    References
    ----------
    .. [1] Zhu et al., "Optimized Cost per Click in Taobao Display Advertising", KDD 2017.
       https://arxiv.org/abs/1703.02091

    Examples
    --------
    >>> from sklearn_autorec.metrics import grouped_roc_auc_score
    >>> user = ["a", "a", "b", "b"]
    >>> grouped_roc_auc_score([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1], groups=user)
    1.0
    """
    _check_average(average)
    score = read_scores("y_score", y_score)
    positive = read_labels(y_true, pos_label)
    codes, weight = _read_rows(positive, score, groups, sample_weight)
    order = np.lexsort((score, codes))
    codes, score = codes[order], score[order]
    up, down = (np.where(side, weight, 0.0)[order] for side in (positive, ~positive))
    blocks, block_codes = _blocks(codes, score)
    up_of_block, down_of_block = np.add.reduceat(up, blocks), np.add.reduceat(down, blocks)
    n_groups = codes[-1] + 1
    total_up, total_down = (np.bincount(codes, side, n_groups) for side in (up, down))
    # Of the negative rows of the same group: all in blocks below, half of those in the same one.
    before_group = np.concatenate([[0.0], np.cumsum(total_down)[:-1]])
    below = np.cumsum(down_of_block) - down_of_block - before_group[block_codes]
    won = np.bincount(block_codes, up_of_block * (below + down_of_block / 2), n_groups)
    pairs = total_up * total_down
    has_both = pairs > 0
    if not has_both.any():
        return undefined(
            "No group has rows of both classes (of weight above 0): the grouped AUC is not defined."
        )
    of_group = np.divide(won, pairs, out=np.zeros(n_groups), where=has_both)
    return _mean(of_group, has_both, codes, positive[order], weight[order], average)


def grouped_ndcg_score(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike,
    k: int | None = None,
    average: Literal["rows", "positives", "groups"] = "groups",
    sample_weight: Column = None,
) -> float:
    """Normalised discounted cumulative gain (NDCG) within groups, averaged over groups.

    Of each group the first k rows count. Gains are the relevances themselves, discounts
    1 / log2(rank + 1). Rows of equal score share
    the mean of their gains, as if all their orders counted. Groups without a relevant row are left
    out.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Relevance of each row, such as a click (0 or 1) or a rating; at least 0.
    y_score : array-like of shape (n_rows,)
        The rows of a group are ranked by falling score.
    groups : array-like of shape (n_rows,)
        Label of the group of each row.
    k : int, default=None
        Rows of a group that count; all if None.
    average : {"groups", "rows", "positives"}, default="groups"
        What a group weighs in the mean: as much as any other, its rows, or its relevant rows.
    sample_weight : array-like of shape (n_rows,), default=None
        A group weighs in by the mean weight of its rows; gains and ranks do not change.

    Returns
    -------
    float
        In [0, 1]. NaN, with a warning, if no group has a relevant row.

    See Also
    --------
    sklearn.metrics.ndcg_score : For groups of equal size, as rows of a matrix.

    Examples
    --------
    >>> from sklearn_autorec.metrics import grouped_ndcg_score
    >>> user = ["a", "a", "a", "b", "b"]
    >>> score = grouped_ndcg_score([0, 1, 0, 1, 0], [3, 2, 1, 2, 1], groups=user, k=2)
    >>> round(score, 3)  # ranks 2 and 1
    0.815
    """
    _check_average(average)
    if k is not None:
        _check_k(k)
    relevance, score = read_relevance(y_true), read_scores("y_score", y_score)
    codes, weight = _read_rows(relevance, score, groups, sample_weight)
    gained = _discounted_gains(codes, score, relevance, k)
    best = _discounted_gains(codes, relevance, relevance, k)
    of_group = np.divide(gained, best, out=np.zeros(len(best)), where=best > 0)
    return _mean_over_relevant(of_group, codes, relevance > 0, weight, average)


@takes_entries(grouped_ndcg_score)
def grouped_hit_rate(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike,
    k: int = 10,
    average: Literal["rows", "positives", "groups"] = "groups",
    sample_weight: Column = None,
) -> float:
    """Share of groups with a relevant row among their first k (hit rate at k).

    Where rows of equal score lie on both sides of rank k, a hit counts with its probability under
    a random order of these rows, so that a constant score is no better than chance. Groups
    without a relevant row are left out.

    Parameters
    ----------
    y_true : array-like of shape (n_rows,)
        Relevance of each row: those above 0 are relevant.
    {y_score, groups}
    k : int, default=10
    {average}
    sample_weight : array-like of shape (n_rows,), default=None
        A group weighs in by the mean weight of its rows.

    Returns
    -------
    float
        In [0, 1]. NaN, with a warning, if no group has a relevant row.

    Examples
    --------
    >>> from sklearn_autorec.metrics import grouped_hit_rate
    >>> user = ["a", "a", "b", "b"]
    >>> grouped_hit_rate([0, 1, 1, 0], [2, 1, 2, 1], groups=user, k=1)
    0.5
    >>> grouped_hit_rate([0, 1, 1, 0], [1, 1, 1, 1], groups=user, k=1)
    0.5
    """
    _check_average(average)
    _check_k(k)
    relevance, score = read_relevance(y_true), read_scores("y_score", y_score)
    codes, weight = _read_rows(relevance, score, groups, sample_weight)
    order = np.lexsort((-score, codes))
    relevant = (relevance > 0)[order].astype(np.float64)
    blocks, block_codes = _blocks(codes[order], score[order])
    n_relevant = np.add.reduceat(relevant, blocks)
    n_rows = np.diff(np.append(blocks, len(codes)))
    first_row = np.searchsorted(codes[order], np.arange(codes.max() + 1))
    n_places = np.clip(k - (blocks - first_row[block_codes]), 0, n_rows)
    missed = np.exp(np.bincount(block_codes, _log_chance_of_none(n_rows, n_relevant, n_places)))
    return _mean_over_relevant(1.0 - missed, codes, relevance > 0, weight, average)


def _read_rows(
    y: Array, score: Array, groups: ArrayLike, sample_weight: Column
) -> tuple[Array, Array]:
    """Codes of groups and weights of rows, once all arrays have one length."""
    check_consistent_length(y, score)
    codes, _ = read_groups(groups, len(score))
    return codes, read_weights(sample_weight, len(score))


def _check_average(average: str) -> None:
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {AVERAGES}, got {average!r}.")


def _check_k(k: int | None) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise ValueError(f"k must be an int of at least 1, got {k!r}.")


def _blocks(codes: Array, values: Array) -> tuple[Array, Array]:
    """Runs of rows of one group and one value, in rows that are sorted by both.

    Returns
    -------
    starts : int ndarray of shape (n_blocks,)
    block_codes : int ndarray of shape (n_blocks,)
        The group of each block.
    """
    changes = (codes[1:] != codes[:-1]) | (values[1:] != values[:-1])
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    return starts, codes[starts]


def _discounted_gains(codes: Array, score: Array, relevance: Array, k: int | None) -> Array:
    """DCG of the first k rows of each group, in the mean over orders of rows of equal score."""
    order = np.lexsort((-score, codes))
    codes, gains = codes[order], relevance[order]
    blocks, block_codes = _blocks(codes, score[order])
    ranks = np.arange(len(codes)) - np.searchsorted(codes, codes)
    discounts = np.where(ranks < (len(codes) if k is None else k), 1 / np.log2(ranks + 2), 0.0)
    mean_gain = np.add.reduceat(gains, blocks) / np.diff(np.append(blocks, len(codes)))
    return np.bincount(block_codes, mean_gain * np.add.reduceat(discounts, blocks))


def _log_chance_of_none(n_rows: Array, n_relevant: Array, n_places: Array) -> Array:
    """Log probability that none of the relevant rows of a block is drawn to its places.

    The blocks are independent of each other: C(rows - relevant, places) / C(rows, places).
    """
    others = n_rows - n_relevant
    left = np.maximum(others - n_places, 0)
    log_chance = (
        gammaln(others + 1)
        - gammaln(left + 1)
        - gammaln(n_rows + 1)
        + gammaln(n_rows - n_places + 1)
    )
    return np.where(n_places > others, -np.inf, log_chance)


def _mean_over_relevant(
    of_group: Array, codes: Array, relevant: Array, weight: Array, average: str
) -> float:
    """Mean over the groups that have a relevant row."""
    counted = np.bincount(codes, relevant) > 0
    if not counted.any():
        return undefined("No group has a relevant row: the score is not defined.")
    return _mean(of_group, counted, codes, relevant, weight, average)


def _mean(
    of_group: Array, counted: Array, codes: Array, positive: Array, weight: Array, average: str
) -> float:
    """Mean of the groups that are counted, each by its weight."""
    rows, total = np.bincount(codes), np.bincount(codes, weight)
    group_weight = {
        "rows": total,
        "positives": np.bincount(codes, weight * positive),
        "groups": total / rows,
    }[average][counted]
    if not group_weight.any():
        return undefined("The groups that could be judged have the weight 0.")
    return float(np.average(of_group[counted], weights=group_weight))
