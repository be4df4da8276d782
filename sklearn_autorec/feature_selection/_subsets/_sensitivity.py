"""Sensitivities of a fitted model to its columns: the honest, nearly free rivals of the
searches.
"""

import copy
from numbers import Integral

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance

from ...engine import EncodedTensors, batches_of
from ...nn import FieldRows, Members
from ...utils._docs import inherits_entries
from ...utils._parameters import stores_parameters
from ...utils._sklearn import Interval, StrOptions, safe_indexing
from ._subset_scorer import bits_of, rows_of
from ._subset_selector import SubsetSelector

NETWORK_METHODS = ("shark", "sfs")


class _Shift:
    """What is done to the embeddings (B, F, d) of every table of a network: summed, or moved
    towards a target.
    """

    def __init__(self):
        self.sums = {}
        self.n_rows = 0
        self.share = None  # (B, F), how far each embedding is moved; None while sums are taken

    def __call__(self, table, e, to_mean):
        members = getattr(table, "members", 1)
        e = e.unflatten(0, (members, -1))  # (M, B, F, d), each member with a mean of its own
        if self.share is None:
            self.sums[id(table)] = self.sums.get(id(table), 0.0) + e.detach().sum(1, keepdim=True)
            return e.flatten(0, 1)
        target = self.sums[id(table)] / self.n_rows if to_mean else torch.zeros((), device=e.device)
        return (e + self.share.unsqueeze(-1) * (target - e)).flatten(0, 1)


def _open(module, shift, to_mean):
    """A copy of a network whose every table of embeddings passes through ``shift``."""
    module = copy.deepcopy(module).eval()
    inside = set()
    for network in module.networks if isinstance(module, Members) else [module]:
        if hasattr(network, "embedding"):  # "lr" has none
            parts = [getattr(network, slot, None) for slot in ("embedding", "numeric", "sequence")]
            inside |= {m for part in parts if part is not None for m in part.modules()}
            whole = getattr(network, "assembly", None) or network.embedding
            whole.register_forward_hook(lambda table, _, e: shift(table, e, to_mean))

    class Shifted(FieldRows):
        # Stands between a table's class and FieldRows, so that what the table makes of its rows
        # sees them shifted.
        def forward(self, inputs):
            return shift(self, super().forward(inputs), to_mean)

    for table in module.modules():
        if isinstance(table, FieldRows) and table not in inside:
            table.__class__ = type(type(table).__name__, (type(table), Shifted), {})
    return module


def network_sensitivity(model, X, y, method, batch_size):
    """Sensitivity of the loss of a fitted network estimator to each column, (n_columns,).

    With e_f the embedding of field f in one row (in all tables of the network at once) and L the
    loss of the row:

    - "shark": mean over rows of \\|grad_{e_f} L . (mean(e_f) - e_f)\\|
    - "sfs": mean over batches of \\|mean over their rows of grad_{e_f} L . e_f\\|, the derivative
      by a mask.
    """
    scores = np.zeros(model.encoder_.n_features_in_)
    if model.net_ is None:  # a single class in y
        return scores
    net, loss_of, to_mean = model.net_, model._training_loss(), method == "shark"
    device = next(net.module_.parameters()).device
    data = EncodedTensors.from_table(model.encoder_.encode(X), device, model._transform_target(y))
    shift = _Shift()
    module = _open(net.module_, shift, to_mean)
    if to_mean:
        shift.n_rows = len(data)
        with torch.no_grad():
            for batch in batches_of(data, batch_size):
                module(**batch.inputs)
    n_fields, total, weight = len(model.encoder_.field_names_), 0.0, 0
    for batch in batches_of(data, batch_size):
        shift.share = torch.zeros(len(batch), n_fields, device=device, requires_grad=True)
        loss = loss_of(module(**batch.inputs), batch.y)
        (terms,) = torch.autograd.grad(loss.sum(), shift.share)
        total = total + (terms.abs().sum(0) if to_mean else terms.mean(0).abs())
        weight += len(batch) if to_mean else 1
    encoder = model.encoder_
    columns = np.r_[encoder.categorical_, encoder.numeric_, encoder.sequence_, encoder.vector_]
    # A column that is an id and a number has two fields.
    np.add.at(scores, columns, (total / weight).cpu().numpy())
    return scores


