"""AOANet: layers of generalised interactions whose edges are pruned and whose operations are
learned.
"""

from itertools import product
from numbers import Real

import numpy as np
import torch
from scipy.stats import norm
from torch import nn

from ..base import SearchMethod
from ..base._constraints import at_least_one, constraints_of
from ..engine import GRDA
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval, StrOptions
from ._evidence import CHANCE, JUDGED_SHARE, slope_evidence, slopes
from ._generalized import (
    GeneralizedInteraction,
    KeptInteractions,
    initial_edge,
    without_dead_ends,
)
from ._products import ScoredTuples, check_pairs_exist, check_tuples

PRESSURE = 0.0005  # the threshold is PRESSURE lr^(1/2 + mu) T^mu, as for `AutoFIS`


class SearchedInteractions(nn.Module):
    """All edges of all layers; (B, F, d), inputs -> (B, s d).

    Edges that mean the same are one candidate: those between two fields in the first layer, in both
    orders and for all outputs, and those between a field and an output of the layer before.
    """

    def __init__(self, context, n_layers, n_subspaces, arch_lr, threshold, mu):
        super().__init__()
        n_fields, s = context.n_fields, n_subspaces
        self.threshold, self._grda = threshold, {"lr": arch_lr, "mu": mu}
        self.judged_share, self.ends_early = JUDGED_SHARE, threshold == "auto"
        self.layers = nn.ModuleList(GeneralizedInteraction(s, context) for _ in range(n_layers))
        self.edges, self.field_axes, self.candidates = nn.ParameterList(), {}, []
        for layer in range(n_layers):
            n = context.axis("F") if layer == 0 else s
            start = torch.empty(n_fields, s, n)
            start.uniform_(-1e-3, 1e-3, generator=context.generator)
            self.edges.append(initial_edge(layer, n_fields, n) * (1 + start))
            axes = {0: context.axis("F")} | ({2: n} if layer == 0 else {})
            self.field_axes[f"edges.{layer}"] = axes
            self.register_buffer(f"group_{layer}", self._groups(layer, n_fields, n), False)
        self.out_dim = s * context.embedding_dim
        self.faded: torch.Tensor | None = None  # shares by which rows fade candidates in, (B, G)
        self.evidence = torch.zeros(len(self.candidates), dtype=torch.float64)

    def _groups(self, layer, n_fields, n):
        """Number of the candidate of each field and source, (F, n); notes the candidates."""
        numbers = torch.empty(n_fields, n, dtype=torch.int64)
        for i, j in product(range(n_fields), range(n)):
            if layer == 0 and j < i:
                numbers[i, j] = numbers[j, i]
                continue
            numbers[i, j] = len(self.candidates)
            self.candidates.append((layer, i, j))
        return numbers

    def forward(self, e, inputs):
        b = e
        for k, (layer, edges) in enumerate(zip(self.layers, self.edges, strict=True)):
            if self.faded is not None:
                group = getattr(self, f"group_{k}")
                by_row = self.faded.index_select(1, group.flatten()).unflatten(1, group.shape)
                edges = edges * (1 + by_row.unsqueeze(2))
            b = layer(e, b, edges)
        return b.flatten(1)

    def arch_parameters(self):
        return list(self.edges)

    def arch_optimizer(self, n_steps):
        threshold, (lr, mu) = self.threshold, self._grda.values()
        if threshold == "auto":
            threshold = PRESSURE * lr ** (0.5 + mu) * max(n_steps, 1) ** mu
        return GRDA(self.edges, n_steps=n_steps, threshold=threshold, **self._grda)

    def judge(self, network, loss, data):
        """Measure, on rows that nothing was trained on, whether each candidate points towards the
        target; see `slope_evidence`.
        """

        def shares_of(batch):
            rows = (len(batch.y), len(self.candidates))
            self.faded = torch.zeros(rows, device=batch.y.device, requires_grad=True)
            logits = network(**batch.inputs)
            return logits, slopes(logits, self.faded)

        n_cells = max(edges.numel() for edges in self.edges)
        try:
            self.evidence = slope_evidence(network, loss, data, shares_of, n_cells)
        finally:
            self.faded = None

    def proven(self):
        """Which candidates are to be kept if edges of theirs are open, bool (G,): all, or those
        that chance does not explain.
        """
        if self.threshold != "auto":
            return np.ones(len(self.candidates), bool)
        return self.evidence.numpy() > norm.isf(CHANCE / len(self.candidates))

    def summary(self):
        return {"open_edges": sum(int((edges != 0).sum()) for edges in self.edges)}


