"""k-means of a few numbers with weights, the same on every machine that adds alike.

Parts of networks do not need scikit-learn, whose k-means this is in short.
"""

import numpy as np

MOST_STEPS = 50
BLOCK = 2**15  # vectors whose distances are worked out at once


def means_of_clusters(vectors, weight, k, random):
    """Centroids of small weighted squared error: greedy k-means++ and at most 50 of
    Lloyd's steps.

    Parameters
    ----------
    vectors : float ndarray (n, d)
        At least k different ones.
    weight : ndarray (n,)
        Positive.
    k : int
    random : numpy Generator

    Returns
    -------
    float64 ndarray (k, d)

    References
    ----------
    .. [1] Arthur, D. and Vassilvitskii, S. "k-means++: The Advantages of Careful Seeding", SODA
       2007.
    """
    vectors = vectors.astype(np.float64)
    centroids, before = _spread(vectors, weight, k, random), None
    for _ in range(MOST_STEPS):
        which = nearest(vectors, centroids)
        if before is not None and np.array_equal(which, before):
            break
        before = which
        total = np.bincount(which, weight, minlength=k)
        for column, own in enumerate(vectors.T):
            sums = np.bincount(which, weight * own, minlength=k)
            np.divide(sums, total, out=centroids[:, column], where=total > 0)
        empty = np.flatnonzero(total == 0)
        if len(empty):  # they go where the error is largest
            errors = weight * ((vectors - centroids[which]) ** 2).sum(1)
            centroids[empty] = vectors[np.argsort(-errors, kind="stable")[: len(empty)]]
    return centroids


def _spread(vectors, weight, k, random):
    """Vectors to start from: of some drawn by their weighted squared distance to those before, each
    time the one that leaves the smallest sum of these.
    """
    distance = np.full(len(vectors), np.inf)
    chance, chosen, n_drawn = weight, [], 2 + int(np.log(k))
    for _ in range(k):
        drawn = random.choice(len(vectors), n_drawn, p=chance / chance.sum())
        tried = [np.minimum(distance, ((vectors - vectors[own]) ** 2).sum(1)) for own in drawn]
        best = int(np.argmin([weight @ own for own in tried]))
        chosen.append(drawn[best])
        distance = tried[best]
        chance = weight * distance
    return vectors[chosen]


def nearest(vectors, centroids):
    """Number of the nearest centroid of each vector, int64 (n,)."""
    centroids = centroids.astype(np.float64)
    half = (centroids**2).sum(1) / 2
    found = [
        (half - vectors[start : start + BLOCK].astype(np.float64) @ centroids.T).argmin(1)
        for start in range(0, len(vectors), BLOCK)
    ]
    return np.concatenate(found)
