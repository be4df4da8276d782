"""The dull baseline of every interaction search: a random choice of the same size."""

from numbers import Real

import torch

from ..base import SearchMethod
from ..base._constraints import N_INTERACTIONS
from ..nn import pair_index
from ._autofis import check_orders
from ._products import KeptProducts, ScoredTuples, check_tuples


class RandomInteractions(ScoredTuples, SearchMethod):
    """Keep randomly chosen interactions: what a search of equal size must beat.

    Parameters
    ----------
    n_interactions : int or float, default=0.5
        How many to keep, or their share of all candidates.
    orders : tuple of int, default=(2,)
        Orders of the candidates: 2, 3 or both.
    init_gate : float, default=0.6
        Initial weights of the kept products, as in `AutoFIS`.

    Examples
    --------
    >>> from sklearn_autorec.interaction import RandomInteractions
    >>> RandomInteractions(n_interactions=5).slot
    'interaction'
    """

    slot = "interaction"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "n_interactions": N_INTERACTIONS,
        "orders": [tuple, list],
        "init_gate": [Real],
    }

    def __init__(self, n_interactions=0.5, orders=(2,), init_gate=0.6):
        self.n_interactions = n_interactions
        self.orders = orders
        self.init_gate = init_gate

    def search(self, problem):
        context = problem.context
        tuples = [
            t
            for order in check_orders(self.orders, context)
            for t in pair_index(context.n_fields, order).T.tolist()
        ]
        n = self.n_interactions
        n = round(n * len(tuples)) if isinstance(n, float) else n
        if n > len(tuples):
            raise ValueError(
                f"n_interactions={n} is more than the {len(tuples)} candidates of orders "
                f"{self.orders}."
            )
        chosen = torch.randperm(len(tuples), generator=context.generator)[:n].sort().values.tolist()
        return {
            "interactions": [tuples[i] for i in chosen],
            "candidates": tuples,
            "scores": [float(i in set(chosen)) for i in range(len(tuples))],
        }

    def check(self, architecture, context):
        check_tuples(architecture, context)

    def realise(self, architecture, context):
        return KeptProducts(architecture["interactions"], context, self.init_gate)
