"""AutoPI: everything behind the embeddings as two cells of operations, searched by gradients."""

from numbers import Integral

import torch
from torch import nn

from ..base import SearchMethod
from ..base._constraints import constraints_of
from ..engine import ArchSchedule
from ..nn import (
    OperationMixture,
    add_bias,
    annealed,
    check_temperatures,
    linear,
    output_bias,
)
from ..utils._parameters import stores_parameters
from ..utils._sklearn import Interval
from ._field_operations import OPERATIONS, Cell, FieldNorm, operation
from ._products import check_pairs_exist

CONFIDENCE_RATE = 5  # of the factor of all logits, times that of the mixtures
CELLS = ("interaction_cell", "ensemble_cell")


class Softmax(nn.Module):
    """Softmax of a temperature that falls during the search; logits (N,) -> weights (N,)."""

    def __init__(self, temperatures, warmup):
        super().__init__()
        self.temperatures, self.warmup = temperatures, warmup
        self.temperature = temperatures[0]

    def set_progress(self, t):
        self.temperature = annealed(
            *self.temperatures, t, warmup=self.warmup, schedule="exponential"
        )

    def forward(self, logits):
        return torch.softmax(logits / self.temperature, 0)


class CellBody(nn.Module):
    """A batch norm, two cells and a linear output; (B, F, d), inputs -> logits (B, C).

    New embeddings are so small that their products would be nothing beside them; all operations
    therefore begin with what the batch norm makes of them.

    The interaction cell sees the embeddings, its output is the mean of its nodes. The ensemble cell
    sees the embeddings and that output; its nodes go side by side into the linear layer.

    Parameters
    ----------
    interaction : Cell or None
        None where the ensemble cell does not read its output.
    ensemble : Cell
    context : BuildContext
    """

    def __init__(self, interaction, ensemble, context):
        super().__init__()
        self.interaction_cell, self.ensemble_cell = interaction, ensemble
        self.norm = FieldNorm(context)
        n_in = len(ensemble.nodes) * context.n_fields * context.embedding_dim
        self.out = linear(n_in, context.n_outputs, context.generator, bias=False)
        self.bias = output_bias(context)

    normalises_fields = True

    def cell_weights(self, cell):
        """Weights of the edges of a cell, by node; None is a plain sum."""
        return None

    def tempered(self, logits):
        """Logits before the bias."""
        return logits

    def forward(self, e, inputs):
        states = [self.norm(e), None]
        if self.interaction_cell is not None:
            nodes = self.interaction_cell(states[:1], self.cell_weights("interaction_cell"))
            states[1] = sum(nodes[1:], nodes[0]) / len(nodes)
        nodes = self.ensemble_cell(states, self.cell_weights("ensemble_cell"))
        logits = self.out(torch.cat([node.flatten(1) for node in nodes], 1))
        return add_bias(self.tempered(logits), self.bias)


class SearchedBody(CellBody):
    """The body with all operations on all edges, mixed by weights, and all edges by weights."""

    def __init__(self, context, n_nodes, operations, rank, arch_lr, schedule, temperatures):
        softmax = Softmax(temperatures, schedule.warmup)

        def cell(n_given, n):
            return Cell(
                [
                    [
                        (
                            source,
                            OperationMixture(
                                (operation(name, context, rank) for name in operations),
                                context.generator,
                                relaxation=softmax,
                            ),
                        )
                        for source in range(n_given + k)
                    ]
                    for k in range(n)
                ],
                context,
            )

        super().__init__(cell(1, n_nodes[0]), cell(2, n_nodes[1]), context)
        # Weights that have learned their rows by heart are too sure on others. Without a factor of
        # its own for that the mixtures would leave what has learned most, to be less sure.
        self.confidence = nn.Parameter(torch.zeros(1))
        self.softmax, self.arch_lr, self.arch_schedule = softmax, arch_lr, schedule
        self.edge_logits = nn.ModuleDict(
            {
                name: nn.ParameterList(
                    1e-3 * torch.randn(len(sources), generator=context.generator)
                    for sources in getattr(self, name).sources
                )
                for name in CELLS
            }
        )

    def cell_weights(self, cell):
        return [self.softmax(logits) for logits in self.edge_logits[cell]]

    def tempered(self, logits):
        return logits * self.confidence.exp()

    def mixture_parameters(self):
        mixtures = [m.logits for m in self.modules() if isinstance(m, OperationMixture)]
        return [*mixtures, *self.edge_logits.parameters()]

    def arch_parameters(self):
        return [*self.mixture_parameters(), self.confidence]

    def arch_optimizer(self, n_steps):
        groups = [
            {"params": self.mixture_parameters(), "lr": self.arch_lr},
            {"params": [self.confidence], "lr": CONFIDENCE_RATE * self.arch_lr},
        ]
        return torch.optim.Adam(groups, betas=(0.5, 0.999))

    @torch.no_grad()
    def mixture(self, cell):
        """Weights of every edge of a cell: lists, by node, of (source, weight of the edge, weights
        of its operations).
        """
        made, edge_weights = getattr(self, cell), self.cell_weights(cell)
        return [
            [
                (source, float(weight), edge.weights().tolist())
                for source, edge, weight in zip(sources, edges, weights, strict=True)
            ]
            for sources, edges, weights in zip(made.sources, made.nodes, edge_weights, strict=True)
        ]

    def summary(self):
        """The mean of the largest weights of operations, 1 where every edge has decided, and the
        factor of the logits.
        """
        largest = [max(w) for name in CELLS for node in self.mixture(name) for _, _, w in node]
        return {
            "operation_weight": sum(largest) / len(largest),
            "confidence": float(self.confidence.detach().exp()),
        }


