"""The search of AutoCross with a screen before it, which judges a candidate for all folds in two
passes over the rows.
"""

import numpy as np
import pandas as pd

from ..feature_crossing._autocross._cross_search import CrossSearch
from ..feature_crossing._autocross._fieldwise import MAX_STEP, derivatives, penalty

N_FINALISTS = 10  # candidates that the full test sees after the screen
SCREENED_CELLS = 8  # sums per row and fold at most, beyond which combinations are counted first


class ScreenedSearch(CrossSearch):
    """`CrossSearch` whose candidates are ranked by one step on held-out logits; the best are then
    tested in full.

    With the logits of each row by the model that has not seen it as the offset, the gradient and
    curvature of a candidate's weights are sums over rows. Taken by fold they say what one Newton
    step, learned without a fold, gains on it.

    Parameters
    ----------
    base_fields : list of (int ndarray of shape (n_rows,) or (n_rows, n_places), int)
        Ids and their number of each field of the models without crosses. The fields that may be
        crossed are ``fields``.
    others : as of `CrossSearch`
    """

    def __init__(self, base_fields, *args, **options):
        super().__init__(*args, **options)
        self.base_fields = base_fields

    def _first_fields(self):
        return self.base_fields

    def _halve(self, state, candidates):
        if len(self.folds) < 2:
            return super()._halve(state, candidates)
        n = len(self.y)
        eta, part = np.empty(n), np.empty(n, np.int64)
        for k, (fold, model) in enumerate(zip(self.folds, state.models, strict=True)):
            eta[fold.start : fold.stop] = model.eta[model.n_train :]
            part[fold.start : fold.stop] = k
        g, h = derivatives(self.y, eta, self.logistic, self.weight)
        gains = {}
        for cross in candidates:
            if not self.in_time():
                return [], []
            gain = self._screened(cross, part, g, h)
            if gain is not None:
                gains[cross] = gain
        finalists = sorted(sorted(gains, key=lambda cross: -gains[cross])[:N_FINALISTS])
        starts = [
            derivatives(m.y[: m.n_train], m.eta[: m.n_train], self.logistic, m.train_weight)
            for m in state.models
        ]
        scored = [self._score_fully(cross, state.models, starts) for cross in finalists]
        rounds = [(len(candidates), n), (len(finalists), state.models[0].n_train)]
        return self._passed(scored, len(gains)), rounds

    def _screened(self, cross, part, g, h):
        """Gain of the log likelihood of all held-out rows by one step, to second order; None for a
        candidate without weights.
        """
        (keys,), size = self.pool.pair(*self.pool.parents[cross], [slice(0, len(g))])
        n_parts = len(self.folds)
        if size > SCREENED_CELLS * len(g) / n_parts:
            keys, distinct = pd.factorize(keys)
            size = len(distinct)
        keys = part * size + keys
        shape = (n_parts, size)
        by_part = np.bincount(keys, g, n_parts * size).reshape(shape)
        curvature = np.bincount(keys, h, n_parts * size).reshape(shape)
        gradient, total = by_part.sum(0), curvature.sum(0)
        l2 = penalty(gradient, total, self.options.l2)
        if l2 == np.inf:
            return None
        learned = total - curvature + l2
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = np.clip((gradient - by_part) / learned, -MAX_STEP, MAX_STEP)
        weights[learned <= 0] = 0
        return float((by_part * weights - 0.5 * curvature * weights**2).sum())
