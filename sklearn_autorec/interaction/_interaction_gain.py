"""Pairs that tell more about the target than their fields do one by one: a baseline that trains
nothing.
"""

from numbers import Integral, Real

import numpy as np
from scipy.special import gammaln

from ..base import SearchMethod
from ..base._constraints import N_INTERACTIONS
from ..nn import SquaredError, pair_index, plain_loss
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._products import KeptProducts, ScoredTuples, check_pairs_exist, check_tuples

EXACT_ROWS = 200  # of a cell, up to which its information by chance is summed, not approximated


class InteractionGain(ScoredTuples, SearchMethod):
    r"""Keep the pairs of largest interaction gain: what a search of equal size should beat.

    What two fields tell about the target together beyond what each tells alone,

    .. math:: I(X_i, X_j; Y) - I(X_i; Y) - I(X_j; Y)

    each mutual information less its mean under shuffled labels. Nothing is trained for it; the
    network is then trained with the ``n_interactions`` first pairs.

    Parameters
    ----------
    n_interactions : int or float, default=0.5
        How many pairs to keep, or their share of all.
    n_bins : int, default=10
        Bins of equal rows into which numbers, and ratings as the target, are cut.
    init_gate : float, default=0.6
        Initial weights of the kept products, as in `AutoFIS`.

    Notes
    -----
    ``interaction_scores_`` are the gains in nats. They are negative where two fields say the same.
    The correction for chance is exact for shuffled labels (the hypergeometric model of adjusted
    mutual information); cells of more than 200 rows take the first order of its expansion in one
    over their size. Without it fields of many values would win, since a cell of one row always
    tells its label.

    Of a list the first item counts. Weights of rows are not read.

    References
    ----------
    .. [1] Jakulin, A., Bratko, I. "Analyzing Attribute Dependencies", PKDD 2003, of the interaction
       gain. https://doi.org/10.1007/978-3-540-39804-2_22
    .. [2] Vinh, N. X., Epps, J., Bailey, J. "Information Theoretic Measures for Clusterings
       Comparison: Variants, Properties, Normalization and Correction for Chance", JMLR 11, 2010, of
       the correction. https://jmlr.org/papers/v11/vinh10a.html

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(2000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.InteractionGain(n_interactions=1)
    >>> model = CTRClassifier(network="fm", search=search, max_epochs=1, random_state=0)
    >>> gains = model.fit(X, y).interaction_scores_
    >>> [pair for pair, gain in gains.items() if gain > 0.01]
    [('f0', 'f1')]
    """

    slot = "interaction"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "n_interactions": N_INTERACTIONS,
        "n_bins": [Interval(Integral, 2, None, closed="left")],
        "init_gate": [Real],
    }

    @stores_parameters
    def __init__(self, n_interactions=0.5, n_bins=10, init_gate=0.6):
        """Store the parameters."""

    def search(self, problem):
        context = problem.context
        check_pairs_exist("InteractionGain", context)
        y = problem.data.y.cpu().numpy()
        if isinstance(plain_loss(problem.loss), SquaredError):
            y = in_bins(y, self.n_bins)
        codes = field_codes(problem.data, context, self.n_bins)
        tuples = pair_index(context.n_fields).T.tolist()
        n = self.n_interactions
        n = n if isinstance(n, Integral) else round(n * len(tuples))
        if n > len(tuples):
            raise ValueError(f"n_interactions={n} is more than the {len(tuples)} pairs.")
        gains = interaction_gains(codes, y, tuples)
        kept = np.sort(np.argsort(-gains, kind="stable")[:n])
        return {
            "interactions": [tuples[i] for i in kept],
            "candidates": tuples,
            "scores": gains.tolist(),
        }

    def check(self, architecture, context):
        check_tuples(architecture, context, max_order=2)

    def realise(self, architecture, context):
        return KeptProducts(architecture["interactions"], context, self.init_gate)