class Ranked:
    """Sensitivities averaged over the folds; where the number is to be chosen, the prefixes of
    their ranking are scored.
    """

    def __init__(self, selector, X, y, scorer, size, rng):
        self.p, self.X, self.y, self.scorer, self.size, self.rng = selector, X, y, scorer, size, rng
        self.scores = np.zeros(scorer.n_fields)

    def run(self):
        frozen = isinstance(self.p.estimator, FrozenEstimator)
        everything = np.arange(len(self.y))
        folds = [(None, everything)] if frozen else self.scorer.splits
        found = [self.sensitivity(*fold) for fold in folds]
        self.scores = np.mean(found, 0)
        if self.size is not None:
            return
        order = [
            f for f in np.argsort(-self.scores, kind="stable").tolist() if self.scorer.distinct[f]
        ]
        n, budget = len(order), self.scorer.max_evaluations or len(order)
        sizes = np.unique(np.linspace(n, 1, min(n, budget)).round().astype(int))[::-1]
        for k in sizes.tolist():
            self.scorer([bits_of(order[:k])])

    def sensitivity(self, train, test):
        p, estimator, X = self.p, self.p.estimator, self.X
        if p.method == "permutation" and not hasattr(X, "iloc") and hasattr(X, "to_pandas"):
            # scikit-learn's function would turn other frames into arrays without names.
            X = X.to_pandas()
        if train is None:
            model = estimator.estimator
        else:
            model = clone(estimator)
            model.fit(
                safe_indexing(X, train),
                self.y[train],
                **rows_of(self.scorer.params.fit, train, len(self.y)),
            )
        X, y = safe_indexing(X, test), self.y[test]
        if p.method == "permutation":
            result = permutation_importance(
                model,
                X,
                y,
                scoring=self.scorer.scorer,
                n_repeats=p.n_repeats,
                random_state=self.rng.randint(2**31 - 1),
                n_jobs=p.n_jobs,
            )
            return result.importances_mean
        if not (hasattr(model, "net_") and hasattr(model, "encoder_")):
            raise ValueError(
                f"method={p.method!r} reads the embeddings of a CTRClassifier or RatingRegressor, "
                f"got estimator={estimator!r}; "
                "use method='permutation' or 'forward' for other estimators."
            )
        return network_sensitivity(model, X, y, p.method, p.batch_size)

    def results(self):
        return {"scores_": self.scores}


class Forward:
    """Sequential forward selection: in every round the column whose addition scores best."""

    def __init__(self, scorer, size):
        self.scorer, self.size = scorer, size
        self.scores = np.zeros(scorer.n_fields)

    def run(self):
        left, taken, best = np.flatnonzero(self.scorer.distinct), 0, self.scorer.no_fields
        while len(left) and (self.size is None or taken.bit_count() < self.size):
            found = self.scorer([taken | 1 << int(f) for f in left])
            self.scores[left] = found - best
            winner = int(np.argmax(found))
            if self.size is None and not found[winner] > best:
                return
            taken, best = taken | 1 << int(left[winner]), found[winner]
            left = np.delete(left, winner)

    def results(self):
        return {"scores_": self.scores}


