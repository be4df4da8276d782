"""Product quantisation: vectors stored as the numbers of the centroids of their parts."""

import numpy as np
import torch
from torch import nn

from ._clusters import means_of_clusters, nearest

PART = 4  # numbers of a part of a vector; the last part may have fewer
MOST_CENTROIDS = 64  # of each part of the vectors of a column
HALF = 2  # bytes of a float16
# Rows that k-means sees at most, so that it takes no longer on tables of millions of values.
MOST_ROWS = 2**15


def n_parts(width):
    """Parts of a vector of so many numbers."""
    return -(-width // PART)


def product_bytes(n_rows, width):
    """Bytes of the codes and centroids of the vectors of a column."""
    return n_rows * n_parts(width) + HALF * width * min(n_rows, MOST_CENTROIDS)


def pays(n_rows, width):
    """Whether that is less than the vectors in float16 take."""
    return product_bytes(n_rows, width) < HALF * width * n_rows


def codes_and_centroids(vectors, weight=None):
    """Codes of vectors, and the centroids that they stand for.

    Each part of the vectors is clustered by k-means, always with the same draws, so that the result
    follows from the vectors and weights alone.

    Parameters
    ----------
    vectors : float32 ndarray (n, width)
    weight : ndarray (n,) or None, default=None
        What the squared error of each vector counts; None is 1.

    Returns
    -------
    uint8 ndarray (n, parts)
    float32 ndarray (k, width)
        With k = min(n, 64). Vector i has in part p the numbers of that part of the centroid
        ``codes[i, p]``.
    """
    n, width = vectors.shape
    codes = np.empty((n, n_parts(width)), np.uint8)
    centroids = np.zeros((min(n, MOST_CENTROIDS), width), np.float32)
    for p in range(codes.shape[1]):
        columns = slice(p * PART, (p + 1) * PART)
        codes[:, p], found = _clustered(vectors[:, columns], weight, len(centroids))
        centroids[: len(found), columns] = found
    return codes, centroids


def _clustered(vectors, weight, k):
    """The cluster of each vector, and at most k means of clusters."""
    weight = np.ones(len(vectors)) if weight is None else np.asarray(weight, np.float64)
    random, seen = np.random.default_rng(0), slice(None)
    if len(vectors) > MOST_ROWS:
        # Drawn as often as they weigh, they estimate the error of all without a bias.
        drawn = random.choice(len(vectors), MOST_ROWS, p=weight / weight.sum())
        seen, weight = np.unique(drawn, return_counts=True)
    # k-means looks for as many clusters as it is asked for among different vectors.
    distinct, which = np.unique(vectors[seen], axis=0, return_inverse=True)
    weight = np.bincount(which.reshape(-1), weight)
    if len(distinct) > k:
        distinct = means_of_clusters(distinct, weight, k, random)
    distinct = distinct.astype(np.float16).astype(np.float32)  # as they will be stored
    return nearest(vectors, distinct), distinct


class ProductRows(nn.Module):
    """Vectors stored as codes; places (...) to (..., width), float32.

    Only codes and centroids of the rows that are read are touched: nothing builds the whole table.

    Parameters
    ----------
    width : int
        Numbers of a vector.
    books : tuple of (int, int)
        Centroids of each column, and the number of its rows, which follow each other.
    """

    def __init__(self, width, books):
        super().__init__()
        self.width, self.books = int(width), tuple((int(k), int(n)) for k, n in books)
        k, n = np.array(self.books, np.int64).reshape(-1, 2).T
        codes = torch.zeros(int(n.sum()), n_parts(width), dtype=torch.uint8)
        centroids = torch.zeros(int(k.sum()), width, dtype=torch.float16)
        self.codes = nn.Parameter(codes, requires_grad=False)
        self.centroids = nn.Parameter(centroids, requires_grad=False)
        # Made of the books again: first row behind each column, first centroid of each.
        for name, values in (
            ("ends", np.cumsum(n)),
            ("first", np.cumsum(k) - k),
            ("part", np.arange(width) // PART),
            ("column", np.arange(width)),
        ):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def forward(self, places):
        codes = self.codes.index_select(0, places.reshape(-1)).long()
        if len(self.books) > 1:
            book = torch.bucketize(places.reshape(-1).long(), self.ends, right=True)
            codes = codes + self.first[book].unsqueeze(1)
        # Where each number stands in the centroids, row after row.
        where = codes.index_select(1, self.part) * self.width + self.column
        found = self.centroids.reshape(-1).index_select(0, where.reshape(-1)).to(torch.float32)
        return found.view(*places.shape, self.width)

    @torch.no_grad()
    def fill(self, codes, centroids):
        """Store what `codes_and_centroids` gave for each column, in the order of the rows."""
        self.codes.copy_(torch.from_numpy(np.concatenate(codes)))
        self.centroids.copy_(torch.from_numpy(np.concatenate(centroids)))

    def check(self):
        """Refuse codes of centroids that are not there.

        Raises
        ------
        ValueError
        """
        rows = self.codes.split([n for _, n in self.books])
        for (k, _), own in zip(self.books, rows, strict=True):
            if int(own.max()) >= k:
                raise ValueError(
                    f"the codes of a quantised table must be below {k}, the number of its "
                    f"centroids, got {int(own.max())}."
                )
