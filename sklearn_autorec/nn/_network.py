"""The frame every network shares: inputs -> embedding -> gate -> the network's own wiring."""

from torch import nn

from ._blocks import linear
from ._context import Inputs
from ._embeddings import FieldEmbedding


class FieldNetwork(nn.Module):
    """Base of all networks. A subclass writes ``logits(e, inputs)``.

    Parameters
    ----------
    context : BuildContext
    parts : dict of str to nn.Module
        Modules that stand in for slots: "embedding" (inputs -> (B, F, d)), "gate" ((B, F, d), inputs ->
        factors (B, F) or (1, F)), and those that the network itself reads ("interaction", "head").
    """

    def __init__(self, context, parts):
        super().__init__()
        self.embedding = parts.get("embedding") or FieldEmbedding(context)
        self.gate = parts.get("gate")

    def forward(self, ids, numeric, sequences):
        """Encoded batch (see `Inputs`) to logits (B, C)."""
        inputs = Inputs(ids, numeric, sequences)
        e = self.embedding(inputs)
        if self.gate is not None:
            # Behind the gate every other table (the first-order term, those of parts) reads its fields gated as well.
            inputs = inputs._replace(gates=self.gate(e, inputs))
            e = e * inputs.gates.unsqueeze(-1)
        return self.logits(e, inputs)

    def logits(self, e, inputs):
        """Gated embeddings (B, F, d) and the batch to logits (B, C)."""
        raise NotImplementedError


class SumPool(nn.Module):
    """Interaction features to logits: their sum for one output, a learned mix for C > 1; (B, K) -> (B, C)."""

    def __init__(self, n_in, context):
        super().__init__()
        self.mix = None if context.n_outputs == 1 else linear(n_in, context.n_outputs, context.generator, bias=False)

    def forward(self, features):
        return features.sum(1, keepdim=True) if self.mix is None else self.mix(features)
