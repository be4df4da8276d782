"""AutoFIS: automatic feature interaction selection."""

from numbers import Real

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..engine import GRDA
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import CHANCE, JUDGED_SHARE, fading_evidence
from ._products import CandidateProducts, KeptProducts, ScoredTuples, check_tuples

PRESSURE = 0.0005  # c of the published code, whose threshold is c lr^(1/2 + mu) T^mu


class GatedProducts(nn.Module):
    """Candidate products, each times a real gate that the search drives to exact zero or away from
    it.
    """

    def __init__(self, context, orders, init_gate, arch_lr, threshold, mu):
        super().__init__()
        self.candidates = CandidateProducts(orders, context)
        noise = torch.empty(self.candidates.out_dim).uniform_(
            -1e-3, 1e-3, generator=context.generator
        )
        self.gate = nn.Parameter(init_gate + noise)
        self.out_dim = self.candidates.out_dim
        self.field_axes = {"gate": {0: self.out_dim}}
        self.threshold, self._grda = threshold, {"lr": arch_lr, "mu": mu}
        self.judged_share = JUDGED_SHARE if threshold == "auto" else 0.0
        # The threshold of "auto" is one of the steps done, whatever the number planned.
        self.ends_early = threshold == "auto"
        # How fast the loss of unseen rows falls as a product is faded in, in standard errors; (P,),
        # 0 where unknown.
        self.evidence = torch.zeros(self.out_dim, dtype=torch.float64)

    def forward(self, e, inputs):
        return self.candidates(e, inputs, self.gate)

    def arch_parameters(self):
        return [self.gate]

    def arch_optimizer(self, n_steps):
        threshold, (lr, mu) = self.threshold, self._grda.values()
        if threshold == "auto":
            threshold = PRESSURE * lr ** (0.5 + mu) * max(n_steps, 1) ** mu
        self.optimizer = GRDA([self.gate], n_steps=n_steps, threshold=threshold, **self._grda)
        return self.optimizer

    def judge(self, network, loss, data):
        """Measure, on rows that nothing was trained on, whether each product points towards the
        target; see `fading_evidence`.
        """
        self.evidence = fading_evidence(self, network, loss, data)

    def proven(self):
        """Which products are to be kept if their gates are open, bool (P,): all, or those that
        chance does not explain.
        """
        if self.threshold != "auto":
            return np.ones(self.out_dim, bool)
        return self.evidence.numpy() > norm.isf(CHANCE / self.out_dim)

    def strength(self):
        """|v|, the gates before shrinkage, (P,): ranks the closed ones too, and exceeds the
        threshold for the open.
        """
        state = self.optimizer.state.get(self.gate)
        return (state["v"] if state else self.gate).detach().abs()

    def summary(self):
        return {"open_gates": int((self.gate != 0).sum())}


class AutoFIS(ScoredTuples, SearchMethod):
    r"""Keep the feature interactions whose gates survive regularised dual averaging.

    During the search every product of embeddings is batch-normalised and multiplied by a gate
    :math:`\alpha`; the gates are trained on the same batches as the weights (one level), by `GRDA`,
    which sets the useless ones to exact zero. The network is then trained anew with the kept
    products only, their weights starting at ``init_gate``:

    .. math:: \sum_{i<j} \alpha_{ij}\, \mathrm{BN}(\langle e_i, e_j \rangle)
              \;[+ \sum_{i<j<k} \alpha_{ijk}\,
              \mathrm{BN}({\textstyle\sum_f e'_{if} e'_{jf} e'_{kf}})]

    It fits networks with an "interaction" slot: FM, DeepFM, IPNN.

    Parameters
    ----------
    orders : tuple of int, default=(2,)
        Orders of the candidates: 2, 3 or both. Triples use an embedding table of their own.
    threshold : "auto" or float, default="auto"
        Final soft threshold of a gate; larger keeps fewer. "auto" follows the number of steps, as
        in the published code, and keeps of the open gates those whose products help on a fifth of
        the training rows, on which the search does not train, by more than chance explains. With 0
        no gate closes and ``max_interactions`` takes the first of a ranking.
    mu : float in (0.5, 1), default=0.8
        How the threshold grows, (t / T)^mu; larger is later.
    arch_lr : float, default=1.0
        Learning rate of the gates.
    init_gate : float, default=0.6
        Initial gates in the search, and initial weights of the kept products.
    max_interactions : int or None, default=None
        Keep at most so many, the strongest.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts: new, those at the start, or those at the end
        of the search.

    Notes
    -----
    ``interaction_scores_`` are the gates before shrinkage, so that closed ones are ranked as well.

    "auto" has the pressure per step of the published code: after T steps the threshold is 0.0005
    ``arch_lr`` :sup:`1/2 + mu` T\ :sup:`mu`. On small data that closes few gates, since gates start
    at ``init_gate`` and products of noise are of use on the rows on which their embeddings were
    fitted. What remains is therefore tested on unseen rows: a product is taken out, and the loss
    must fall as it is faded in again, in the mean of the rows by more than chance explains, both
    beside the rest of the network and beside a constant prediction (one-sided t tests of the
    slopes, at 1 % for all candidates together, Bonferroni). On labels of noise nothing is kept,
    whatever the rows and steps; the more rows, the weaker the interactions that are found.

    A number for ``threshold`` is a function of the share of steps done and tests nothing. It
    depends on the network: 0.8 is right for an FM on tens of thousands of rows, and closes all
    gates of a DeepFM in a short search, whose perceptron leaves the gates little to gain; on labels
    of noise an FM keeps a third of its pairs. The first-order term of the third-order table is left
    out, since the network has one already. All gates train to the end; the original code stops on
    the test set.

    References
    ----------
    .. [1] Liu, B. et al. "AutoFIS: Automatic Feature Interaction Selection in Factorization Models
       for Click-Through Rate Prediction", KDD 2020. https://arxiv.org/abs/2003.11235

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.AutoFIS(max_interactions=1)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> model.fit(X, y).interactions_
    [('f0', 'f1')]
    """

    slot = "interaction"
    distributes = True
    supports_members = True
    _parameter_constraints = {
        "orders": [tuple, list],
        "threshold": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "mu": [Interval(Real, 0.5, 1, closed="both")],
        **constraints_of("arch_lr", "max_interactions", "retrain"),
        "init_gate": [Real],
    }

    @stores_parameters
    def __init__(
        self,
        orders=(2,),
        threshold="auto",
        mu=0.8,
        arch_lr=1.0,
        init_gate=0.6,
        max_interactions=None,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        orders = check_orders(self.orders, context)
        return GatedProducts(context, orders, self.init_gate, self.arch_lr, self.threshold, self.mu)

    def derive(self, module, context):
        gate = module.gate.detach().cpu().numpy()
        strength = module.strength().cpu().numpy()
        order = np.argsort(-strength, kind="stable")
        proven = module.proven()
        kept = [int(i) for i in order if gate[i] != 0 and proven[i]][: self.max_interactions]
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
            f"orders={orders!r} needs at least {orders[-1]} fields, the table has "
            f"{context.n_fields}: {context.field_names}."
        )
    return orders