class AOANet(ScoredTuples, SearchMethod):
    r"""Learn the operation between two fields, and prune which fields meet.

    A layer has outputs, its subspaces. Output k multiplies every field with every output of the
    layer before (in the first layer with every field, itself included) by one learned operation
    :math:`W_k` and brings the result to a vector again:

    .. math:: b^{l+1}_k = \left( W_k \odot \sum_{ij} \alpha^k_{ij}\, e_i (b^l_j)^T \right) h_k,
              \qquad b^0 = e

    FM, FwFM, NFM, OPNN and cross networks are patterns of :math:`W` and :math:`\alpha`: with
    :math:`W` the identity it is the sum of elementwise products. The vectors of the last layer are
    the interaction features of the network.

    The edges :math:`\alpha` are trained on the same batches as the weights (one level), by `GRDA`,
    which sets useless ones to exact zero. What is left of edges that lead nowhere is removed, and
    the network is trained anew with the kept edges only.

    It fits networks with an "interaction" slot: FM, DeepFM, FwFM, IPNN. With `DeepFM` it is the
    network of the paper.

    Parameters
    ----------
    n_layers : int, default=1
        Layers; L of them make products of up to L + 1 fields.
    n_subspaces : int, default=2
        Outputs of a layer, each with an operation of its own.
    threshold : "auto" or float, default="auto"
        Final soft threshold of an edge; larger keeps fewer. "auto" follows the number of steps, and
        keeps of the open edges those that help on a fifth of the training rows by more than chance
        explains. With 0 no edge closes and ``max_interactions`` takes the first of a ranking.
    mu : float in (0.5, 1), default=0.8
        How the threshold grows, (t / T)^mu; larger is later.
    arch_lr : float, default=1.0
        Learning rate of the edges.
    max_interactions : int or None, default=None
        Keep at most so many pairs in the first layer, the strongest.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the final training starts: new, those at the start, or those at the end
        of the search.

    Notes
    -----
    ``interaction_scores_`` are t statistics: how fast the loss falls as the edges of a pair in the
    first layer are faded in, on a fifth of the training rows, on which the search does not train.
    Weights of edges could not be compared: the operations and the lengths of the embeddings count
    as well, and products of noise grow on the rows on which their embeddings are fitted.

    In ``architecture_["interaction"]["layers"]`` each output of each layer has a list of edges
    ``[field, source]``.

    The paper says that edges are pruned and the rest is trained anew; how was not to be had, nor
    code of that part. `GRDA` and the test on unseen rows are those of `AutoFIS`: a pair is kept if
    all its edges together, in both orders and all subspaces, lower the loss of unseen rows
    (one-sided t tests at 1 % for all candidates together, Bonferroni). Edges of later layers
    begin divided by the root of the number of those that an output reads, since their products
    would explode, and operations with a little noise, without which all subspaces would stay the
    same. Products of three small embeddings are next to nothing, so that two layers learn late or
    never with ``embedding_init=0.01``; 0.3 is a better start there.

    References
    ----------
    .. [1] Lang, L. et al. "Architecture and Operation Adaptive Network for Online Recommendations",
       KDD 2021. https://doi.org/10.1145/3447548.3467133

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(4000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.AOANet(max_interactions=1)
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=3, random_state=0)
    >>> model.fit(X, y).interactions_
    [('f0', 'f1')]
    """

    slot = "interaction"
    distributes = True
    _parameter_constraints = {
        **at_least_one("n_layers", "n_subspaces"),
        "threshold": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "mu": [Interval(Real, 0.5, 1, closed="both")],
        **constraints_of("arch_lr", "max_interactions", "retrain"),
    }

    @stores_parameters
    def __init__(
        self,
        n_layers=1,
        n_subspaces=2,
        threshold="auto",
        mu=0.8,
        arch_lr=1.0,
        max_interactions=None,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        check_pairs_exist("AOANet", context)
        return SearchedInteractions(
            context, self.n_layers, self.n_subspaces, self.arch_lr, self.threshold, self.mu
        )

    def derive(self, module, context):
        evidence, proven = module.evidence.tolist(), module.proven()
        kept = {c for c, is_proven in zip(module.candidates, proven, strict=True) if is_proven}
        pairs = {c: v for c, v in zip(module.candidates, evidence, strict=True) if c[0] == 0}
        pairs = {(i, j): v for (_, i, j), v in pairs.items() if i < j}
        strongest = sorted((p for p in pairs if (0, *p) in kept), key=lambda p: -pairs[p])
        if self.max_interactions is not None:
            kept -= {(0, *pair) for pair in strongest[self.max_interactions :]}
        layers = []
        for layer, edges in enumerate(module.edges):
            is_open = (edges.detach() != 0).permute(1, 0, 2).cpu().numpy()  # (s, F, n)
            layers.append(
                [
                    [
                        [i, j]
                        for i, j in np.argwhere(own).tolist()
                        if (layer, *(sorted((i, j)) if layer == 0 else (i, j))) in kept
                    ]
                    for own in is_open
                ]
            )
        return {
            "n_fields": context.n_fields,
            "layers": without_dead_ends(layers),
            "candidates": [list(pair) for pair in pairs],
            "scores": list(pairs.values()),
        }

    def check(self, architecture, context):
        n_fields, layers = architecture.get("n_fields"), architecture.get("layers")
        if type(n_fields) is not int or n_fields != context.n_fields:
            raise ValueError(
                f"n_fields={n_fields!r} of the architecture must be the number of fields, "
                f"{context.n_fields}."
            )
        if not isinstance(layers, list):
            raise ValueError(f"layers must be a list, got {layers!r:.200}.")
        n_sources = n_fields
        for number, outputs in enumerate(layers):
            if not isinstance(outputs, list) or not outputs:
                raise ValueError(
                    f"layer {number} of layers must be a list of outputs, got {outputs!r:.200}."
                )
            for edges in outputs:
                check_edges(edges, number, n_fields, n_sources)
            n_sources = len(outputs)
        check_tuples({**architecture, "interactions": []}, context)

    def realise(self, architecture, context):
        return KeptInteractions(architecture["layers"], context)


def check_edges(edges, layer, n_fields, n_sources):
    """Refuse what is no list of different edges of a layer."""
    if not isinstance(edges, list) or not edges:
        raise ValueError(
            f"an output in layer {layer} of layers must be a list of edges, got {edges!r:.200}."
        )
    for edge in edges:
        is_pair = isinstance(edge, list) and len(edge) == 2 and all(type(v) is int for v in edge)
        if not (is_pair and 0 <= edge[0] < n_fields and 0 <= edge[1] < n_sources):
            raise ValueError(
                f"an edge in layer {layer} of layers must be a field below {n_fields} and a source "
                f"below {n_sources}, got {edge!r:.200}."
            )
    if len({tuple(edge) for edge in edges}) < len(edges):
        raise ValueError(f"an output in layer {layer} of layers has an edge twice: {edges!r:.200}.")
