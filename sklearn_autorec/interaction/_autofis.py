"""AutoFIS: automatic feature interaction selection."""

from numbers import Integral, Real

import numpy as np
import torch
from torch import nn

from ..base import SearchMethod
from ..search import GRDA
from ..utils._sklearn import Interval, StrOptions
from ._products import CandidateProducts, KeptProducts, check_tuples


class GatedProducts(nn.Module):
    """Candidate products, each times a real gate that the search drives to exact zero or away from it."""

    def __init__(self, context, orders, init_gate, arch_lr, threshold, mu):
        super().__init__()
        self.candidates = CandidateProducts(orders, context)
        noise = torch.empty(self.candidates.out_dim).uniform_(-1e-3, 1e-3, generator=context.generator)
        self.gate = nn.Parameter(init_gate + noise)
        self.out_dim = self.candidates.out_dim
        self._grda = {"lr": arch_lr, "threshold": threshold, "mu": mu}

    def forward(self, e, inputs):
        return self.candidates(e, inputs, self.gate)

    def arch_parameters(self):
        return [self.gate]

    def arch_optimizer(self, n_steps):
        self.optimizer = GRDA([self.gate], n_steps=n_steps, **self._grda)
        return self.optimizer

    def strength(self):
        """|v|, the gates before shrinkage, (P,): ranks the closed ones too, and exceeds the threshold for the open."""
        state = self.optimizer.state.get(self.gate)
        return (state["v"] if state else self.gate).detach().abs()

    def summary(self):
        return {"open_gates": int((self.gate != 0).sum())}


class AutoFIS(SearchMethod):
    r"""Keep the feature interactions whose gates survive regularised dual averaging.

    During the search every product of embeddings is batch-normalised and multiplied by a gate
    :math:`\alpha`; the gates are trained on the same batches as the weights (one level), by `GRDA`, which
    sets the useless ones to exact zero. The network is then trained anew with the kept products only,
    their weights starting at ``init_gate``:

    .. math:: \sum_{i<j} \alpha_{ij}\, \mathrm{BN}(\langle e_i, e_j \rangle) \;[+ \sum_{i<j<k} \alpha_{ijk}\,
              \mathrm{BN}({\textstyle\sum_f e'_{if} e'_{jf} e'_{kf}})]

    It fits networks with an "interaction" slot: FM, DeepFM, IPNN.

    Parameters
    ----------
    orders : tuple of int, default=(2,)
        Orders of the candidates: 2, 3 or both. Triples use an embedding table of their own.
    threshold : float, default=0.8
        Final soft threshold of a gate; larger keeps fewer.
    mu : float in (0.5, 1), default=0.8
        How the threshold grows, (t / T)^mu; larger is later.
    arch_lr : float, default=1.0
        Learning rate of the gates.
    init_gate : float, default=0.6
        Initial gates in the search, and initial weights of the kept products.
    max_interactions : int or None, default=None
        Keep at most so many, the strongest.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts: new, those at the start, or those at the end of the search.

    Notes
    -----
    ``interaction_scores_`` are the gates before shrinkage, so that closed ones are ranked as well.

    The threshold is a function of the share of steps done: with the original strength c it would depend on the number
    of steps, and small data would prune nothing. The first-order term of the third-order table is left out, since
    the network has one already. All gates train to the end; the original code stops on the test set.

    References
    ----------
    Liu, B. et al. "AutoFIS: Automatic Feature Interaction Selection in Factorization Models for
    Click-Through Rate Prediction", KDD 2020.

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier
    >>> from sklearn_autorec.datasets import make_ctr
    >>> X, y, truth = make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> model = CTRClassifier(network="fm", search=AutoFIS(max_interactions=1), lr=0.01, max_epochs=3, random_state=0)
    >>> model.fit(X, y).interactions_
    [('f0', 'f1')]
    """

    slot = "interaction"
    supports_members = True
    _parameter_constraints = {
        "orders": [tuple, list],
        "threshold": [Interval(Real, 0, None, closed="left")],
        "mu": [Interval(Real, 0.5, 1, closed="both")],
        "arch_lr": [Interval(Real, 0, None, closed="neither")],
        "init_gate": [Real],
        "max_interactions": [None, Interval(Integral, 0, None, closed="left")],
        "retrain": [StrOptions({"scratch", "rewind", "keep"})],
    }

    def __init__(
        self, orders=(2,), threshold=0.8, mu=0.8, arch_lr=1.0, init_gate=0.6, max_interactions=None, retrain="scratch"
    ):
        self.orders = orders
        self.threshold = threshold
        self.mu = mu
        self.arch_lr = arch_lr
        self.init_gate = init_gate
        self.max_interactions = max_interactions
        self.retrain = retrain

    def build(self, context):
        orders = check_orders(self.orders, context)
        return GatedProducts(context, orders, self.init_gate, self.arch_lr, self.threshold, self.mu)

    def derive(self, module, context):
        gate = module.gate.detach().cpu().numpy()
        strength = module.strength().cpu().numpy()
        order = np.argsort(-strength, kind="stable")
        kept = [int(i) for i in order if gate[i] != 0][: self.max_interactions]
        tuples = module.candidates.tuples
        return {
            "interactions": [list(tuples[i]) for i in sorted(kept)],
            "candidates": [list(t) for t in tuples],
            "scores": strength.astype(float).tolist(),
        }

    def check(self, architecture, context):
        check_tuples(architecture, context)

    def realise(self, architecture, context):
        return KeptProducts(architecture["interactions"], context, self.init_gate)


def check_orders(orders, context):
    """Sorted orders of interaction; refuses what is not 2 or 3, and tables with too few fields."""
    orders = sorted(set(orders))
    if not orders or not set(orders) <= {2, 3}:
        raise ValueError(f"orders must hold 2, 3 or both, got {orders!r}.")
    if context.n_fields < orders[-1]:
        raise ValueError(
            f"orders={orders!r} needs at least {orders[-1]} fields, the table has {context.n_fields}: {context.field_names}."
        )
    return orders
