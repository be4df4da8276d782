"""The frame every network shares: inputs -> embedding -> gate -> the network's own wiring."""

from torch import nn

from ._blocks import linear
from ._context import Inputs
from ._embeddings import FieldEmbedding, FieldRows


class FieldNetwork(nn.Module):
    """Base of all networks. A subclass writes ``logits(e, inputs)``.

    In a context of M members all has M * B rows.

    Parameters
    ----------
    context : BuildContext
    parts : dict of str to nn.Module
        Modules that stand in for slots: "embedding" (inputs -> (B, F, d)), "gate" ((B, F, d),
        inputs -> factors (B, F) or (1, F)), "body" ((B, F, d), inputs -> logits (B, C), in the
        place of ``logits``), and those that the network itself reads ("interaction", "head").
        "selection", an `InputSelection`, brings batches of the whole table down to the
        fields of the context.
    """

    def __init__(self, context, parts):
        super().__init__()
        self.embedding = parts.get("embedding") or FieldEmbedding(context)
        self.gate = parts.get("gate")
        self.body = parts.get("body")
        self.selection = parts.get("selection")

    def forward(self, ids, numeric, sequences):
        """Encoded batch (see `Inputs`) to logits (B, C)."""
        inputs = Inputs(ids, numeric, sequences)
        if self.selection is not None:
            inputs = self.selection(inputs)
        linear = getattr(self, "linear", None)
        if isinstance(linear, FieldRows) and isinstance(self.embedding, FieldRows):
            numbers = self.embedding.embed_with(linear, inputs.numeric)
            if numbers is not None:
                inputs = inputs._replace(
                    numbers=((self.embedding, numbers[0]), (linear, numbers[1]))
                )
        e = self.embedding(inputs)
        if self.gate is not None:
            # Behind the gate every other table (the first-order term, those of parts) reads its
            # fields gated as well.
            inputs = inputs._replace(gates=self.gate(e, inputs))
            e = e * inputs.gates.unsqueeze(-1)
        return self.logits(e, inputs) if self.body is None else self.body(e, inputs)

    def gates(self, ids, numeric, sequences):
        """Factors of the fields, (B, F)."""
        inputs = Inputs(ids, numeric, sequences)
        if self.selection is not None:
            inputs = self.selection(inputs)
        e = self.embedding(inputs)
        return (
            e.new_ones(e.shape[:2])
            if self.gate is None
            else self.gate(e, inputs).expand(e.shape[:2])
        )

    def logits(self, e, inputs):
        """Gated embeddings (B, F, d) and the batch to logits (B, C)."""
        raise NotImplementedError


def check_parts(network, module, parts):
    """Refuse a network that names a slot and leaves out the part that should stand there.

    Raises
    ------
    TypeError
        If a part is nowhere in the module that the network has built.
    """
    there = {id(m) for m in module.modules()}
    for slot, part in parts.items():
        if id(part) not in there:
            raise TypeError(
                f"network={network!r} names the slot {slot!r}, but its module "
                f"{type(module).__name__} does not hold the part that "
                f"is to stand there ({type(part).__name__}): build(context, parts) must use "
                f"parts[{slot!r}], or slots "
                f"{network.slots!r} must not name it."
            )


def head_part(parts, n_in, context):
    """The part that stands in the head slot, told its widths, or None.

    What a head takes depends on the network and on what stands in its other slots, so that the
    network says it as it is built: ``set_widths(n_in, n_out, generator)``, a hook of the part,
    makes the weights. A part that comes again with the same widths keeps those that it has. A part
    without the hook must fit by itself.

    Parameters
    ----------
    parts : dict of str to nn.Module
        Handed to ``build`` of the network.
    n_in : int
        Numbers of a row that the network will give it.
    context : BuildContext
        Its ``n_outputs`` are wanted; initial weights come from its generator.

    Returns
    -------
    nn.Module or None
        (B, n_in) -> (B, C).
    """
    head = parts.get("head")
    widths = (n_in, context.n_outputs)
    if hasattr(head, "set_widths") and getattr(head, "told_widths", None) != widths:
        head.set_widths(*widths, context.generator)
        head.told_widths = widths
    return head


class SumPool(nn.Module):
    """Interaction features to logits: their sum for one output, a learned mix for C > 1; (B, K) ->
    (B, C).
    """

    def __init__(self, n_in, context):
        super().__init__()
        self.mix = (
            None
            if context.n_outputs == 1
            else linear(
                n_in, context.n_outputs, context.generator, bias=False, members=context.members
            )
        )

    def forward(self, features):
        return features.sum(1, keepdim=True) if self.mix is None else self.mix(features)