def field_codes(data, context, n_bins):
    """One integer for each row and field, int64 (n, F); numbers in bins, 0 where they are missing.
    Vectors are 0: they have no bins, so that nothing is gained by them.

    Parameters
    ----------
    data : EncodedTensors
    context : BuildContext
    n_bins : int
    """
    columns = [data.ids.cpu().numpy().astype(np.int64)]
    values, missing = (
        t.cpu().numpy() for t in data.numeric[:, : 2 * context.n_numeric].chunk(2, 1)
    )
    for x, absent in zip(values.T, missing.T > 0, strict=True):
        code = np.zeros(len(x), np.int64)
        if not absent.all():
            code[~absent] = 1 + in_bins(x[~absent], n_bins)
        columns.append(code[:, None])
    start = 0
    for length in context.sequence_lengths:
        columns.append(data.sequences[:, start : start + 1].cpu().numpy().astype(np.int64))
        start += length
    columns.append(np.zeros((len(data), len(context.vectors)), np.int64))
    return np.hstack(columns)


def in_bins(x, n_bins):
    """Numbers of the bins of equal rows that values fall into, from 0."""
    edges = np.unique(np.quantile(x, np.arange(1, n_bins) / n_bins))
    return np.searchsorted(edges, x, side="right")


def interaction_gains(codes, y, pairs):
    """Interaction gain of pairs of columns, corrected for chance, in nats; float64 (P,).

    Parameters
    ----------
    codes : int64 ndarray (n, F)
    y : ndarray (n,)
    pairs : list of (int, int)
    """
    classes, y = np.unique(y, return_inverse=True)
    chance = chance_information(np.bincount(y))
    codes = np.column_stack([np.unique(column, return_inverse=True)[1] for column in codes.T])
    alone = [information(column, y, len(classes), chance) for column in codes.T]
    gains = []
    for i, j in pairs:
        cells = codes[:, i] * (codes[:, j].max() + 1) + codes[:, j]
        cells = np.unique(cells, return_inverse=True)[1]
        gains.append(information(cells, y, len(classes), chance) - alone[i] - alone[j])
    return np.array(gains)


def information(cells, y, n_classes, chance):
    """Mutual information of cells and classes less its mean under shuffled labels."""
    counts = np.bincount(cells * n_classes + y, minlength=(cells.max() + 1) * n_classes)
    counts = counts.reshape(-1, n_classes)
    sizes, totals, n = counts.sum(1), counts.sum(0), len(y)
    rows, columns = counts.nonzero()
    found = counts[rows, columns]
    own = (found / n * np.log(found * n / (sizes[rows] * totals[columns]))).sum()
    large = sizes >= len(chance)
    expected = chance[sizes[~large]].sum()
    expected += ((n_classes - 1) * (1 - sizes[large] / n)).sum() / (2 * n)
    return own - expected


def chance_information(totals):
    """What a cell adds to the mutual information if its rows are drawn by chance, by its size.

    Parameters
    ----------
    totals : int ndarray (C,)
        Rows of each class.

    Returns
    -------
    float64 ndarray
        For cells of 0 up to 200 rows, or all rows.
    """
    n = int(totals.sum())
    sizes = np.arange(min(n, EXACT_ROWS) + 1)
    found = np.arange(1, len(sizes))[:, None]
    expected = np.zeros(len(sizes))
    for total in totals[totals > 0]:
        # Of the hypergeometric distribution; scipy's own takes seconds for so many.
        possible = (found <= total) & (found <= sizes) & (sizes - found <= n - total)
        k, size = (np.broadcast_to(a, possible.shape)[possible] for a in (found, sizes))
        odds = np.exp(log_choose(total, k) + log_choose(n - total, size - k) - log_choose(n, size))
        told = odds * k / n * np.log(k * n / (size * total))
        expected += np.bincount(size, told, minlength=len(sizes))
    return expected


def log_choose(n, k):
    """Logarithm of a binomial coefficient."""
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