@inherits_entries
class SensitivitySelector(SubsetSelector):
    """Columns by the sensitivity of a fitted model to each, or by sequential forward selection.

    The baselines that a search should be held against. In public comparisons the two methods that
    read the gradients of a trained network choose as well as most gates, for the price of one
    training per fold.

    Parameters
    ----------
    estimator : estimator
        For ``method="shark"`` and ``"sfs"`` a `CTRClassifier` or `RatingRegressor`. A fitted one in
        a ``FrozenEstimator`` is not fitted again; its sensitivities are those on all rows of X.
    method : {"shark", "sfs", "permutation", "forward"}, default="shark"
        "shark": first-order estimate of what the loss of a row changes if an embedding is replaced
        by its mean. "sfs", single-shot feature selection: derivative of the loss by a mask on each
        field. "permutation": scikit-learn's permutation importance. "forward": in every round the
        column that scores best is added.
    n_features_to_select : "auto", int or float, default="auto"
        Columns to keep; a float is a share of all. "auto": the prefixes of the ranking are scored
        by cross-validation and the best is kept; "forward" stops where no column improves the
        score.
    scoring : str, callable or None, default=None
        scikit-learn's scorer, also of the permutation importance; None is the estimator's own
        ``score``.
    cv : int, splitter or iterable, default=3
        Folds. Sensitivities are measured on the rows left out and averaged over the folds.
    n_repeats : int, default=5
        Permutations of each column.
    batch_size : int, default=256
        Rows of a backward pass; for "sfs" also those over which a mask is shared.
    max_evaluations : int or None, default=None
        Subsets to fit at most. Prefixes are then evenly spaced; the fits behind the sensitivities,
        one per fold, are not counted.
    {max_time}
    random_state : int, RandomState or None, default=None
        Of the permutations.
    n_jobs : int or None, default=None
        Processes for fits and permutations.

    Attributes
    ----------
    {support_}
    scores_ : ndarray of shape (``n_features_in_``,)
        Sensitivities; for "forward" the change of the score when the column was added, or could
        last have been.
    {ranking_}
    best_score_, no_fields_score_ : float
        Score of the kept subset (NaN if it was never fitted, with a number asked for) and of a
        constant prediction.
    search_history_ : list of dict
        "evaluation", "subset" (positions) and "score" of every fitted subset.
    {n_evaluations_ to feature_names_in_}

    Notes
    -----
    Gradients go through all tables of the network, that of the first-order term included. "forward"
    makes the choices of scikit-learn's ``SequentialFeatureSelector``, on tables of any kind, and
    remembers what it fitted.

    References
    ----------
    .. [1] B. Zhang et al. SHARK: a lightweight model compression approach for large-scale
       recommender systems. CIKM 2023. https://arxiv.org/abs/2308.09395
    .. [2] Y. Wang et al. Single-shot feature selection for multi-task recommendations. SIGIR 2023.
       https://doi.org/10.1145/3539618.3591767
    .. [3] P. Jia et al. ERASE: benchmarking feature selection methods for deep recommender systems.
       KDD 2024. https://arxiv.org/abs/2403.12660

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> from sklearn_autorec.feature_selection import SensitivitySelector
    >>> X, y, truth = make_ctr(
    ...     2000, n_fields=5, cardinality=5, informative_fields=[1, 3], pairs=0, random_state=0
    ... )
    >>> model = CTRClassifier(network="fm", lr=0.01, max_epochs=3, random_state=0)
    >>> SensitivitySelector(model, n_features_to_select=2).fit(
    ...     X, y
    ... ).get_feature_names_out().tolist()
    ['f1', 'f3']
    """

    _parameter_constraints = {
        **SubsetSelector._parameter_constraints,
        "method": [StrOptions({*NETWORK_METHODS, "permutation", "forward"})],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    @stores_parameters
    def __init__(
        self,
        estimator,
        *,
        method="shark",
        n_features_to_select="auto",
        scoring=None,
        cv=3,
        n_repeats=5,
        batch_size=256,
        max_evaluations=None,
        max_time=None,
        random_state=None,
        n_jobs=None,
    ):
        """Store the parameters."""

    def _begin(self, X, y, scorer, size, rng):
        if self.method == "forward":
            return Forward(scorer, size)
        return Ranked(self, X, y, scorer, size, rng)

    def _scorer(self, X, y, columns, params):
        scorer = super()._scorer(X, y, columns, params)
        if isinstance(self.estimator, FrozenEstimator):  # subsets need models of their own
            scorer.estimator = clone(self.estimator.estimator)
        return scorer

    def _choose(self, scorer, scores, size):
        if self.method == "forward" or size is None:
            return super()._choose(scorer, scores, size)
        return scorer.top(scores, size)
