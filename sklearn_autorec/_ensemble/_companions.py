"""Models beside a network, and the mean of all their outputs, weighed by rows that none of them was
fitted on.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ..linear_model._core import CrossedLinear, CrossedLinearOptions
from ._boosted import StatisticsBoosting
from ._mixing import as_rows, mixing_weights

__all__ = ["NETWORK", "STATISTICS", "WIDE", "Mixture", "fit_mixture", "possible_companions"]

NETWORK, WIDE, STATISTICS = "network", "wide", "target_statistics"
LEAST_ROWS = 50  # fewer say nothing about a companion
LEAST_OF_CLASS = 5  # rows of the rarer class
TREES_WITHOUT_STOPPING = 25  # where no rows are held out


@dataclass(frozen=True, eq=False)
class Mixture:
    """A weighted mean of the outputs of a network and of models beside it.

    Parameters
    ----------
    weights : dict of str to float
        By part: "network" and the names of ``models``; the sum is 1.
    models : dict of str to object
        With ``logits(table)``. A part of weight 0 is not there.
    """

    weights: dict
    models: dict = field(default_factory=dict)

    @property
    def asks_network(self):
        """Whether the network's output counts; its forward pass is most of the time of a row."""
        return self.weights[NETWORK] != 0

    def logits(self, table, network_logits):
        """Mean output of the rows, float64 (n_rows, 1).

        Parameters
        ----------
        table : EncodedTable
        network_logits : float64 ndarray of shape (n_rows, 1)
        """
        return self.member_logits(table, network_logits[None])[0]

    def member_logits(self, table, network_logits):
        """The same for each member of the network, (M, n_rows, 1): companions do not differ between
        them.
        """
        total = np.zeros(len(table))
        for name, model in self.models.items():
            total += self.weights[name] * model.logits(table)
        return self.weights[NETWORK] * network_logits + total[:, None]


def possible_companions(names, rows, logistic):
    """Those of the named companions that these rows suffice for."""
    if len(rows) < LEAST_ROWS:
        return []
    if logistic and min(np.bincount(rows.y.astype(np.int64), minlength=2)) < LEAST_OF_CLASS:
        return []
    has_fields = rows.table.ids.shape[1] + rows.table.numeric.shape[1] > 0
    return [name for name in names if has_fields or name != STATISTICS]


def fit_mixture(names, rows, held_out, parts, network_logits, *, logistic, seed):
    """Fit the companions and weigh them and the network.

    Parameters
    ----------
    names : list of str
        Companions: "wide", "target_statistics".
    rows : Rows
        Which the companions are fitted on; their weights count as rows (see `as_rows`).
    held_out : Rows or None
        Rows that judge and are never fitted on.
    parts : int ndarray of shape (n_rows,) or None
        Without ``held_out``: rows of the same number, from 0, are held out together and judge; in
        the end the companions are fitted on all rows. Rows of -1 are never held out.
    network_logits : float64 ndarray of shape (n_judging,) or None
        Output of the network for the rows that judge (those of ``parts`` in their order), by a
        network that has not seen them. None where no rows are held out: all weights are equal then.
    logistic : bool
    seed : int

    Returns
    -------
    Mixture
    """
    rows, y = replace(rows, weight=as_rows(rows.weight)), rows.y.astype(np.float64)
    outputs, models = [network_logits], {}
    for name in names:
        fit = {WIDE: _fit_wide, STATISTICS: _fit_statistics}[name]
        models[name], found = fit(rows, y, held_out, parts, logistic, seed)
        outputs.append(found)
    if network_logits is None:
        weights = np.full(1 + len(names), 1 / (1 + len(names)))
    else:
        judges = held_out if held_out is not None else rows.take(np.flatnonzero(parts >= 0))
        weights = mixing_weights(
            np.column_stack(outputs), judges.y, judges.weight, logistic=logistic
        )
    shares = dict(zip([NETWORK, *names], weights.tolist(), strict=True))
    return Mixture(
        {name: w for name, w in shares.items() if w > 0 or name == NETWORK},
        {name: model for name, model in models.items() if shares[name] > 0},
    )


def _fit_wide(rows, y, held_out, parts, logistic, seed):
    """The crossed linear model, and its outputs for the rows that judge."""
    model = CrossedLinear(CrossedLinearOptions())
    model.fit(rows.table, rows.encoder, y, rows.weight, logistic, seed)
    if held_out is not None:
        return model, model.logits(held_out.table)
    if parts is None:
        return model, None
    return model, model.held_out_logits(rows.table, y, parts, rows.weight)[parts >= 0]


def _fit_statistics(rows, y, held_out, parts, logistic, seed):
    """Boosted trees over target statistics, and their outputs for the rows that judge."""
    rng, n_ids = np.random.RandomState(seed), rows.encoder.n_ids_
    if held_out is not None:
        valid = held_out.table, held_out.y, held_out.weight
        model = StatisticsBoosting(logistic).fit(
            rows.table, n_ids, y, rows.weight, rng=rng, valid=valid
        )
        return model, model.logits(held_out.table)
    if parts is None:
        model = StatisticsBoosting(logistic)
        return model.fit(
            rows.table, n_ids, y, rows.weight, rng=rng, n_trees=TREES_WITHOUT_STOPPING
        ), None
    outputs, n_trees, crosses = np.full(len(y), np.nan), [], None
    for part in range(parts.max() + 1):
        kept, out = (
            rows.take(np.flatnonzero(parts != part)),
            rows.take(np.flatnonzero(parts == part)),
        )
        model = StatisticsBoosting(logistic)
        valid = out.table, out.y, out.weight
        model.fit(kept.table, n_ids, kept.y, kept.weight, rng=rng, valid=valid, keys=crosses)
        crosses = model.crosses
        outputs[parts == part] = model.logits(out.table)
        n_trees.append(np.mean([len(trees) for trees in model.trees]))
    final = StatisticsBoosting(logistic)
    final.fit(
        rows.table,
        n_ids,
        y,
        rows.weight,
        rng=rng,
        keys=crosses,
        n_trees=max(round(np.mean(n_trees)), 1),
    )
    return final, outputs[parts >= 0]
