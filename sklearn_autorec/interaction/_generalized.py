"""Layers of weighted outer products of fields, through learned operations."""

import torch
from torch import nn

SYMMETRY_NOISE = 0.01  # on the operations: equal ones would stay equal


class GeneralizedInteraction(nn.Module):
    r"""Weighted outer products through one operation an output; (B, F, d), (B, n, d) ->
    (B, s, d).

    With fields e, outputs b of the layer before and edges alpha, output k is

    .. math:: \Big( W_k \odot \sum_{ij} \alpha_{ikj}\, e_i b_j^T \Big) h_k

    The operation maps sources before edges sum them up, so that no outer product is made.

    Parameters
    ----------
    n_outputs : int
    context : BuildContext
    """

    def __init__(self, n_outputs, context):
        super().__init__()
        d = context.embedding_dim
        noise = torch.empty(n_outputs, d, d).normal_(0, SYMMETRY_NOISE, generator=context.generator)
        self.operation = nn.Parameter(torch.eye(d) + noise)  # W
        self.fusion = nn.Parameter(torch.ones(n_outputs, d))  # h

    def forward(self, e, b, edges):
        """``edges`` are of shape (F, s, n), or (B, F, s, n) where rows have their own."""
        operation = self.operation * self.fusion.unsqueeze(1)  # (s, d, d)
        n_outputs, d, _ = operation.shape
        # The operation is linear: it is taken of every source, not of d^2 sums of products.
        mapped = (b @ operation.flatten(0, 1).T).unflatten(2, (n_outputs, d))  # (B, n, s, d)
        by_row = "b" * (edges.ndim == 4)
        reached = torch.einsum(f"{by_row}ikj,bip->bjkp", edges, e)
        return (reached * mapped).sum(1)


def initial_edge(layer, n_fields, n_sources):
    """1 in the first layer; in others the outputs keep the scale of what they read."""
    return 1.0 if layer == 0 else (n_fields * n_sources) ** -0.5


class KeptInteractions(nn.Module):
    """Chosen edges of all layers; (B, F, d), inputs -> (B, s d).

    Parameters
    ----------
    layers : list of list of list of (int, int)
        For each layer and output the edges, a field and a source: a field in the first layer, an
        output of the layer before in others.
    context : BuildContext
    """

    def __init__(self, layers, context):
        super().__init__()
        self.wiring = layers
        fields = {i for outputs in layers for edges in outputs for i, _ in edges}
        fields |= {j for edges in (layers or [[]])[0] for _, j in edges}
        kept = sorted(fields)
        place = {field: k for k, field in enumerate(kept)}
        whole = len(kept) == context.n_fields
        self.register_buffer("fields", None if whole else torch.tensor(kept), persistent=False)
        self.layers, self.edges = nn.ModuleList(), nn.ParameterList()
        n = len(kept)
        for layer, outputs in enumerate(layers):
            # What is no edge reads the zero behind the weights of those that are.
            n_edges, number = sum(map(len, outputs)), 0
            index = torch.full((len(kept), len(outputs), n), n_edges)
            for k, edges in enumerate(outputs):
                for i, j in edges:
                    index[place[i], k, place[j] if layer == 0 else j] = number
                    number += 1
            self.register_buffer(f"index_{layer}", index, persistent=False)
            self.edges.append(torch.full((n_edges,), initial_edge(layer, len(kept), n)))
            self.layers.append(GeneralizedInteraction(len(outputs), context))
            n = len(outputs)
        self.out_dim = n * context.embedding_dim if layers else 0

    def interactions(self):
        """What the last layer multiplies, without weights: an operation is no one number."""
        reached = [frozenset([i]) for i in range(1 + max(self._all_fields(), default=-1))]
        for outputs in self.wiring:
            told: list = [set() for _ in outputs]
            for own, edges in zip(told, outputs, strict=True):
                for i, j in edges:
                    sources = [reached[j]] if isinstance(reached[j], frozenset) else reached[j]
                    own |= {source | {i} for source in sources}
            reached = told
        found = {tuple(sorted(t)) for own in (reached if self.wiring else []) for t in own}
        return [(t, None) for t in sorted(found, key=lambda t: (len(t), t)) if len(t) > 1]

    def _all_fields(self):
        return [f for outputs in self.wiring for edges in outputs for edge in edges for f in edge]

    def forward(self, e, inputs):
        if not self.out_dim:
            return e.new_zeros(e.shape[0], 0)
        if self.fields is not None:
            e = e.index_select(1, self.fields)
        b = e
        for k, (layer, weight) in enumerate(zip(self.layers, self.edges, strict=True)):
            index = getattr(self, f"index_{k}")
            edges = nn.functional.pad(weight, (0, 1)).index_select(0, index.flatten())
            b = layer(e, b, edges.view(index.shape))
        return b.flatten(1)


def without_dead_ends(layers):
    """Layers without edges from outputs that have none, and without outputs that nothing reads.

    Parameters
    ----------
    layers : list of list of list of (int, int)
        Of each layer and output the edges.

    Returns
    -------
    list of the same kind
        [] if nothing reaches the last layer.
    """
    layers, alive = [list(outputs) for outputs in layers], None
    for number, outputs in enumerate(layers):
        if alive is not None:
            outputs = [[edge for edge in edges if edge[1] in alive] for edges in outputs]
        layers[number], alive = outputs, {k for k, edges in enumerate(outputs) if edges}
    read = alive or set()
    for number in reversed(range(len(layers))):
        renumbered = {k: new for new, k in enumerate(sorted(read))}
        read = {j for k in renumbered for _, j in layers[number][k]}
        layers[number] = [layers[number][k] for k in renumbered]
        if number + 1 < len(layers):
            layers[number + 1] = [
                [[i, renumbered[j]] for i, j in edges] for edges in layers[number + 1]
            ]
    return layers if layers[0] else []