class AutoPI(SearchMethod):
    r"""Put the network behind the embeddings together from operations on all fields, by gradients.

    Every operation takes and gives vectors of all fields, (B, F, d), and has a batch norm without
    scale and shift behind it:

    - "skip": the vectors themselves;
    - "senet": fields times weights that depend on all fields;
    - "attention": self-attention over fields with a residual, as in `AutoInt`;
    - "fm": inner products of all pairs, by a linear layer in the shape of the vectors;
    - "fc": a fully connected layer of all numbers, of low ``rank``;
    - "conv": a convolution over neighbouring fields.

    They stand on the edges of two cells. A node is the sum of its edges, normalised again. The
    interaction cell
    begins with the embeddings, its output is the mean of its nodes; the ensemble cell begins with
    the embeddings and that output, its nodes go into a linear layer. In the search every edge has
    all operations and every node all edges, each in a mixture:

    .. math:: x_j = \sum_{i<j} \mathrm{softmax}_i(\beta_{ij})
              \sum_o \mathrm{softmax}_o(\alpha_{ijo})\, o(x_i)

    :math:`\alpha` and :math:`\beta` are trained on rows of their own, the weights on the others
    (bi-level, first order), together with a factor of all logits, which says how sure weights may
    be on rows that they have not seen. An edge then has the operation of the largest
    :math:`\alpha`, a node keeps the ``n_edges`` whose :math:`\beta` times that weight are largest,
    and the network is trained anew.

    It fits networks with a "body" slot: all but `LR`. What they have behind the embeddings is
    replaced.

    Parameters
    ----------
    operations : tuple of str, default=("skip", "senet", "attention", "fm", "fc", "conv")
        Those that an edge may have.
    n_nodes : (int, int), default=(3, 2)
        Nodes of the interaction cell and of the ensemble cell.
    n_edges : int, default=2
        Edges that a node keeps, at most.
    rank : int or None, default=16
        Of the fully connected layers; None is full.
    arch_lr : float, default=0.01
        Learning rate of the mixtures.
    warmup : float in [0, 1), default=0.4
        Share of the search in which only the weights are trained: operations without weights of
        their own are good from the start, the others have to learn first.
    temperature : (float, float), default=(1.0, 0.2)
        First and last temperature of the softmaxes; a low one leaves little to lose when the
        mixtures become choices.
    search_fraction : float in (0, 1), default=0.2
        Share of the training rows on which the mixtures are trained.
    retrain : {"scratch", "rewind", "keep"}, default="scratch"
        Weights with which the rest of the network, the embeddings, starts the final training: new,
        those at the start, or those at the end of the search. The cells start anew.

    Notes
    -----
    ``architecture_["body"]`` has for each cell a list of nodes, each a list of
    ``[source, operation]``. Source 0 are the embeddings, 1 in the ensemble cell is the output of
    the other; nodes follow. It belongs to a table of ``n_fields`` fields. ``mixtures`` has the
    weights that led to it. If the ensemble cell reads nothing of the interaction cell, that is not
    built.

    There is no public code, and the paper's sizes and defaults were not at hand; numbers of nodes,
    temperatures, rates, the norms of input and nodes, and the factor of the logits are ours.
    Without that factor, mixtures turned away from the operations that had learned most, which are
    too sure on the rows of the mixtures: products of pairs were missed in a third to a half of the
    tables on which nothing else counts, with it in none of eight.

    References
    ----------
    .. [1] Meng, Z. et al. "A General Method For Automatic Discovery of Powerful Interactions In
       Click-Through Rate Prediction", SIGIR 2021. https://arxiv.org/abs/2105.10484

    Examples
    --------
    >>> from sklearn_autorec import CTRClassifier, datasets, interaction
    >>> X, y, truth = datasets.make_ctr(1000, n_fields=4, pairs=[(0, 1)], random_state=0)
    >>> search = interaction.AutoPI(operations=("skip", "fm"), n_nodes=(1, 1))
    >>> model = CTRClassifier(network="fm", search=search, lr=0.01, max_epochs=2, random_state=0)
    >>> sorted(model.fit(X, y).architecture_["body"])[:2]
    ['ensemble_cell', 'interaction_cell']
    """

    slot = "body"
    distributes = True
    _parameter_constraints = {
        "operations": [tuple, list],
        "n_nodes": [tuple, list],
        "n_edges": [Interval(Integral, 1, None, closed="left")],
        "rank": [None, Interval(Integral, 1, None, closed="left")],
        **constraints_of("arch_lr", "warmup", "temperature", "search_fraction", "retrain"),
    }

    @stores_parameters
    def __init__(
        self,
        operations=OPERATIONS,
        n_nodes=(3, 2),
        n_edges=2,
        rank=16,
        arch_lr=0.01,
        warmup=0.4,
        temperature=(1.0, 0.2),
        search_fraction=0.2,
        retrain="scratch",
    ):
        """Store the parameters."""

    def build(self, context):
        names = list(self.operations)
        if not names or len(set(names)) < len(names) or not set(names) <= set(OPERATIONS):
            raise ValueError(
                f"operations must be different names out of {OPERATIONS}, got {self.operations!r}."
            )
        n_nodes = self.n_nodes
        if len(n_nodes) != 2 or not all(isinstance(n, Integral) and n >= 1 for n in n_nodes):
            raise ValueError(f"n_nodes must be two ints of at least 1, got {n_nodes!r}.")
        schedule = ArchSchedule(
            "first_order", fraction=self.search_fraction, warmup=float(self.warmup)
        )
        check_pairs_exist("AutoPI", context)
        return SearchedBody(
            context,
            n_nodes,
            names,
            self.rank,
            self.arch_lr,
            schedule,
            check_temperatures(self.temperature),
        )

    def derive(self, module, context):
        names, mixtures = list(self.operations), {cell: module.mixture(cell) for cell in CELLS}
        architecture: dict = {"n_fields": context.n_fields}
        for cell, nodes in mixtures.items():
            architecture[cell] = []
            for edges in nodes:
                strongest = sorted(edges, key=lambda edge: -edge[1] * max(edge[2]))[: self.n_edges]
                architecture[cell].append(
                    [[source, names[w.index(max(w))]] for source, _, w in sorted(strongest)]
                )
        architecture["mixtures"] = {
            cell: [[[source, edge, own] for source, edge, own in node] for node in nodes]
            for cell, nodes in mixtures.items()
        }
        return architecture

    def check(self, architecture, context):
        check_pairs_exist("AutoPI", context)
        n_fields = architecture.get("n_fields")
        if type(n_fields) is not int or n_fields != context.n_fields:
            raise ValueError(
                f"n_fields={n_fields!r} of the architecture must be the number of fields, "
                f"{context.n_fields}."
            )
        for cell, n_given in zip(CELLS, (1, 2), strict=True):
            nodes = architecture.get(cell)
            if not isinstance(nodes, list) or not nodes:
                raise ValueError(f"{cell} must be a list of nodes, got {nodes!r:.200}.")
            for k, edges in enumerate(nodes):
                if not isinstance(edges, list) or not edges:
                    raise ValueError(f"a node of {cell} must be a list of edges, got {edges!r}.")
                for edge in edges:
                    if (
                        not isinstance(edge, list)
                        or len(edge) != 2
                        or type(edge[0]) is not int
                        or not 0 <= edge[0] < n_given + k
                        or edge[1] not in OPERATIONS
                    ):
                        raise ValueError(
                            f"an edge of node {k} of {cell} must be [source, operation] with a "
                            f"source below {n_given + k} and an operation out of {OPERATIONS}, "
                            f"got {edge!r:.200}."
                        )

    def realise(self, architecture, context):
        def cell(name):
            return Cell(
                [
                    [(source, operation(kind, context, self.rank)) for source, kind in edges]
                    for edges in architecture[name]
                ],
                context,
            )

        read = any(source == 1 for edges in architecture["ensemble_cell"] for source, _ in edges)
        interaction = cell("interaction_cell") if read else None
        return CellBody(interaction, cell("ensemble_cell"), context)

    def graph(self, architecture, context):
        nodes, edges = [("embeddings", "embeddings", "input")], []

        def cell(title, sources, chosen):
            """Adds the nodes of a cell; their names."""
            sources, n_given = list(sources), len(sources)
            for k, own in enumerate(chosen, 1):
                name = f"{title} {k}"
                nodes.append((name, "+", "sum"))
                for source, kind in own:
                    start = sources[source]
                    if kind != "skip":
                        start = f"{kind} from {start} to {name}"
                        nodes.append((start, kind, "operation"))
                        edges.append((sources[source], start))
                    edges.append((start, name))
                sources.append(name)
            return sources[n_given:]

        outer, given = architecture["ensemble_cell"], ["embeddings", "interaction cell"]
        if any(source == 1 for own in outer for source, _ in own):
            inner = cell("interaction node", given[:1], architecture["interaction_cell"])
            nodes.append((given[1], "mean", "sum"))
            edges += [(name, given[1]) for name in inner]
        edges += [(name, "output") for name in cell("ensemble node", given, outer)]
        return [*nodes, ("output", "logits", "output")], edges
