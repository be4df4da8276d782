"""The rank scale of numbers, on which no single value takes more than its share, and bins found by
a target.
"""

import heapq

import numpy as np

MIN_LEAF = 20  # rows on each side of an edge that the target finds
# So many times the variance of a row an edge must explain: chance does so in one column of ten.
MIN_GAIN = 10.0


def capped_weights(counts, n_bins):
    """Weights of distinct values (n_distinct,): their counts, of which none is more than one of
    ``n_bins`` of all weights.

    Where there are fewer than ``n_bins`` values this cannot be; they weigh the same then.
    """
    falling = np.sort(counts)[::-1]
    if len(falling) <= n_bins:
        return np.ones(len(counts))
    # With the k heaviest at the cap w, the total is n_bins w = k w + (all others): the first k at
    # which w reaches the next.
    others = falling.sum() - np.cumsum(np.append(0, falling[: n_bins - 1]))
    caps = others / (n_bins - np.arange(n_bins))
    first = int(np.argmax(falling[:n_bins] <= caps))
    return np.minimum(counts, caps[first])


def capped_ranks(counts, n_bins):
    """Places of distinct values in [0, 1], rising: the middles of their `capped_weights`, stretched
    to the whole.
    """
    if len(counts) < 2:
        return np.zeros(len(counts))
    weights = capped_weights(counts, n_bins)
    middle = np.cumsum(weights) - weights / 2
    ranks = (middle - middle[0]) / (middle[-1] - middle[0])
    ranks[-1] = 1.0
    return ranks


def rank_grid(values, counts, n_points, n_bins, sums=None):
    """The rank scale as a grid of rising values and their rising places in [0, 1].

    Parameters
    ----------
    values, counts : ndarray of shape (n_distinct,)
        Distinct values, rising, and their training rows.
    n_points : int
        About so many points; heavy values and their neighbours are always among them, and both
        sides of every cut.
    n_bins : int
        No value takes more than one of so many parts.
    sums : ndarray of shape (n_distinct, 2 * n_targets) or None
        See `cuts_by_target`; None cuts nowhere.
    """
    ranks, cuts = capped_ranks(counts, n_bins), np.zeros(0, np.int64)
    if sums is not None:
        cuts = cuts_by_target(values, counts, sums, n_bins)
        ranks = warp(values, ranks, cuts, n_bins)
    if len(values) > n_points:
        even = np.searchsorted(ranks, np.linspace(0, 1, n_points))
        heavy = np.flatnonzero(counts * n_bins >= counts.sum())
        picked = np.concatenate([even, heavy, heavy - 1, heavy + 1, cuts, cuts - 1]).clip(
            0, len(values) - 1
        )
        picked = np.unique(picked)
        values, ranks = values[picked], ranks[picked]
    # Values closer than rounding share a place.
    rising = np.append(True, np.diff(ranks) > 0)[: len(values)]
    return values[rising], ranks[rising]


def cuts_by_target(values, counts, sums, n_bins):
    """Where a regression tree cuts a column: positions of the first values above the cuts, rising.

    The tree grows best first, by the reduction of the squared error of all targets, each in units
    of its variance, up to ``n_bins / 2`` leaves with at least ``MIN_LEAF`` rows.

    Parameters
    ----------
    values, counts : ndarray of shape (n_distinct,)
        Distinct values, rising, and their training rows.
    sums : ndarray of shape (n_distinct, 2 * n_targets)
        Sums over these rows of the targets, then of their squares.
    n_bins : int
    """
    if len(values) < 2:
        return np.zeros(0, np.int64)
    sums, squares = np.split(sums, 2, axis=1)
    n = np.concatenate([[0], np.cumsum(counts)])
    mean = sums.sum(0) / n[-1]
    variance = squares.sum(0) / n[-1] - mean**2
    told = variance > 1e-12 * np.maximum(mean**2, 1e-300)
    scale = np.where(told, np.sqrt(np.where(told, variance, 1.0)), np.inf)
    excess = np.concatenate(
        [np.zeros((1, len(mean))), np.cumsum((sums - counts[:, None] * mean) / scale, 0)]
    )

    def best_cut(start, stop):
        """Largest gain of a cut among the values start .. stop - 1, and its place."""
        cuts = np.arange(start + 1, stop)
        left, whole = n[cuts] - n[start], n[stop] - n[start]
        cuts = cuts[(left >= MIN_LEAF) & (whole - left >= MIN_LEAF)]
        if not len(cuts):
            return 0.0, 0
        left = (n[cuts] - n[start])[:, None]
        a, b = excess[cuts] - excess[start], excess[stop] - excess[cuts]
        gain = (a**2 / left + b**2 / (whole - left) - (a + b) ** 2 / whole).max(1)
        best = int(gain.argmax())
        return float(gain[best]), int(cuts[best])

    gain, cut = best_cut(0, len(values))
    leaves, found = [(-gain, cut, 0, len(values))], []
    while leaves and len(found) + 1 < max(n_bins // 2, 2):
        gain, cut, start, stop = heapq.heappop(leaves)
        if -gain < MIN_GAIN:
            break
        found.append(cut)
        for a, b in ((start, cut), (cut, stop)):
            gain, at = best_cut(a, b)
            heapq.heappush(leaves, (-gain, at, a, b))
    return np.sort(np.array(found, np.int64))


def warp(values, ranks, cuts, n_bins):
    """Places of distinct values in [0, 1] in which every cut, from a value to the next, is one step
    of ``1 / n_bins``.

    So a function that is linear within steps may jump there. The leaves between cuts share the
    other steps equally, in whole numbers, and keep their ranks; a leaf of one value needs none."""
    if not len(cuts):
        return ranks
    first, last = np.append(0, cuts), np.append(cuts - 1, len(values) - 1)
    wide = np.cumsum(np.append(0, last > first))
    left = n_bins - len(cuts) if wide[-1] else 0
    ends = np.round(wide * (left / max(wide[-1], 1)))
    starts_at = (ends[:-1] + np.arange(len(first))) / (left + len(cuts))
    stops_at = (ends[1:] + np.arange(len(first))) / (left + len(cuts))
    leaf = np.searchsorted(cuts, np.arange(len(values)), side="right")
    width = ranks[last] - ranks[first]
    within = (ranks - ranks[first][leaf]) / np.where(width > 0, width, 1.0)[leaf]
    return starts_at[leaf] + within * (stops_at - starts_at)[leaf]
