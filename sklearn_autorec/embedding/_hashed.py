"""Fewer rows than values: values that share a row, and values that are told apart by two rows."""

import numpy as np
import torch

from ..base import SearchMethod
from ..base._constraints import BUDGET
from ..utils._sklearn import StrOptions
from ._blocks import RESERVED
from ._few_rows import (
    PRIME,
    HashedEmbedding,
    QuotientRemainderEmbedding,
    check_list,
    hashed_places,
    hashed_rows,
    largest_cap,
    n_sharing,
    remainders_within,
    rows_of_both,
)


class Hashing(SearchMethod):
    r"""Let values of a field share rows, as many as the budget asks: the hashing trick, a baseline.

    All tables of more ids than some number of rows get that number, the largest that fits the
    budget; smaller tables stay whole. Which values share a row is decided by a universal hash
    function

    .. math:: h(v) = ((a v + b) \bmod p) \bmod R

    with random a and b for each table. Values that share a row have one vector: nothing tells them
    apart in the embedding slot. Their first-order weights, where the network has such, are their
    own.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.5
        Bytes of the embedding tables (int), or their share of the whole tables' (float). Never
        exceeded.
    hashing : {"universal", "modulo"}, default="universal"
        "modulo" takes the remainder of the id. Ids are sorted by frequency, so that the most
        frequent values then have no row in common; that is more than a hash function of raw values
        can do.

    Notes
    -----
    The missing and the unknown id keep rows of their own. ``architecture_["embedding"]`` has, for
    each table, "rows", a and b ("hashes"), and under "collisions" how many values share a row with
    another one. Fields of numbers are left whole and are not counted.

    References
    ----------
    .. [1] Weinberger, K. et al. "Feature Hashing for Large Scale Multitask Learning", ICML 2009.
       https://arxiv.org/abs/0902.2206
    .. [2] Carter, J. L., Wegman, M. N. "Universal Classes of Hash Functions", JCSS 1979.
       https://doi.org/10.1016/0022-0000(79)90044-8

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=3, pairs=1, random_state=0)
    >>> search = embedding.Hashing(0.5)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=4, max_epochs=1, random_state=0
    ... ).fit(X, y)
    >>> rows = model.architecture_["embedding"]["rows"]
    >>> model.nbytes_["embedding"] == 4 * 4 * sum(rows)
    True
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        "budget": BUDGET,
        "hashing": [StrOptions({"universal", "modulo"})],
    }

    def __init__(self, budget=0.5, hashing="universal"):
        self.budget = budget
        self.hashing = hashing

    def search(self, problem):
        context = problem.context
        sizes, cap = context.table_sizes, largest_cap(hashed_rows, self.budget, context)
        rows = [hashed_rows(n, cap) for n in sizes]
        hashes = [[1, 0] for _ in sizes]
        if self.hashing == "universal":
            drawn = torch.randint(PRIME - 1, (len(sizes), 2), generator=context.generator)
            hashes = [[int(a) + 1, int(b)] for a, b in drawn]
        places = zip(sizes, rows, hashes, strict=True)
        shared = [n_sharing(hashed_places(np.arange(n), n, r, h)) for n, r, h in places]
        return {"rows": rows, "hashes": hashes, "collisions": shared}

    def check(self, architecture, context):
        check_list(
            architecture,
            "rows",
            context,
            lambda r, n: type(r) is int and hashed_rows(n, 1) <= r <= n,
            f"a number of rows, at least {RESERVED + 1} (or all) and no more than there are,",
        )
        check_list(
            architecture,
            "hashes",
            context,
            lambda h, n: (
                isinstance(h, list)
                and [type(x) for x in h] == [int, int]
                and 1 <= h[0] < PRIME
                and 0 <= h[1] < PRIME
            ),
            f"two ints, from 1 and from 0 to {PRIME - 1},",
        )

    def realise(self, architecture, context):
        return HashedEmbedding(context, architecture["rows"], architecture["hashes"])


class QR(SearchMethod):
    r"""Tell values apart by two small tables, of quotients and of remainders: a baseline.

    Id v of a field with m remainders is read as

    .. math:: e_v = R_{v \bmod m} \odot Q_{\lfloor v / m \rfloor}

    so that every value has a vector of its own, made of rows that it shares with others. All tables
    of more ids than some number of rows are split so that both parts together have no more rows;
    that number is the largest that fits the budget. Smaller tables stay whole.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.5
        Bytes of the embedding tables (int), or their share of the whole tables' (float). Never
        exceeded. A field of n ids cannot have fewer than about :math:`2 \sqrt n` rows.
    combine : {"multiply", "add"}, default="multiply"
        How the two rows are put together.

    Notes
    -----
    The paper splits the tables of more than some number of ids with the same number of values a
    remainder for all. Here the rows of a table are what is bounded, which spares small fields in
    the same way as `Hashing` does.

    The public code starts products from positive numbers alone. Here both factors have normal
    initial weights whose product is spread as a plain table's.

    Fields of numbers are left whole and are not counted.

    References
    ----------
    .. [1] Shi, H.-J. M. et al. "Compositional Embeddings Using Complementary Partitions for
       Memory-Efficient Recommendation Systems", KDD 2020. https://arxiv.org/abs/1909.02107

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=3, cardinality=50, pairs=1, random_state=0)
    >>> model = CTRClassifier(
    ...     network="fm", search=embedding.QR(0.5), embedding_dim=4, max_epochs=1, random_state=0
    ... ).fit(X, y)
    >>> model.compression_ratio_ > 2
    True
    """

    slot = "embedding"
    distributes = True
    _parameter_constraints = {
        "budget": BUDGET,
        "combine": [StrOptions({"multiply", "add"})],
    }

    def __init__(self, budget=0.5, combine="multiply"):
        self.budget = budget
        self.combine = combine

    def search(self, problem):
        context = problem.context
        cap = largest_cap(rows_of_both, self.budget, context)
        return {"remainders": [remainders_within(n, cap) for n in context.table_sizes]}

    def check(self, architecture, context):
        check_list(
            architecture,
            "remainders",
            context,
            lambda m, n: type(m) is int and 1 <= m <= n,
            "a number of remainders, at least 1 and no more than there are ids,",
        )

    def realise(self, architecture, context):
        return QuotientRemainderEmbedding(context, architecture["remainders"], self.combine)
