"""MDE: widths of embeddings by a power of how popular their values are."""

from numbers import Real

import numpy as np

from ..base import SearchMethod
from ..base._constraints import BUDGET
from ..nn import MixedEmbedding, limit_of
from ..nn._budget import vector_bytes
from ..utils._sklearn import Interval
from ._widths import check_widths


def mixed_widths(popularity, alpha, scale, embedding_dim, powers_of_two=False):
    """Widths of fields, int64 ndarray: floor(scale * popularity ** alpha) between 1 and d.

    Parameters
    ----------
    popularity : ndarray (T,)
        In (0, 1].
    alpha, scale : float
    embedding_dim : int
        d.
    powers_of_two : bool
        Round down to these; d itself stays.
    """
    # The margin is for scales that are to give whole numbers.
    exact = np.clip(scale * popularity**alpha * (1 + 1e-12), 1, embedding_dim)
    widths = exact.astype(np.int64)
    if powers_of_two:
        rounded = 2 ** np.floor(np.log2(widths)).astype(np.int64)
        widths = np.where(widths == embedding_dim, embedding_dim, rounded)
    return widths


class MDE(SearchMethod):
    r"""Give fields widths by a power of how often a value of them occurs: a rule, no search.

    In a row each field has one value, so that a value of a field of n ids occurs in 1 / n of them
    on average, its popularity p. The width of field f is

    .. math:: d_f = \lfloor \lambda \, p_f^\alpha \rfloor = \lfloor \lambda \, n_f^{-\alpha} \rfloor

    between 1 and ``embedding_dim``. :math:`\lambda` is the largest number at which the tables fit
    the budget. Narrow vectors are brought to full width by a projection for each width.

    Parameters
    ----------
    budget : float in (0, 1] or int, default=0.5
        Bytes of the embedding tables (int), or their share of the whole tables' (float). Never
        exceeded; the projections come on top.
    alpha : float in [0, 1], default=0.3
        0 gives all fields the same width; the larger, the narrower are fields of many values.
    powers_of_two : bool, default=False
        Round widths down to powers of two, so that fewer projections are needed.

    Notes
    -----
    The public code has a projection for each field; here fields of one width share theirs. A list
    has the popularity of one that holds a single item. Fields of numbers keep their full width and
    are not counted.

    The paper also cuts single fields (users, items) into blocks of values of like popularity. Here
    a field has one width; `NIS` and `RULE` size values by their frequency.

    References
    ----------
    .. [1] Ginart, A. A., Naumov, M., Mudigere, D., Yang, J., Zou, J. "Mixed Dimension Embeddings
       with Application to Memory-Efficient Recommendation Systems", ISIT 2021.
       https://arxiv.org/abs/1909.11810

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, embedding
    >>> X, y, _ = datasets.make_ctr(
    ...     1000, n_fields=3, cardinality=[4, 20, 100], pairs=1, random_state=0
    ... )
    >>> search = embedding.MDE(0.5)
    >>> model = CTRClassifier(
    ...     network="fm", search=search, embedding_dim=8, max_epochs=1, random_state=0
    ... ).fit(X, y)
    >>> list(model.embedding_sizes_.values())
    [8, 6, 3]
    """

    slot = "embedding"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "budget": BUDGET,
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "powers_of_two": ["boolean"],
    }

    def __init__(self, budget=0.5, alpha=0.3, powers_of_two=False):
        self.budget = budget
        self.alpha = alpha
        self.powers_of_two = powers_of_two

    def search(self, problem):
        context = problem.context
        d, n_rows = context.embedding_dim, np.array(context.table_sizes, np.int64)
        limit = limit_of(self.budget, context)
        by_width = vector_bytes(context, np.arange(d + 1)[:, None].repeat(context.n_fields, 1))
        n_bytes = by_width[:, context.table_fields] * n_rows  # of each table by its width
        tables = np.arange(len(n_rows))
        if limit < n_bytes[1].sum():
            raise ValueError(
                f"budget={self.budget!r} is {limit} bytes, but a column for every field takes "
                f"{n_bytes[1].sum()}; raise it (a float is a share of the whole tables, an "
                f"int is bytes)."
            )
        popularity = 1 / n_rows
        # Widths change where the exact one of some field is a whole number.
        steps = np.unique([0.0, *(np.arange(1, d + 1) / popularity[:, None] ** self.alpha).flat])
        candidates = (
            mixed_widths(popularity, self.alpha, scale, d, self.powers_of_two)
            for scale in steps[::-1]
        )
        own = next(w for w in candidates if n_bytes[w, tables].sum() <= limit)
        widths = [d] * context.n_fields
        for f, w in zip(context.table_fields, own, strict=True):
            widths[f] = int(w)
        for f, owner in context.sharers:
            widths[f] = widths[owner]
        return {"widths": widths}

    def check(self, architecture, context):
        check_widths(architecture, context)

    def realise(self, architecture, context):
        return MixedEmbedding(context, architecture["widths"])
